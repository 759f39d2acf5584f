package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
)

// change is what differs from the last plan, and what that reaches.
type change struct {
	now       time.Time
	dirty     []*claim // to be judged anew
	removed   []*claim
	refreshed []*claim // have a newer version of their Service that says the same
	touched   []*slot
	cloned    bool // the outcomes are a copy of those of the last plan

	// What became possible for those who wait.
	freed   [2]bool // by familyIndex: an address, or a place in a quota, came free
	counted [2]bool // what counts for a quota changed
	keys    map[string]bool
	wake    map[config.Key]bool
	notes   map[*pool][2]note // what the pools said of themselves before

	// A new beginning only.
	carried []netip.Addr // came free before, the longest ago first
	was     []netip.Addr // could not be given out by the last plan
}

func newChange(now time.Time) *change {
	return &change{now: now, keys: make(map[string]bool), wake: make(map[config.Key]bool)}
}

// compareConfig takes in pools, nodes, and what others have. It reports whether they differ.
func (p *Planner) compareConfig(in *config.Snapshot) bool {
	unsure := p.Unsure || slices.ContainsFunc(in.Problems, func(x config.Problem) bool {
		return x.Kind == "IPAddressPool" && !x.Warning && !x.LastGood && !hasPool(in.Pools, x.Name)
	})
	same := unsure == p.unsure && slices.EqualFunc(p.inputPools, in.Pools, samePool) && slices.EqualFunc(p.nodes, in.Nodes, sameNode) &&
		slices.Equal(p.foreign, in.Foreign)
	p.unsure, p.inputPools, p.nodes, p.foreign = unsure, in.Pools, in.Nodes, in.Foreign
	return !same
}

func hasPool(pools []*config.Pool, name string) bool {
	return slices.ContainsFunc(pools, func(p *config.Pool) bool { return p.Name == name })
}

// samePool reports whether nothing differs that is not output.
func samePool(a, b *config.Pool) bool {
	return a == b || a.Name == b.Name && a.AutoAssign == b.AutoAssign && a.AvoidBuggy == b.AvoidBuggy && a.Paused == b.Paused && a.Gone == b.Gone &&
		a.Scoped == b.Scoped && a.Admits == b.Admits && a.NamespaceQuota == b.NamespaceQuota && a.RetainFor == b.RetainFor &&
		slices.Equal(a.Ranges, b.Ranges) && slices.Equal(a.Excluded, b.Excluded)
}

func sameNode(a, b *config.Node) bool {
	return a == b || a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses)
}

// compareServices finds the Services that came, went or changed. Both lists are sorted by key.
func (p *Planner) compareServices(services []*config.Service) {
	old, outs := p.services, p.outcomes
	var moved []*Outcome // the outcomes in their new places, once places differ
	for i, j := 0, 0; i < len(old) || j < len(services); {
		order := compareHeads(old[i:], services[j:])
		if order != 0 && moved == nil {
			moved = append(make([]*Outcome, 0, len(services)), outs[:i]...)
		}
		switch {
		case order < 0:
			p.removeService(old[i])
			i++
			continue
		case order > 0:
			p.addService(services[j])
			moved = append(moved, nil)
			j++
			continue
		case old[i] != services[j]:
			p.changeService(old[i], services[j])
		}
		if moved != nil {
			moved = append(moved, outs[i])
		}
		i, j = i+1, j+1
	}
	p.services = services
	if moved != nil {
		p.outcomes, p.change.cloned = moved, true
	}
	for _, c := range p.change.refreshed {
		p.publish(c, c.outcome)
	}
}

// compareHeads says which of two sorted lists goes on with the lower key.
func compareHeads(a, b []*config.Service) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	case a[0] == b[0]:
		return 0
	}
	return a[0].Key.Compare(b[0].Key)
}

// changeService takes in another version of a Service, or another Service of the same name.
func (p *Planner) changeService(old, s *config.Service) {
	c := p.claims[s.Key]
	switch {
	case old.UID != s.UID:
		p.removeService(old)
		p.addService(s)
	case alike(old, s):
		p.refresh(c, s)
	default:
		p.soil(c, s)
	}
}

func (p *Planner) removeService(s *config.Service) {
	c := p.claims[s.Key]
	delete(p.claims, s.Key)
	c.gone = true
	p.pending, p.due = remove(p.pending, c), remove(p.due, c)
	p.change.removed = append(p.change.removed, c)
}

func (p *Planner) addService(s *config.Service) {
	c := &claim{next: s}
	p.claims[s.Key] = c
	p.change.dirty = append(p.change.dirty, c)
}

// refresh takes in a version of a Service that is the same to a plan.
func (p *Planner) refresh(c *claim, s *config.Service) {
	c.svc = s
	o := *c.outcome
	o.Service = s
	c.outcome = &o
	p.change.refreshed = append(p.change.refreshed, c)
}

// soil says that a claim is to be judged anew.
func (p *Planner) soil(c *claim, s *config.Service) {
	if c.next != nil || c.gone {
		return
	}
	p.pending, p.due = remove(p.pending, c), remove(p.due, c)
	c.next = s
	p.change.dirty = append(p.change.dirty, c)
}

// spread goes from the claims that changed to those with which they have an address in common, and on from there.
func (p *Planner) spread() {
	for _, c := range p.change.removed {
		p.spreadFrom(c)
	}
	for i := 0; i < len(p.change.dirty); i++ {
		p.spreadFrom(p.change.dirty[i])
	}
}

func (p *Planner) spreadFrom(c *claim) {
	for _, h := range c.have {
		p.soilAt(h.addr)
	}
	for _, a := range c.left {
		p.soilAt(a)
	}
	if c.next != nil {
		for _, a := range c.next.Ingress {
			p.soilAt(a)
		}
	}
}

func (p *Planner) soilAt(a netip.Addr) {
	s := p.slots[a]
	if s == nil {
		return
	}
	for _, other := range s.holders {
		p.soil(other, other.svc)
	}
	for _, other := range s.leavers {
		p.soil(other, other.svc)
	}
}

// retract takes back what the last plan gave to the claims that are judged anew or gone.
func (p *Planner) retract() {
	for _, c := range p.change.removed {
		p.forget(c)
	}
	for _, c := range p.change.dirty {
		if c.svc != nil {
			p.forget(c)
		}
		c.enter()
		if c.svc.SharingKey != "" {
			p.change.keys[c.svc.SharingKey] = true
		}
	}
	slices.SortFunc(p.change.dirty, senior)
}

// forget takes all addresses from a claim, and remembers which they were.
func (p *Planner) forget(c *claim) {
	if c.svc.SharingKey != "" {
		p.change.keys[c.svc.SharingKey] = true
	}
	c.last = past{c.svc, c.holds(), c.left}
	for i, h := range c.have {
		if h.addr.IsValid() {
			p.unhold(c, i)
		}
	}
	for _, a := range c.left {
		s := p.slots[a]
		p.touch(s)
		s.leavers = slices.DeleteFunc(s.leavers, func(o *claim) bool { return o == c })
	}
}

// rebuild begins anew: all claims are judged, and the pools are empty.
func (p *Planner) rebuild(in *config.Snapshot) {
	ch := p.change
	for a, s := range p.slots {
		if s.class == assigned || s.class == reserved {
			ch.was = append(ch.was, a)
		}
	}
	slices.SortFunc(ch.was, netip.Addr.Compare)
	ch.carried = p.carry()
	p.slots = make(map[netip.Addr]*slot, len(in.Services)+len(in.Reservations))
	clear(p.sharers)
	clear(p.reserved)
	for _, c := range ch.removed {
		c.last = past{c.svc, c.holds(), c.left}
	}
	ch.dirty = make([]*claim, 0, len(p.claims))
	for _, s := range in.Services {
		c := p.claims[s.Key]
		if c.next == nil {
			c.next = c.svc
		}
		c.last = past{c.svc, c.holds(), c.left}
		c.have = [2]held{}
		c.enter()
		ch.dirty = append(ch.dirty, c)
	}
	slices.SortFunc(ch.dirty, senior)
	p.pending, p.due = nil, nil
	p.buildPools(in)
	clear(p.booked)
}

// publish makes an outcome that of a claim.
func (p *Planner) publish(c *claim, o *Outcome) {
	if !p.change.cloned {
		p.outcomes, p.change.cloned = slices.Clone(p.outcomes), true
	}
	c.outcome = o
	i, _ := slices.BinarySearchFunc(p.services, c.svc.Key, func(s *config.Service, k config.Key) int {
		if n := strings.Compare(s.Namespace, k.Namespace); n != 0 {
			return n
		}
		return strings.Compare(s.Name, k.Name)
	})
	p.outcomes[i] = o
}
