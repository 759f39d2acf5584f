package decide

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// telling is a set of BGP advertisements for one family, and which peers each node tells under it.
type telling struct {
	adverts []int32
	family  config.Family
	own     []string    // the peers of the node decided for, sorted
	says    []saying    // what that node tells them
	able    []Announcer // members that have a peer to tell, endpoints aside; filled when asked for
	listed  bool
	kept    *tally // who is left out for Services of the policy Cluster; filled when asked for
}

// tellingOf returns the telling of a set of BGP advertisements for an address.
func (b *board) tellingOf(set []int32, a netip.Addr) *telling {
	family := config.FamilyOf(a)
	b.key = appendIDs(append(b.key[:0], byte(family)), set)
	if t, ok := b.tellings[string(b.key)]; ok {
		return t
	}
	t := &telling{adverts: slices.Clone(set), family: family}
	b.tellings[string(b.key)] = t
	t.own = b.peersOf(t, b.facts.Node)
	t.says = b.sayingsOf(t)
	return t
}

// saying is what several peers are told alike of a prefix of one length.
type saying struct {
	bits     int
	peers    []string // sorted
	attrs    config.RouteAttributes
	weighted bool // the weight follows from the endpoints
}

// sayingsOf works out what the node decided for tells its peers. What several advertisements say of prefixes of one length to one peer is
// united first, so that the endpoints of a Service count once; peers that are then told the same are put together.
func (b *board) sayingsOf(t *telling) []saying {
	var single []saying // one peer each
	for _, id := range t.adverts {
		adv := b.bgp[id]
		for _, peer := range b.peersUnder(adv, t.family, b.facts.Node) {
			is := saying{prefixBits(adv, t.family), []string{peer}, adv.Attributes, adv.WeightByEndpoints}
			i := slices.IndexFunc(single, func(s saying) bool { return s.bits == is.bits && s.peers[0] == peer })
			if i < 0 {
				single = append(single, is)
				continue
			}
			single[i].attrs = single[i].attrs.Merge(is.attrs)
			single[i].weighted = single[i].weighted || is.weighted
		}
	}
	slices.SortFunc(single, func(a, b saying) int {
		return cmp.Or(cmp.Compare(b.bits, a.bits), strings.Compare(a.peers[0], b.peers[0]))
	})
	var out []saying
	for _, s := range single {
		i := slices.IndexFunc(out, func(o saying) bool { return o.bits == s.bits && o.attrs == s.attrs && o.weighted == s.weighted })
		if i < 0 {
			out = append(out, s)
			continue
		}
		out[i].peers = append(out[i].peers, s.peers[0])
	}
	return out
}

// peersOf returns the peers, by name and sorted, that a node tells under a set of advertisements.
func (b *board) peersOf(t *telling, node string) []string {
	var peers []string
	for _, id := range t.adverts {
		peers = append(peers, b.peersUnder(b.bgp[id], t.family, node)...)
	}
	slices.Sort(peers)
	return slices.Compact(peers)
}

// peersUnder returns the peers, by name, that a node tells under one advertisement.
func (b *board) peersUnder(adv *config.BGPAdvertisement, family config.Family, node string) []string {
	if !adv.Nodes.Has(node) {
		return nil
	}
	var peers []string
	for _, p := range b.facts.Config.Peers {
		if adv.Peers.Has(p.Name) && p.Nodes.Has(node) && slices.Contains(p.Families, family) {
			peers = append(peers, p.Name)
		}
	}
	return peers
}

// route settles one use for BGP: what is told to which peers, and why not.
func (d *Decider) route(u *use) {
	set := d.bgpSet(u.svc, u.addr)
	if len(set) == 0 {
		return
	}
	t := d.tellingOf(set, u.addr)
	w := &u.verdicts[0]
	*w = Verdict{Service: u.svc.Key, Addr: u.addr, Protocol: BGP}
	own := d.ownObstacle()
	switch o := d.bgpObstacle(d.facts.Node, t, u.svc); {
	case !bgpBacked(u.svc):
		w.Reason, w.Message = NoReadyEndpoints, noEndpointsMessage
		return
	case o == none:
		w.Announce, w.Reason = true, Announced
	case d.bgpAnyone(t, u.svc):
		w.Reason, w.Message = NotEligible, o.words(u.addr, d.bgpNames(t))
	default:
		w.Reason, w.Message = NoEligibleNode, d.bgpMessage(t, u.svc, u.addr)
	}
	if w.Announce || own.leaving() && d.pathObstacle(d.facts.Node, t, u.svc) == none {
		u.routes = d.routesOf(t, u)
	}
}

// routesOf returns what this node tells of an address of a Service.
func (d *Decider) routesOf(t *telling, u *use) []Route {
	routes := make([]Route, 0, len(t.says))
	for i := range t.says {
		s := &t.says[i]
		prefix, err := u.addr.Prefix(s.bits)
		if err != nil {
			continue // the length fits the family, as the API demands
		}
		r := Route{Prefix: prefix, Peers: s.peers, Attributes: s.attrs}
		if s.weighted {
			r.Attributes.Weight = weight(u.svc, d.facts.Node)
		}
		routes = append(routes, r)
	}
	return routes
}

// bgpAnyone reports whether some member may announce the Service.
func (b *board) bgpAnyone(t *telling, svc *config.Service) bool {
	return slices.ContainsFunc(b.announcers(t), func(a Announcer) bool {
		return svc.TrafficPolicy != config.Local || onNode(svc, a.Node)
	})
}

// announcers returns the members that have a peer to tell and no obstacle of their own.
func (b *board) announcers(t *telling) []Announcer {
	if t.listed {
		return t.able
	}
	t.listed = true
	for i := range b.members {
		if o := b.members[i].obstacle; o != none && !o.soft() {
			continue
		}
		if peers := b.peersOf(t, b.members[i].Node); len(peers) > 0 {
			t.able = append(t.able, Announcer{Node: b.members[i].Node, Peers: peers})
		}
	}
	return t.able
}

// ownObstacle is the obstacle of the node decided for as a whole. It counts as having a live speaker: BGP needs no gossip.
func (b *board) ownObstacle() obstacle {
	if i, ok := b.index[b.facts.Node]; ok {
		return b.members[i].obstacle
	}
	return b.nodeObstacle(b.facts.Node, Up)
}

// bgpObstacle says why a node may not announce a Service by BGP; none when it may.
func (b *board) bgpObstacle(name string, t *telling, svc *config.Service) obstacle {
	o := noSpeaker
	if i, ok := b.index[name]; ok {
		o = b.members[i].obstacle
	} else if name == b.facts.Node {
		o = b.ownObstacle()
	}
	if o != none && !o.soft() {
		return o
	}
	return b.pathObstacle(name, t, svc)
}

// pathObstacle is bgpObstacle, the state of the node as a whole aside.
func (b *board) pathObstacle(name string, t *telling, svc *config.Service) obstacle {
	switch {
	case !slices.ContainsFunc(t.adverts, func(id int32) bool { return b.bgp[id].Nodes.Has(name) }):
		return notSelected
	case name == b.facts.Node && len(t.own) == 0, name != b.facts.Node && len(b.peersOf(t, name)) == 0:
		return noPeer
	case svc.TrafficPolicy == config.Local && !onNode(svc, name):
		return noEndpoint
	}
	return none
}

// heldPeers returns the BGP sessions that the node decided for holds.
func (b *board) heldPeers() []*config.Peer {
	var held []*config.Peer
	for _, p := range b.facts.Config.Peers {
		if p.Nodes.Has(b.facts.Node) {
			held = append(held, p)
		}
	}
	slices.SortFunc(held, func(a, b *config.Peer) int { return strings.Compare(a.Name, b.Name) })
	return held
}

// prefixBits returns how long the prefixes of an advertisement are.
func prefixBits(adv *config.BGPAdvertisement, f config.Family) int {
	if f == config.IPv4 {
		if adv.AggregationLength == 0 {
			return 32
		}
		return adv.AggregationLength
	}
	if adv.AggregationV6 == 0 {
		return 128
	}
	return adv.AggregationV6
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
