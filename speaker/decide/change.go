package decide

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/heraldlb/herald/config"
)

// same reports whether new facts stand on the ground of the board: only Services, which of them advertisements select, claims, counters,
// times and what was heard may differ.
func (d *Decider) same(f Facts, members []*Member) bool {
	old := &d.facts
	return old.Node == f.Node && old.IgnoreExcludeLB == f.IgnoreExcludeLB && old.DrainOnCordon == f.DrainOnCordon &&
		expected(old) == expected(&f) &&
		slices.EqualFunc(old.Config.Nodes, f.Config.Nodes, sameNode) &&
		slices.EqualFunc(old.Config.Pools, f.Config.Pools, samePool) &&
		slices.Equal(old.Config.Peers, f.Config.Peers) &&
		slices.EqualFunc(old.Config.L2Advertisements, f.Config.L2Advertisements, sameL2) &&
		slices.EqualFunc(old.Config.BGPAdvertisements, f.Config.BGPAdvertisements, sameBGP) &&
		slices.EqualFunc(d.members, members, func(a member, b *Member) bool {
			return a.Member == b || a.Node == b.Node && a.State == b.State && slices.EqualFunc(a.Interfaces, b.Interfaces, sameInterface)
		})
}

func sameNode(a, b *config.Node) bool {
	return a == b || a.Name == b.Name && a.NetworkUnavailable == b.NetworkUnavailable && a.ExcludeLB == b.ExcludeLB &&
		a.Drain == b.Drain && a.OutOfService == b.OutOfService && a.Unschedulable == b.Unschedulable
}

func samePool(a, b *config.Pool) bool {
	return a == b || a.Name == b.Name && slices.Equal(a.Ranges, b.Ranges)
}

func sameInterface(a, b config.Interface) bool {
	return a.Name == b.Name && a.MAC == b.MAC && a.Up == b.Up && slices.Equal(a.Subnets, b.Subnets)
}

// sameL2 reports whether two advertisements differ at most in which Services they select.
func sameL2(a, b *config.L2Advertisement) bool {
	return a == b || a.Name == b.Name && a.Pools.Equal(b.Pools) && a.Nodes.Equal(b.Nodes) && slices.Equal(a.Interfaces, b.Interfaces) &&
		slices.EqualFunc(a.Preferred, b.Preferred, func(p, q config.Preference) bool { return p.Weight == q.Weight && p.Nodes.Equal(q.Nodes) }) &&
		a.RefreshInterval == b.RefreshInterval &&
		(a.FailbackDelay == nil) == (b.FailbackDelay == nil) && (a.FailbackDelay == nil || *a.FailbackDelay == *b.FailbackDelay)
}

// sameBGP is sameL2 for BGP.
func sameBGP(a, b *config.BGPAdvertisement) bool {
	return a == b || a.Name == b.Name && a.Pools.Equal(b.Pools) && a.Nodes.Equal(b.Nodes) && a.Peers.Equal(b.Peers) &&
		a.Attributes == b.Attributes && a.AggregationLength == b.AggregationLength && a.AggregationV6 == b.AggregationV6 &&
		a.WeightByEndpoints == b.WeightByEndpoints
}

// reselection is an advertisement that selects other Services than before.
type reselection struct{ was, is config.Selection[config.Key] }

// reselect takes in which Services the advertisements select now.
func (d *Decider) reselect() []reselection {
	var out []reselection
	for _, is := range d.facts.Config.L2Advertisements {
		for i, was := range d.l2 {
			if was != is && was.Name == is.Name {
				d.l2[i] = is
				out = append(out, reselection{was.Services, is.Services})
			}
		}
	}
	for _, is := range d.facts.Config.BGPAdvertisements {
		for i, was := range d.bgp {
			if was != is && was.Name == is.Name {
				d.bgp[i] = is
				out = append(out, reselection{was.Services, is.Services})
			}
		}
	}
	return out
}

// takeServices takes in the Services.
func (d *Decider) takeServices(services []*config.Service) {
	moved := d.reselect()
	gone, came, ok := compareServices(d.services, services)
	if !ok {
		services = sorted(services, byKey)
		gone, came, _ = compareServices(d.services, services)
	}
	for _, svc := range gone {
		d.release(d.of(svc))
	}
	if len(moved) > 0 {
		d.rehold(moved)
	}
	for _, svc := range came {
		d.hold(svc)
	}
	d.services = services
}

// rehold takes those Services in again that an advertisement selects now and did not before, or the other way round.
func (d *Decider) rehold(moved []reselection) {
	var out []*holding
	for h := range d.holdings.all() {
		if slices.ContainsFunc(moved, func(m reselection) bool { return m.was.Has(h.svc.Key) != m.is.Has(h.svc.Key) }) {
			out = append(out, h)
		}
	}
	for _, h := range out {
		d.release(h)
		d.hold(h.svc)
	}
}

func byKey(a, b *config.Service) int { return a.Key.Compare(b.Key) }

// compareServices compares two lists of Services, of which the first is sorted: it returns those that are in the one only. A Service is itself
// when it is the same in memory; the keys of all others are looked at. It is not ok when the second list turns out not to be sorted.
func compareServices(was, is []*config.Service) (gone, came []*config.Service, ok bool) {
	kept := false // the one before, so that the next in both lists is in order
	for i, svc := range is {
		if kept && len(was) > 0 && was[0] == svc {
			was = was[1:]
			continue
		}
		if i > 0 && byKey(is[i-1], svc) > 0 {
			return nil, nil, false
		}
		for len(was) > 0 && byKey(was[0], svc) < 0 {
			gone, was = append(gone, was[0]), was[1:]
		}
		if kept = len(was) > 0 && was[0] == svc; kept {
			was = was[1:]
			continue
		}
		came = append(came, svc)
	}
	return append(gone, was...), came, true
}

// of returns what a Service that was taken in holds.
func (d *Decider) of(svc *config.Service) *holding {
	h, _ := d.holdings.get(&holding{svc: svc})
	return h
}

// hold takes a Service in.
func (d *Decider) hold(svc *config.Service) {
	h := &holding{svc: svc, back: d.l2Backing(svc)}
	addrs := sorted(svc.Ingress, netip.Addr.Compare)
	for k, a := range addrs {
		if k > 0 && a == addrs[k-1] {
			continue
		}
		u := &use{holding: h, addr: a}
		if set := d.l2Set(svc, a); len(set) > 0 {
			u.reach = d.reachOf(set, a)
		}
		d.route(u)
		h.uses = append(h.uses, u)
		v := d.at(a)
		v.attach(u)
		v.usesNew = true
		d.touch(v)
		d.aggregates += aggregates(u)
	}
	d.holdings.insert(h)
}

// release forgets a Service.
func (d *Decider) release(h *holding) {
	for _, u := range h.uses {
		v := d.places[u.addr]
		v.detach(u)
		v.usesNew = true
		d.touch(v)
		d.aggregates -= aggregates(u)
	}
	d.holdings.remove(h)
}

// at returns the place of an address.
func (d *Decider) at(a netip.Addr) *vip {
	v := d.places[a]
	if v == nil {
		v = &vip{addr: a, hash: hashAddr(a), owner: nobody, heir: nobody, left: nobody, counted: nobody}
		d.places[a] = v
	}
	return v
}

// takeClaims takes in what the members claim.
func (d *Decider) takeClaims(members []*Member) {
	for i, m := range members {
		d.members[i].Member = m
		was, is := d.said[i], m.Claims
		if sameMap(was, is) {
			continue
		}
		d.said[i] = is
		for a, c := range is {
			if before, ok := was[a]; !ok || before != c {
				v := d.at(a)
				v.put(int32(i), c)
				d.touch(v)
			}
		}
		for a := range was {
			if _, ok := is[a]; !ok {
				v := d.places[a]
				v.drop(int32(i))
				d.touch(v)
			}
		}
	}
}

// sameMap reports whether two maps are one and the same.
func sameMap(a, b map[netip.Addr]Claim) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// takeHeard takes in who was heard on the wire, given what was known before.
func (d *Decider) takeHeard(heard map[netip.Addr]string, insists map[netip.Addr]bool) {
	note := func(a netip.Addr) {
		if v := d.places[a]; v != nil && (heard[a] != d.facts.Heard[a] || insists[a] != d.facts.Insists[a]) {
			d.emit(v)
		}
	}
	for a := range d.facts.Heard {
		note(a)
	}
	for a := range heard {
		note(a)
	}
}
