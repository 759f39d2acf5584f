package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// adopt takes in what the Services hold already, and notes what they must give up.
func (p *Planner) adopt() {
	for _, last := range []bool{false, true} {
		for _, c := range p.change.dirty {
			for _, a := range c.svc.Ingress {
				if c.demoted(a) == last {
					p.adoptOne(c, a)
				}
			}
		}
	}
}

// adoptOne takes in that the status of a Service shows an address.
func (p *Planner) adoptOne(c *claim, a netip.Addr) {
	f := familyIndex(config.FamilyOf(a))
	c.ours = c.ours || p.poolOf(a) != nil
	if c.have[f].addr == a || slices.Contains(c.left, a) {
		return // shown twice
	}
	if c.frozen() { // whether or not it may have it does not matter now, but nobody else may
		if c.have[f].addr.IsValid() || p.slots[a].holder(c) != nil {
			p.leave(c, a)
		} else {
			p.hold(c, a)
		}
		return
	}
	if r := p.objection(c, a); r.Why != "" {
		r.Addr = a
		c.why = append(c.why, r)
		p.leave(c, a)
		return
	}
	p.hold(c, a)
}

// objection says why a Service may not keep an address it holds; the zero value when it may.
func (p *Planner) objection(c *claim, a netip.Addr) Release {
	f := config.FamilyOf(a)
	switch {
	case c.invalid.reason != "":
		return Release{Why: c.invalid.message, Asked: true}
	case !slices.Contains(c.families(), f):
		return Release{Why: "the Service does not ask for an " + f.String() + " address", Asked: true}
	case !c.missing(f):
		return Release{Why: "a Service holds one " + f.String() + " address"}
	}
	if want, ok := c.requested(f); ok && want != a {
		return Release{Why: "the Service asks for " + want.String(), Asked: true}
	}
	if r := p.notFrom(c, a); r.Why != "" {
		return r
	}
	if x := p.slots[a].holder(c); x != nil {
		return Release{Why: "it is held by Service " + x.other.svc.Key.String() + x.before(c)}
	}
	return Release{}
}

// before says why the other holder of an address stays.
func (x *clash) before(c *claim) string {
	switch {
	case senior(c, x.other) < 0: // it is the one that changed
		return ", and the two do not share it any more: " + x.why
	case c.svc.SharingKey != "" && x.other.svc.SharingKey != "":
		return ", which is older, and the two cannot share it: " + x.why
	}
	return ", which is older"
}

// notFrom says why no pool lets the Service have the address; the zero value when one does, or may.
func (p *Planner) notFrom(c *claim, a netip.Addr) Release {
	in := p.poolOf(a)
	switch {
	case in == nil && p.unsure && c.svc.Allocated.Status == "True":
		return Release{} // it may be from the pool that is left out: nothing is taken away on missing evidence
	case in == nil:
		return Release{Why: "no pool contains it"}
	case len(c.svc.Request.Pools) > 0 && !slices.Contains(c.svc.Request.Pools, in.Name):
		return Release{Why: "it is from pool " + in.Name + ", and the Service asks for pool " + strings.Join(c.svc.Request.Pools, " or "), Asked: true}
	case !in.admits(c.svc):
		return Release{Why: "it is from pool " + in.Name + ", which " + in.admitsText()}
	}
	return Release{}
}

// admits reports whether the pool is for the Service.
func (p *pool) admits(s *config.Service) bool {
	return !p.Scoped || slices.Contains(s.Admitted, p.Name)
}

func (p *pool) admitsText() string { return "admits only " + p.Admits }

// remember lets stand what the last plan gave and no status shows: the write is on its way, or somebody else took it out.
func (p *Planner) remember() {
	for _, c := range p.change.dirty {
		if c.frozen() {
			continue
		}
		for _, a := range c.last.held {
			s := p.at(a)
			if s.pool != nil && s.pool.gives(a) && !s.others() && s.obstacle(c) == nil && p.objection(c, a).Why == "" {
				p.hold(c, a)
			}
			p.touch(s) // so that an empty slot is dropped
		}
	}
}
