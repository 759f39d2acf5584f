package ipam

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// Reasons of heraldlb.io/Allocated being False; the public contract fixes the names.
const (
	NoPool            = "NoPool"
	PoolExhausted     = "PoolExhausted"
	AddressInUse      = "AddressInUse"
	AddressNotInPool  = "AddressNotInPool"
	FamilyUnavailable = "FamilyUnavailable"
	InvalidRequest    = "InvalidRequest"
)

// refusal says why something is not given: a reason of the contract and a message for a person. The zero value refuses nothing.
type refusal struct{ reason, message string }

// contradiction says why no address could ever meet what the Service asks for.
func contradiction(c *claim) refusal {
	s := c.svc
	switch {
	case s.Request.Invalid != "":
		return refusal{InvalidRequest, s.Request.Invalid}
	case len(c.families) == 0:
		return refusal{FamilyUnavailable, "the Service has no IP family"}
	}
	for i, a := range s.Request.Addresses {
		f := config.FamilyOf(a)
		if !slices.Contains(c.families, f) {
			return refusal{InvalidRequest, a.String() + " is asked for, but the Service has no " + f.String() + " family"}
		}
		if earlier := s.Request.Addresses[:i]; slices.ContainsFunc(earlier, func(b netip.Addr) bool { return config.FamilyOf(b) == f }) {
			return refusal{InvalidRequest, "more than one " + f.String() + " address is asked for"}
		}
	}
	return refusal{}
}

// assign gives out what is missing. Addresses asked for by name go first, so that no Service that takes any address snatches them.
func (p *planner) assign() {
	for _, named := range []bool{true, false} {
		for _, c := range p.claims {
			if !c.svc.Deleting && c.invalid.reason == "" && named == (len(c.svc.Request.Addresses) > 0) {
				p.complete(c)
			}
		}
	}
}

// complete gives a Service what it is missing. A Service that requires both families, or that asks for addresses by name, gets all of
// what it is missing or nothing; any other gets what there is.
func (p *planner) complete(c *claim) {
	if c.svc.FamilyPolicy == config.RequireDualStack && len(c.families) < 2 {
		missing := 1 - familyIndex(c.families[0])
		c.refused[missing] = refusal{FamilyUnavailable, "the Service requires both families, but the cluster gave it " + c.families[0].String() + " only"}
		return
	}
	var found [2]netip.Addr
	refused := false
	for _, f := range c.families {
		i := familyIndex(f)
		if c.have[i].addr.IsValid() {
			continue
		}
		found[i], c.refused[i] = p.choose(c, f)
		refused = refused || c.refused[i].reason != ""
	}
	if refused && c.allOrNothing() {
		return
	}
	for _, a := range found {
		if a.IsValid() {
			p.hold(c, a)
		}
	}
}

func (c *claim) allOrNothing() bool {
	return c.svc.FamilyPolicy == config.RequireDualStack || len(c.svc.Request.Addresses) > 0
}

// choose returns an address of the family for the Service, or why there is none.
func (p *planner) choose(c *claim, f config.Family) (netip.Addr, refusal) {
	if a, ok := c.requested(f); ok {
		if why := p.refuse(c, a); why.reason != "" {
			return netip.Addr{}, why
		}
		return a, refusal{}
	}
	if names := c.svc.Request.Pools; len(names) > 0 {
		return p.chooseFrom(p.named(names), f)
	}
	key := walkKey{f}
	if why, ok := p.walks[key]; ok {
		return netip.Addr{}, why
	}
	a, why := p.chooseFrom(p.automatic(), f)
	if why.reason != "" {
		p.walks[key] = why // addresses are only ever taken within a plan: what is exhausted stays so
	}
	return a, why
}

// walkKey tells apart Services to which the same pools answer the same.
type walkKey struct{ family config.Family }

// refuse says why a Service may not have the address it asks for by name.
func (p *planner) refuse(c *claim, a netip.Addr) refusal {
	name := a.String()
	in := p.poolOf(a)
	switch {
	case in == nil:
		return refusal{AddressNotInPool, "no pool contains " + name}
	case len(c.svc.Request.Pools) > 0 && !slices.Contains(c.svc.Request.Pools, in.Name):
		return refusal{AddressNotInPool, name + " is in pool " + in.Name + ", and the Service asks for pool " + join(c.svc.Request.Pools, " or ")}
	}
	if node, ok := p.nodes[a]; ok {
		return refusal{AddressInUse, name + " is an address of node " + node}
	}
	if other, held := p.ledger.holder(a, c); held {
		return refusal{AddressInUse, name + " is held by Service " + p.claims[other].svc.Key.String()}
	}
	if other, leaving := p.ledger.leaver(a, c); leaving {
		return refusal{AddressInUse, name + " is being given up by Service " + p.claims[other].svc.Key.String()}
	}
	return refusal{}
}

// candidate is a pool that a Service may get an address from, or the reason why it is none.
type candidate struct {
	name  string
	pool  *pool
	skip  string // why it is not tried
	fatal string // the reason of the contract when every candidate is like this
}

// named returns the pools that a Service asks for, in its order.
func (p *planner) named(names []string) []candidate {
	out := make([]candidate, len(names))
	for i, n := range names {
		out[i] = candidate{name: n, pool: p.byName[n]}
		if out[i].pool == nil {
			out[i].skip, out[i].fatal = "does not exist or is left out", NoPool
		}
	}
	return out
}

// automatic returns the pools for Services that ask for none, in their order.
func (p *planner) automatic() []candidate {
	out := make([]candidate, len(p.pools))
	for i, in := range p.pools {
		out[i] = candidate{name: in.Name, pool: in}
		if !in.AutoAssign {
			out[i].skip, out[i].fatal = "gives addresses on request only (autoAssign is false)", NoPool
		}
	}
	return out
}

// chooseFrom returns a free address of the first candidate that has one. Otherwise the message goes through all of them.
func (p *planner) chooseFrom(candidates []candidate, f config.Family) (netip.Addr, refusal) {
	var walk walk
	for _, c := range candidates {
		if c.skip != "" {
			walk.add(c.name, c.skip, c.fatal)
			continue
		}
		if c.pool.total[familyIndex(f)] == 0 {
			walk.add(c.name, "has no "+f.String()+" addresses", FamilyUnavailable)
			continue
		}
		if a, ok := p.find(c.pool, f); ok {
			return a, refusal{}
		}
		walk.add(c.name, "has no free "+f.String()+" address", PoolExhausted)
	}
	return netip.Addr{}, walk.refusal()
}
