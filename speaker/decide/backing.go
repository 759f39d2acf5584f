package decide

import (
	"slices"

	"github.com/heraldlb/herald/config"
)

// backing says where a Service has endpoints that count.
type backing struct {
	any   bool    // somewhere there is an endpoint to deliver to
	local bool    // only nodes that hold one may announce
	nodes []int32 // local: the members that hold one, sorted
}

// l2Backing applies the endpoint rule of ARP and NDP, where one node answers: serving terminating endpoints count only if nothing is
// ready anywhere, so that the address follows the ready ones.
func (b *board) l2Backing(svc *config.Service) *backing {
	counts := svc.Endpoints.Ready
	if total(counts) == 0 {
		counts = svc.Endpoints.Serving
	}
	k := &backing{any: total(counts) > 0, local: svc.TrafficPolicy == config.Local}
	if !k.local {
		return k
	}
	for node, n := range counts {
		if i, ok := b.index[node]; ok && n > 0 {
			k.nodes = append(k.nodes, i)
		}
	}
	slices.Sort(k.nodes) // and so the order of the map does not matter
	return k
}

// total counts endpoints.
func total(counts map[string]int) int {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// bgpBacked reports whether the Service has an endpoint anywhere that counts for BGP.
func bgpBacked(svc *config.Service) bool {
	return total(svc.Endpoints.Ready)+total(svc.Endpoints.Serving) > 0
}

// onNode applies the endpoint rule of BGP under the policy Local, where many nodes announce: a node goes on while anything on it serves,
// so that flows to a terminating endpoint are not cut; kube-proxy there delivers to it when nothing on the node is ready.
func onNode(svc *config.Service, node string) bool {
	return svc.Endpoints.Ready[node] > 0 || svc.Endpoints.Serving[node] > 0
}

// weight is the share of traffic that a node should get for a Service: its ready endpoints under the policy Local. A node that has only
// terminating ones left gets the smallest share, as saying nothing would make routers ignore the weights of all. Under the policy Cluster
// every node reaches all endpoints, so nothing is said (0).
func weight(svc *config.Service, node string) uint32 {
	if svc.TrafficPolicy != config.Local {
		return 0
	}
	return uint32(max(svc.Endpoints.Ready[node], 1))
}
