// Package decide says what a node should be doing: which addresses it answers for on which interfaces (one speaker per address, agreed on
// by election), which routes it tells which BGP peers, and why or why not. It is a function of values: no clock, no log, no sockets, and
// speakers with equal facts come to the same result without asking each other.
package decide

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// Decide returns everything the node of the facts should be doing. The facts are only read, and parts of the result may share memory
// with them. Equal facts give equal results, in whatever order the facts list things.
func Decide(f Facts) Desired {
	if f.Config == nil || !f.Config.Synced {
		return Desired{Incomplete: true}
	}
	b := newBoard(f)
	vips, slots := b.gather()
	b.elect(vips)
	d := decision{board: b, self: nobody, verdicts: make([][2]Verdict, slots)}
	if i, ok := b.index[f.Node]; ok {
		d.self = i
	}
	d.out.Claims = map[netip.Addr]Claim{}
	d.out.Peers = b.heldPeers()
	for i := range vips {
		d.l2(&vips[i])
		d.bgp(&vips[i])
	}
	d.collect()
	return d.out
}

// decision is a Desired in the making.
type decision struct {
	*board
	self     int32 // the node decided for among the members, or nobody
	out      Desired
	verdicts [][2]Verdict // by slot: BGP, L2; a zero Service when there is none
}

// l2 settles one address for ARP and NDP.
func (d *decision) l2(v *vip) {
	rival := d.rival(v)
	mine := v.owner != nobody && v.owner == d.self && rival == ""
	if mine {
		d.take(v)
	}
	for i := range v.uses {
		u := &v.uses[i]
		if u.reach == nil {
			continue
		}
		w := Verdict{Service: d.services[u.service].Key, Addr: v.addr, Protocol: L2}
		switch {
		case !u.back.any:
			w.Reason, w.Message = NoReadyEndpoints, noEndpointsMessage
		case rival != "":
			w.Owner, w.Reason = rival, NotOwner
			w.Message = "node " + rival + " answers for it on the wire, though gossip does not reach it"
		case v.owner == nobody:
			w.Reason, w.Message = NoEligibleNode, d.l2Message(u)
		case mine:
			w.Announce, w.Owner, w.Reason = true, d.facts.Node, Announced
		default:
			w.Owner, w.Reason = d.members[v.owner].Node, NotOwner
		}
		d.verdicts[u.slot][1] = w
	}
}

// rival returns the node that this one gives way to because it was heard to answer, though it is no live member; "" without one. A node
// that sees more than half of the speakers gives way to nobody outside: whoever that is has been cut off.
func (d *decision) rival(v *vip) string {
	if v.owner == nobody || v.owner != d.self || d.majority() {
		return ""
	}
	name := d.facts.Heard[v.addr]
	if _, live := d.index[name]; name == "" || live {
		return ""
	}
	own, other := score(d.members[d.self].hash, v.hash), score(hashNode(name), v.hash)
	if other > own || (other == own && name < d.facts.Node) {
		return name
	}
	return ""
}

// expected is how many speakers there should be.
func (d *decision) expected() int { return max(d.facts.Expected, len(d.members)) }

// majority reports whether more than half of the speakers there should be are live members.
func (d *decision) majority() bool { return 2*len(d.members) > d.expected() }

// take gives the address to the node decided for.
func (d *decision) take(v *vip) {
	claim, taken := d.stake(v)
	var names []string
	for i := range v.uses {
		if u := &v.uses[i]; u.stands() && contains(u.reach.may, d.self) {
			names = append(names, d.answering(u.reach, d.self, v.addr)...)
		}
	}
	slices.Sort(names)
	d.out.L2 = append(d.out.L2, L2Address{Addr: v.addr, Interfaces: slices.Compact(names), Taken: taken})
	d.out.Claims[v.addr] = claim
}

// stake returns the claim under which this node has the address, and why it has it. A claim that stands keeps its counter.
func (d *decision) stake(v *vip) (Claim, Reason) {
	majority, whole := d.majority(), len(d.members) == d.expected()
	claim := v.claim
	switch {
	case !v.resolved:
		claim = Claim{Counter: v.highest + 1, Majority: majority, Provisional: !whole}
	case whole:
		claim.Majority, claim.Provisional = true, false
	case claim.Provisional && !majority:
		claim.Majority = false
	}
	switch {
	case v.resolved && v.claims > 1:
		return claim, Won
	case v.resolved:
		return claim, Kept
	case v.highest > 0:
		return claim, TookOver
	}
	return claim, Elected
}

// bgp settles one address for BGP: a host route, told to the peers of every Service that is announced.
func (d *decision) bgp(v *vip) {
	var peers []string
	for i := range v.uses {
		u := &v.uses[i]
		svc := d.services[u.service]
		set := d.bgpSet(svc, v.addr)
		if len(set) == 0 {
			continue
		}
		t := d.tellingOf(set, v.addr)
		w := Verdict{Service: svc.Key, Addr: v.addr, Protocol: BGP}
		switch o := d.bgpObstacle(d.facts.Node, t, svc); {
		case !bgpBacked(svc):
			w.Reason, w.Message = NoReadyEndpoints, noEndpointsMessage
		case o == none:
			w.Announce, w.Reason = true, Announced
			peers = merge(peers, t.own)
		case d.bgpAnyone(t, svc):
			w.Reason, w.Message = NotEligible, o.words(v.addr, d.bgpNames(t))
		default:
			w.Reason, w.Message = NoEligibleNode, d.bgpMessage(t, svc, v.addr)
		}
		d.verdicts[u.slot][0] = w
	}
	if len(peers) > 0 {
		d.out.Routes = append(d.out.Routes, Route{Prefix: netip.PrefixFrom(v.addr, v.addr.BitLen()), Peers: peers})
	}
}

// bgpAnyone reports whether some member may announce the Service.
func (b *board) bgpAnyone(t *telling, svc *config.Service) bool {
	return slices.ContainsFunc(b.announcers(t), func(a Announcer) bool {
		return svc.TrafficPolicy != config.Local || onNode(svc, a.Node)
	})
}

// collect puts the verdicts into the order of Services, then addresses, then protocols.
func (d *decision) collect() {
	slot := 0
	for _, svc := range d.services {
		addrs := sorted(svc.Ingress, netip.Addr.Compare)
		for k, a := range addrs {
			if k > 0 && a == addrs[k-1] {
				continue
			}
			found := false
			for _, w := range d.verdicts[slot] {
				if w.Protocol != "" {
					d.out.Verdicts = append(d.out.Verdicts, w)
					found = true
				}
			}
			if !found {
				d.out.Verdicts = append(d.out.Verdicts,
					Verdict{Service: svc.Key, Addr: a, Reason: NoAdvertisement, Message: noAdvertisementMessage})
			}
			slot++
		}
	}
}

// merge unites two sorted sets of names. The result may share memory with either.
func merge(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 || slices.Equal(a, b) {
		return a
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
