package ipam

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// adopt takes in what the Services hold already, and notes what they must give up.
func (p *planner) adopt() {
	for _, c := range p.claims {
		for _, a := range c.svc.Ingress {
			c.ours = c.ours || p.poolOf(a) != nil
			if c.svc.Deleting {
				p.keep(c, a)
				continue
			}
			if why := p.objection(c, a); why != "" {
				c.released = append(c.released, Release{a, why})
				continue
			}
			p.hold(c, a)
		}
	}
	// Only now it is known who stays: an address given up by one may be held, rightly, by another.
	for _, c := range p.claims {
		for _, r := range c.released {
			if _, taken := p.ledger.holders[r.Addr]; !taken {
				p.ledger.leave(r.Addr, c)
			}
		}
	}
}

// keep takes in an address of a Service that is being deleted: whether or not it may have it no longer matters, but nobody else may.
func (p *planner) keep(c *claim, a netip.Addr) {
	if _, held := p.ledger.holder(a, c); !held {
		p.hold(c, a)
	}
}

// hold records that the claim has the address.
func (p *planner) hold(c *claim, a netip.Addr) {
	f := familyIndex(config.FamilyOf(a))
	in := p.poolOf(a)
	if in != nil && c.have[f].addr != a {
		in.assigned[f]++
	}
	c.have[f] = held{a, in}
	p.ledger.take(a, c)
}

// objection says why a Service may not keep an address it holds; "" when it may.
func (p *planner) objection(c *claim, a netip.Addr) string {
	f := config.FamilyOf(a)
	if c.invalid.reason != "" {
		return c.invalid.message
	}
	if !slices.Contains(c.families, f) {
		return "the Service does not ask for an " + f.String() + " address"
	}
	if c.have[familyIndex(f)].addr.IsValid() {
		return "a Service holds one " + f.String() + " address"
	}
	if want, ok := c.requested(f); ok && want != a {
		return "the Service asks for " + want.String()
	}
	if why := p.notAdmitted(c, a); why != "" {
		return why
	}
	if other, held := p.ledger.holder(a, c); held {
		return "it is held by Service " + p.claims[other].svc.Key.String() + ", which is older"
	}
	return ""
}

// notAdmitted says why no pool lets the Service have the address; "" when one does, or may.
func (p *planner) notAdmitted(c *claim, a netip.Addr) string {
	in := p.poolOf(a)
	if in == nil {
		if p.unsure != "" && c.svc.Allocated.Status == "True" {
			return "" // it may be from the pool that is left out: nothing is taken away on missing evidence
		}
		return "no pool contains it"
	}
	if len(c.svc.Request.Pools) > 0 && !slices.Contains(c.svc.Request.Pools, in.Name) {
		return "it is from pool " + in.Name + ", and the Service asks for pool " + join(c.svc.Request.Pools, " or ")
	}
	return ""
}

// remember lets stand what the last plan gave and the API server does not show yet.
func (p *planner) remember() {
	for _, c := range p.claims {
		for _, a := range p.last.given[c.svc.UID] {
			_, barred := p.nodes[a]
			_, leaving := p.ledger.leaver(a, c)
			if !c.svc.Deleting && !barred && !leaving && p.poolOf(a) != nil && p.objection(c, a) == "" {
				p.hold(c, a)
			}
		}
	}
}

// requested returns the address of the family that the Service asks for by name.
func (c *claim) requested(f config.Family) (netip.Addr, bool) {
	for _, a := range c.svc.Request.Addresses {
		if config.FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}
