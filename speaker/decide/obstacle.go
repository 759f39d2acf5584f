package decide

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// obstacle is what keeps a node from announcing something.
type obstacle uint8

// Obstacles, those of the node as a whole first.
const (
	none obstacle = iota
	noSpeaker
	draining
	networkUnavailable
	drainTaint
	outOfService
	excluded
	cordoned
	unknownNode // soft: its Node object is not known here
	restarting  // soft
	notSelected
	noInterface
	noSubnet
	noEndpoint
	noPeer
	obstacles // how many there are
)

// soft reports whether the node may go on with what it announces, though it is given nothing new. A restarting speaker keeps its
// addresses for as long as its peers wait for it. A node that is not in our snapshot knows something that we do not (our API server
// may be out of reach): to dispute what it claims would make two nodes answer.
func (o obstacle) soft() bool { return o == unknownNode || o == restarting }

// leaving reports whether the node is to be relieved in an orderly way: what it announces goes to others, and only then from it.
func (o obstacle) leaving() bool {
	switch o {
	case draining, drainTaint, outOfService, excluded, cordoned:
		return true
	}
	return false
}

// nodeObstacle judges a node with a live speaker by what does not depend on an address.
func (b *board) nodeObstacle(name string, state State) obstacle {
	node := b.nodes[name]
	relief := b.relief(node, state)
	switch {
	case node != nil && node.NetworkUnavailable:
		return networkUnavailable
	case relief != none:
		return relief
	case node == nil:
		return unknownNode
	case state == Restarting:
		return restarting
	}
	return none
}

// relief says why a node is to be relieved; none when it is not. node is nil when it is not known.
func (b *board) relief(node *config.Node, state State) obstacle {
	switch {
	case state == Draining:
		return draining
	case node == nil:
		return none
	case node.Drain:
		return drainTaint
	case node.OutOfService:
		return outOfService
	case node.ExcludeLB && !b.facts.IgnoreExcludeLB:
		return excluded
	case node.Unschedulable && b.facts.DrainOnCordon:
		return cordoned
	}
	return none
}

// l2Obstacle says why a node may not be given an address by ARP or NDP; none when it may. r is nil without an advertisement.
func (b *board) l2Obstacle(name string, a netip.Addr, r *reach, back *backing) obstacle {
	i, ok := b.index[name]
	if !ok {
		return noSpeaker
	}
	if o := b.members[i].obstacle; o != none && !o.soft() {
		return o
	}
	switch {
	case !r.cover.selected[i]:
		return notSelected
	case len(r.cover.usable[i]) == 0:
		return noInterface
	case r.direct && len(carrying(&b.members[i], r.cover.usable[i], a)) == 0:
		return noSubnet
	case back.local && !contains(back.nodes, i):
		return noEndpoint
	}
	return b.members[i].obstacle
}

// words says an obstacle for a person. adverts names the advertisements, with their kind.
func (o obstacle) words(a netip.Addr, adverts string) string {
	switch o {
	case noSpeaker:
		return "no live speaker"
	case draining:
		return "draining"
	case drainTaint:
		return "taint heraldlb.io/drain"
	case outOfService:
		return "taint node.kubernetes.io/out-of-service"
	case cordoned:
		return "cordoned (drain-on-cordon)"
	case networkUnavailable:
		return "condition NetworkUnavailable"
	case excluded:
		return "label node.kubernetes.io/exclude-from-external-load-balancers"
	case unknownNode:
		return "its Node object is not known"
	case restarting:
		return "speaker restarting"
	case notSelected:
		return "not selected by " + adverts
	case noInterface:
		return "no interface that is up and matches " + adverts
	case noSubnet:
		return "no interface in the subnet of " + a.String()
	case noEndpoint:
		return "no ready endpoint on the node (externalTrafficPolicy Local)"
	case noPeer:
		return "no BGPPeer for " + config.FamilyOf(a).String() + " under " + adverts
	}
	return ""
}

// namesPerObstacle bounds a message: so many nodes are named for each reason, the others counted.
const namesPerObstacle = 3

// tally collects nodes by obstacle for a message.
type tally struct {
	names [obstacles][]string
	count [obstacles]int
}

func (t *tally) add(o obstacle, node string) {
	if o == none {
		return
	}
	t.count[o]++
	if len(t.names[o]) < namesPerObstacle {
		t.names[o] = append(t.names[o], node)
	}
}

// message lists the obstacles and the nodes they keep out, the ones closest to announcing first.
func (t *tally) message(a netip.Addr, adverts string) string {
	var parts []string
	for o := obstacles - 1; o > none; o-- {
		if t.count[o] == 0 {
			continue
		}
		nodes := strings.Join(t.names[o], ", ")
		if more := t.count[o] - len(t.names[o]); more > 0 {
			nodes += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, nodes+": "+o.words(a, adverts))
	}
	if len(parts) == 0 {
		return "no node is eligible: there are no nodes"
	}
	return "no node is eligible: " + strings.Join(parts, "; ")
}

// contains reports whether a sorted set has the member.
func contains(set []int32, i int32) bool {
	_, ok := slices.BinarySearch(set, i)
	return ok
}
