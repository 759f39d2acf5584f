package decide

import (
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
	return t
}

// peersOf returns the peers, by name and sorted, that a node tells under a set of advertisements.
func (b *board) peersOf(t *telling, node string) []string {
	var peers []string
	for _, id := range t.adverts {
		adv := b.bgp[id]
		if !adv.Nodes.Has(node) {
			continue
		}
		for _, p := range b.facts.Config.Peers {
			if adv.Peers.Has(p.Name) && p.Nodes.Has(node) && slices.Contains(p.Families, t.family) {
				peers = append(peers, p.Name)
			}
		}
	}
	slices.Sort(peers)
	return slices.Compact(peers)
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
	i, ok := b.index[name]
	switch {
	case ok && b.members[i].obstacle != none && !b.members[i].obstacle.soft():
		return b.members[i].obstacle
	case !ok && name != b.facts.Node:
		return noSpeaker
	case !ok && b.ownObstacle() != none && !b.ownObstacle().soft():
		return b.ownObstacle()
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
