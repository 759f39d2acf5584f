package ipam

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// assign gives out what is missing, to those who lack something and for whom something changed.
func (p *Planner) assign(anew bool) {
	var tries []*claim
	for _, c := range p.change.dirty {
		if c.lacks() {
			tries = append(tries, c)
		}
	}
	if !anew {
		for _, c := range p.concerned([2]bool{}) {
			if p.woken(c) {
				tries = append(tries, c)
			}
		}
	}
	slices.SortFunc(tries, ranked)
	empty := make(map[walkKey]bool)
	for _, c := range tries {
		p.complete(c, empty)
	}
}

// woken reports whether a claim that waits may be given something because of what changed.
func (p *Planner) woken(c *claim) bool {
	if c.svc.SharingKey != "" && p.change.keys[c.svc.SharingKey] || p.change.wake[c.svc.Key] {
		return true
	}
	for _, f := range c.families() {
		if !c.missing(f) {
			continue
		}
		if p.change.freed[familyIndex(f)] {
			return true
		}
		if a, ok := c.requested(f); ok {
			if s := p.slots[a]; s != nil && s.touched {
				return true
			}
		}
	}
	return false
}

// concerned returns the claims that wait and that a change may concern: if nothing came free and no pool says something else, only those that
// ask for certain addresses.
func (p *Planner) concerned(notes [2]bool) []*claim {
	ch := p.change
	if ch.freed != [2]bool{} || len(ch.keys) > 0 || len(ch.wake) > 0 || notes != [2]bool{} {
		return p.pending
	}
	n, _ := slices.BinarySearchFunc(p.pending, true, func(c *claim, _ bool) int {
		if c.named {
			return -1
		}
		return 1
	})
	return p.pending[:n]
}

// complete gives a Service what it is missing. A Service that requires both families, or that asks for addresses by name, gets all of
// what it is missing or nothing; any other gets what there is.
func (p *Planner) complete(c *claim, empty map[walkKey]bool) {
	var found [2]netip.Addr
	for i, f := range c.families() {
		if !c.missing(f) {
			continue
		}
		a, ok := p.choose(c, f, empty)
		if !ok && c.allOrNothing() {
			return
		}
		if ok {
			found[i] = a
		}
	}
	for _, a := range found {
		if a.IsValid() {
			p.account(p.hold(c, a))
		}
	}
}

// walkKey tells apart Services to which the pools answer the same.
type walkKey struct {
	family    int
	admitted  *string // the first of the pools that admit it
	more      int     // how many
	namespace string
}

// walk returns the key of an automatic assignment; false when the Service is a case of its own.
func (p *Planner) walk(c *claim, f config.Family) (walkKey, bool) {
	if c.svc.SharingKey != "" || len(c.svc.Request.Pools) > 0 || len(p.reserved[c.svc.Key]) > 0 {
		return walkKey{}, false
	}
	k := walkKey{family: familyIndex(f), more: len(c.svc.Admitted)}
	if k.more > 0 {
		k.admitted = &c.svc.Admitted[0]
	}
	if p.quotas {
		k.namespace = c.svc.Namespace
	}
	return k, true
}

// choose returns an address of the family for the Service.
func (p *Planner) choose(c *claim, f config.Family, empty map[walkKey]bool) (netip.Addr, bool) {
	if a, ok := c.requested(f); ok {
		return a, p.refuse(c, a).reason == ""
	}
	if a, ok := p.own(c, f); ok {
		return a, true
	}
	key, common := p.walk(c, f)
	if common && empty[key] {
		return netip.Addr{}, false
	}
	a, ok := p.chooseFrom(c, f)
	if common && !ok {
		empty[key] = true // within a plan addresses are only ever taken: what is exhausted stays so
	}
	return a, ok
}

// own returns an address of the family that is reserved for the Service, if it can have it: a Service that asks for a pool gets none of
// another.
func (p *Planner) own(c *claim, f config.Family) (netip.Addr, bool) {
	for _, a := range p.reserved[c.svc.Key] {
		if config.FamilyOf(a) == f && p.refuse(c, a).reason == "" {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// chooseFrom returns an address of the first pool that has one for the Service: first one that it can share.
func (p *Planner) chooseFrom(c *claim, f config.Family) (netip.Addr, bool) {
	if c.svc.SharingKey != "" && len(p.sharers[c.svc.SharingKey]) > 0 {
		for in := range p.candidates(c) {
			if a, ok := p.shared(c, in, f); ok {
				return a, true
			}
		}
	}
	for in := range p.candidates(c) {
		if p.barrier(c, in, f).reason != "" || p.overQuota(c, in, f) {
			continue
		}
		if a, ok := in.spaces[familyIndex(f)].next(in); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// candidates goes through the pools that a Service may get an address from, in order: those it asks for; else those that are only for some
// and admit it, then all others by name.
func (p *Planner) candidates(c *claim) func(yield func(*pool) bool) {
	return func(yield func(*pool) bool) {
		names := c.svc.Request.Pools
		if len(names) == 0 {
			names = c.svc.Admitted
		}
		for _, name := range names {
			if in := p.byName[name]; in != nil && !yield(in) {
				return
			}
		}
		if len(c.svc.Request.Pools) > 0 {
			return
		}
		for _, in := range p.pools {
			if in.Scoped && slices.Contains(c.svc.Admitted, in.Name) {
				continue
			}
			if !yield(in) {
				return
			}
		}
	}
}

// shared returns the lowest address of the pool that the Service can have together with others of its sharing key.
func (p *Planner) shared(c *claim, in *pool, f config.Family) (netip.Addr, bool) {
	if p.barrier(c, in, f).reason != "" {
		return netip.Addr{}, false
	}
	for _, a := range p.sharers[c.svc.SharingKey] {
		if s := p.slots[a]; s.pool == in && config.FamilyOf(a) == f && p.refuse(c, a).reason == "" {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// overQuota reports whether the Services of the namespace hold as many addresses of the pool as they may.
func (p *Planner) overQuota(c *claim, in *pool, f config.Family) bool {
	return in.NamespaceQuota > 0 && in.spaces[familyIndex(f)].held[c.svc.Namespace] >= in.NamespaceQuota
}
