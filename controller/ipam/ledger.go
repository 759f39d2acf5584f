package ipam

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/heraldlb/herald/config"
)

// slot is an address that somebody has something to do with.
type slot struct {
	addr    netip.Addr
	pool    *pool     // nil: in no pool
	holders []*claim  // who hold it
	leavers []*claim  // whose status shows it, though they must give it up
	node    string    // whose own it is; "" = no node's
	foreign string    // who else has it, for people; "" = nobody
	booking *booking  // for whom it is reserved
	class   class     // as it is accounted for
	touched bool      // in the course of this plan
	one     [1]*claim // room for holders: most have one
}

// booking is a reservation in force.
type booking struct {
	service config.Key
	name    string // of the IPReservation that a user made; "" when Herald keeps the address
}

// class says what an address of a pool counts as.
type class uint8

const (
	available class = iota
	assigned
	reserved
	barred    // a node's own
	elsewhere // somebody else's
	classes
)

// classify says what the address counts as now.
func (s *slot) classify() class {
	switch {
	case len(s.holders) > 0 || len(s.leavers) > 0:
		return assigned
	case s.pool == nil || !s.pool.gives(s.addr):
		return available // not that it could be given out, but nothing stands in the way
	case s.node != "":
		return barred
	case s.foreign != "":
		return elsewhere
	case s.booking != nil:
		return reserved
	}
	return available
}

// others reports whether the address belongs to somebody who got it from nobody here.
func (s *slot) others() bool { return s.node != "" || s.foreign != "" }

// at returns the slot of an address.
func (p *Planner) at(a netip.Addr) *slot {
	s := p.slots[a]
	if s == nil {
		s = &slot{addr: a, pool: p.poolOf(a)}
		s.holders = s.one[:0]
		p.slots[a] = s
	}
	return s
}

// touch notes that a slot is about to change.
func (p *Planner) touch(s *slot) {
	if !s.touched {
		s.touched = true
		p.change.touched = append(p.change.touched, s)
	}
}

// hold records that a claim has an address. The caller has made sure that it may.
func (p *Planner) hold(c *claim, a netip.Addr) *slot {
	s := p.at(a)
	p.touch(s)
	f := familyIndex(config.FamilyOf(a))
	c.have[f] = held{a, s.pool}
	if q := p.quota(s); q != nil && !s.heldIn(c.svc.Namespace) {
		q[c.svc.Namespace]++
		p.change.counted[f] = true
	}
	if key := c.svc.SharingKey; key != "" {
		p.change.keys[key] = true
	}
	if key := c.svc.SharingKey; key != "" && !s.sharedBy(key) {
		i, _ := slices.BinarySearchFunc(p.sharers[key], a, netip.Addr.Compare)
		p.sharers[key] = slices.Insert(p.sharers[key], i, a)
	}
	s.holders = append(s.holders, c)
	return s
}

// unhold takes the address of a family from a claim.
func (p *Planner) unhold(c *claim, family int) {
	a := c.have[family].addr
	s := p.slots[a]
	p.touch(s)
	c.have[family] = held{}
	s.holders = slices.DeleteFunc(s.holders, func(o *claim) bool { return o == c })
	if q := p.quota(s); q != nil && !s.heldIn(c.svc.Namespace) {
		if q[c.svc.Namespace]--; q[c.svc.Namespace] == 0 {
			delete(q, c.svc.Namespace)
		}
		p.change.freed[family], p.change.counted[family] = true, true
	}
	if key := c.svc.SharingKey; key != "" && !s.sharedBy(key) {
		if i, found := slices.BinarySearchFunc(p.sharers[key], a, netip.Addr.Compare); found {
			p.sharers[key] = slices.Delete(p.sharers[key], i, i+1)
		}
		if len(p.sharers[key]) == 0 {
			delete(p.sharers, key)
		}
	}
}

// leave records that a claim must give up an address that its status shows.
func (p *Planner) leave(c *claim, a netip.Addr) {
	s := p.at(a)
	p.touch(s)
	c.left = append(c.left, a)
	s.leavers = append(s.leavers, c)
}

// quota returns the counts by namespace that an address counts in; nil where there is no limit.
func (p *Planner) quota(s *slot) map[string]int {
	if s.pool == nil || s.pool.NamespaceQuota == 0 {
		return nil
	}
	return s.pool.spaces[familyIndex(config.FamilyOf(s.addr))].held
}

func (s *slot) heldIn(namespace string) bool {
	return slices.ContainsFunc(s.holders, func(c *claim) bool { return c.svc.Namespace == namespace })
}

func (s *slot) sharedBy(key string) bool {
	return slices.ContainsFunc(s.holders, func(c *claim) bool { return c.svc.SharingKey == key })
}

// clash is what keeps a claim from having an address together with another one.
type clash struct {
	other   *claim
	why     string
	leaving bool // the other is giving it up
}

// holder returns what keeps the claim from having the address as far as those who hold it are concerned: the oldest of those in its way.
func (s *slot) holder(c *claim) *clash {
	if s == nil {
		return nil
	}
	return first(s.holders, c)
}

// obstacle is like holder, but those who have yet to give the address up count, too.
func (s *slot) obstacle(c *claim) *clash {
	if s == nil {
		return nil
	}
	if x := first(s.holders, c); x != nil {
		return x
	}
	x := first(s.leavers, c)
	if x != nil {
		x.leaving = true
	}
	return x
}

func first(others []*claim, c *claim) *clash {
	var out *clash
	for _, o := range others {
		if o == c || out != nil && senior(o, out.other) >= 0 {
			continue
		}
		if why, ok := fit(c.svc, o.svc); !ok {
			out = &clash{other: o, why: why}
		}
	}
	return out
}

// fit reports whether two Services may share an address, and if not, why. What holds for each two of several holds for all: if not all of
// them have the policy Cluster, the one that has not makes all the others have its endpoints.
func fit(a, b *config.Service) (why string, ok bool) {
	if a.SharingKey != b.SharingKey || a.SharingKey == "" {
		return "their sharing keys differ", false
	}
	if port, both := common(a.Ports, b.Ports); both {
		return "both use " + port.Protocol + " port " + strconv.Itoa(int(port.Port)), false
	}
	if (a.TrafficPolicy != config.Cluster || b.TrafficPolicy != config.Cluster) && (a.Backend == "" || a.Backend != b.Backend) {
		return "with externalTrafficPolicy Local only Services of one namespace with the same selector share an address", false
	}
	return "", true
}

// common returns a port that stands in both lists.
func common(a, b []config.Port) (config.Port, bool) {
	for _, p := range a {
		if slices.Contains(b, p) {
			return p, true
		}
	}
	return config.Port{}, false
}
