package ipam

import (
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// explain says of each Service that lacks an address what stands in the way at the end of the plan, and makes the outcomes.
func (p *Planner) explain() {
	changed := p.changedNotes()
	cache := make(map[walkKey]refusal)
	served := false
	for _, c := range p.concerned(changed) {
		if p.woken(c) || p.concerns(c, changed) {
			p.conclude(c, cache)
			served = served || !c.lacks()
		}
	}
	if served {
		p.pending = slices.DeleteFunc(p.pending, func(c *claim) bool { return !c.lacks() })
	}
	var lacking []*claim
	for _, c := range p.change.dirty {
		p.conclude(c, cache)
		if c.lacks() {
			lacking = append(lacking, c)
		}
	}
	slices.SortFunc(lacking, ranked)
	p.pending = merge(p.pending, lacking)
	p.tidy()
}

// changedNotes reports for which families some pool says something else of itself than before the plan.
func (p *Planner) changedNotes() [2]bool {
	out := p.change.counted
	for in, was := range p.change.notes {
		for i := range in.spaces {
			out[i] = out[i] || was[i] != in.spaces[i].note(in)
		}
	}
	return out
}

// concerns reports whether the explanation of a claim that waits may have changed.
func (p *Planner) concerns(c *claim, changed [2]bool) bool {
	for _, f := range c.families() {
		if !c.missing(f) {
			return true // it was just given something
		}
		if a, ok := c.requested(f); ok {
			if s := p.slots[a]; s != nil && s.touched || p.change.counted[familyIndex(f)] {
				return true
			}
			continue
		}
		if changed[familyIndex(f)] {
			return true
		}
	}
	return false
}

// conclude makes the outcome of a claim.
func (p *Planner) conclude(c *claim, cache map[walkKey]refusal) {
	c.refused = [2]refusal{}
	switch {
	case c.frozen() || c.invalid.reason != "":
	case c.hopeless.reason != "":
		c.refused[1-familyIndex(c.families()[0])] = c.hopeless
	default:
		for _, f := range c.families() {
			if c.missing(f) {
				c.refused[familyIndex(f)] = p.explanation(c, f, cache)
			}
		}
	}
	o := c.result()
	if c.outcome == nil || !c.outcome.equal(o) {
		p.publish(c, o)
	}
	if c.outcome.Changed {
		p.due = insert(p.due, c)
	} else {
		p.due = remove(p.due, c)
	}
}

// explanation says why an address of the family is missing; the zero value when it is only because another family is.
func (p *Planner) explanation(c *claim, f config.Family, cache map[walkKey]refusal) refusal {
	if a, ok := c.requested(f); ok {
		return p.refuse(c, a)
	}
	if _, ok := p.own(c, f); ok {
		return refusal{}
	}
	key, common := p.walk(c, f)
	if r, ok := cache[key]; ok && common {
		return r
	}
	if _, ok := p.chooseFrom(c, f); ok {
		return refusal{}
	}
	r := p.lacking(c, f)
	if common {
		cache[key] = r
	}
	return r
}

// merge puts two lists in order of rank together.
func merge(a, b []*claim) []*claim {
	if len(b) == 0 {
		return a
	}
	if len(b) < 8 {
		for _, c := range b {
			a = insert(a, c)
		}
		return a
	}
	out := make([]*claim, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if ranked(a[0], b[0]) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// tidy drops slots that nobody has anything to do with any more.
func (p *Planner) tidy() {
	for _, s := range p.change.touched {
		s.touched = false
		if len(s.holders) == 0 && len(s.leavers) == 0 && s.booking == nil && !s.others() {
			delete(p.slots, s.addr)
		}
	}
}

// result turns the claim into an outcome.
func (c *claim) result() *Outcome {
	o := &Outcome{Service: c.svc}
	if c.frozen() {
		o.Keep, o.Addresses, o.Allocated = true, c.svc.Ingress, c.svc.Allocated
		o.Pools = make([]string, len(o.Addresses))
		return o
	}
	for _, a := range c.svc.Ingress {
		if i := slices.IndexFunc(c.why, func(r Release) bool { return r.Addr == a }); i >= 0 {
			o.Released = append(o.Released, c.why[i])
		}
	}
	for _, f := range c.families() {
		if h := c.have[familyIndex(f)]; h.addr.IsValid() {
			o.Addresses = append(o.Addresses, h.addr)
			o.Pools = append(o.Pools, poolName(h.pool))
		}
	}
	o.Allocated = c.condition(o)
	if c.foreign(o) {
		o.Keep = true
		o.Allocated = config.Condition{Status: "False", Reason: NoPool, Message: foreignMessage(c.svc, o.Allocated.Message)}
		o.Released = nil
	}
	o.Changed = o.Allocated.Status != c.svc.Allocated.Status || o.Allocated.Reason != c.svc.Allocated.Reason ||
		o.Allocated.Message != c.svc.Allocated.Message ||
		!o.Keep && (c.svc.ForeignStatus || !slices.Equal(o.Addresses, c.svc.Ingress))
	return o
}

func poolName(p *pool) string {
	if p == nil {
		return ""
	}
	return p.Name
}

// condition says whether the Service has what it asks for.
func (c *claim) condition(o *Outcome) config.Condition {
	why := c.refusal()
	if why.reason != "" && (len(o.Addresses) == 0 || c.allOrNothing()) {
		if why.reason == NoPool && len(o.Addresses) > 0 {
			why.reason = FamilyUnavailable // one family is held: NoPool beside an address marks one that is not ours, see foreign
		}
		message := why.message
		if len(o.Addresses) > 0 {
			message = kept(o) + "; " + message
		}
		return config.Condition{Status: "False", Reason: why.reason, Message: message}
	}
	message := kept(o)
	if why.reason != "" {
		message += "; " + why.message
	}
	return config.Condition{Status: "True", Reason: "Allocated", Message: message}
}

// refusal puts together why families are missing.
func (c *claim) refusal() refusal {
	if c.invalid.reason != "" {
		return c.invalid
	}
	one := len(c.families()) == 1 && c.hopeless.reason == ""
	var out refusal
	for _, f := range []config.Family{config.IPv4, config.IPv6} {
		why := c.refused[familyIndex(f)]
		if why.reason == "" {
			continue
		}
		if one {
			return why
		}
		if out.reason == "" {
			out.reason = why.reason
		} else {
			out.message += "; "
		}
		out.message += "no " + f.String() + " address: " + why.message
	}
	return out
}

// kept lists the addresses with their pools.
func kept(o *Outcome) string {
	var b strings.Builder
	for i, a := range o.Addresses {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
		if o.Pools[i] == "" {
			b.WriteString(" (kept: its pool is left out for the time being)")
			continue
		}
		b.WriteString(" from pool ")
		b.WriteString(o.Pools[i])
	}
	return b.String()
}

// foreign reports whether the status holds something that Herald never gave, of no pool, and has nothing to replace with. Such a thing
// is not Herald's to take away: another implementation may still serve it. The mark that survives a restart is NoPool beside an address.
func (c *claim) foreign(o *Outcome) bool {
	return len(o.Addresses) == 0 && !c.ours && (len(c.svc.Ingress) > 0 || c.svc.ForeignStatus) &&
		(c.svc.Allocated.Status == "" || c.svc.Allocated.Status == "False" && c.svc.Allocated.Reason == NoPool)
}
