package parse

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/heraldlb/herald/config"
)

// networks remembers the cluster's ServiceCIDRs.
type networks struct {
	all   []serviceNetwork // sorted
	epoch uint64           // counts changes
}

type serviceNetwork struct {
	netip.Prefix
	name string // of the ServiceCIDR
}

// parse returns the prefixes from which the cluster takes ClusterIPs. What is not one is the API server's to refuse.
func (n *networks) parse(objs []*networkingv1.ServiceCIDR) []netip.Prefix {
	var all []serviceNetwork
	for _, o := range objs {
		for _, text := range o.Spec.CIDRs {
			if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
				all = append(all, serviceNetwork{p.Masked(), o.Name})
			}
		}
	}
	slices.SortFunc(all, func(a, b serviceNetwork) int {
		return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), strings.Compare(a.name, b.name))
	})
	if n.epoch == 0 || !slices.Equal(n.all, all) {
		n.all = all
		n.epoch++
	}
	var out []netip.Prefix
	for _, s := range n.all {
		out = append(out, s.Prefix)
	}
	return slices.Compact(out)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// occupied is a range that belongs to somebody else than the pools.
type occupied struct {
	config.Range
	name string // whose it is, for people
}

// occupants are ranges of one sort that belong to somebody else.
type occupants struct {
	each   []occupied
	merged []config.Range // all of them, to answer quickly that there are none
}

func newOccupants(each []occupied) occupants {
	ranges := make([]config.Range, len(each))
	for i, o := range each {
		ranges[i] = o.Range
	}
	return occupants{each, mergeRanges(ranges)}
}

// within lists the occupants that have an address of the ranges, which are sorted and disjoint.
func (o *occupants) within(ranges []config.Range) []string {
	if _, any := overlap(o.merged, ranges); !any {
		return nil
	}
	var found []string
	for _, one := range o.each {
		if both, ok := overlap([]config.Range{one.Range}, ranges); ok {
			found = append(found, fmt.Sprintf("%s (%s)", both, one.name))
		}
	}
	return found
}

// surroundings is what pools must keep clear of. It is gathered when it changed and a pool asks.
type surroundings struct {
	nodeEpoch, networkEpoch, gatewayEpoch uint64
	nodes, pods, clusterIPs, gateways     occupants
}

// around returns what pools must keep clear of, up to date.
func (w *world) around() *surroundings {
	s := &w.memory.around
	if s.nodeEpoch != w.memory.nodes.epoch {
		s.nodeEpoch = w.memory.nodes.epoch
		var nodes, pods []occupied
		for _, e := range w.memory.nodes.all {
			for _, a := range e.node.Addresses {
				nodes = append(nodes, occupied{config.Range{From: a, To: a}, e.node.Name})
			}
			for _, p := range e.pods {
				pods = append(pods, occupied{rangeOf(p), "pods of " + e.node.Name})
			}
		}
		s.nodes, s.pods = newOccupants(nodes), newOccupants(pods)
	}
	if s.networkEpoch != w.memory.networks.epoch {
		s.networkEpoch = w.memory.networks.epoch
		var all []occupied
		for _, n := range w.memory.networks.all {
			all = append(all, occupied{rangeOf(n.Prefix), "ServiceCIDR " + n.name})
		}
		s.clusterIPs = newOccupants(all)
	}
	if s.gatewayEpoch != w.memory.gateways.epoch {
		s.gatewayEpoch = w.memory.gateways.epoch
		s.gateways = newOccupants(w.memory.gateways.all)
	}
	return s
}

func rangeOf(p netip.Prefix) config.Range { return config.Range{From: p.Addr(), To: lastOf(p)} }

// crossing finds what a pool has in common with nodes, their gateways and pods, and ClusterIPs. The answer is kept until one of them changes.
func (w *world) crossing(spec *poolSpec) []config.Problem {
	s := w.around()
	if spec.nodeEpoch == s.nodeEpoch && spec.networkEpoch == s.networkEpoch && spec.gatewayEpoch == s.gatewayEpoch {
		return spec.crossing
	}
	spec.nodeEpoch, spec.networkEpoch, spec.gatewayEpoch, spec.crossing = s.nodeEpoch, s.networkEpoch, s.gatewayEpoch, nil
	given := config.Subtract(spec.ranges, spec.excluded)
	for _, c := range []struct {
		with         *occupants
		reason, text string
	}{
		{&s.nodes, NodeAddress, "the pool contains addresses of nodes, which are never given to a Service: "},
		{&s.gateways, GatewayAddress, "the pool contains default gateways, which are never given to a Service: "},
		{&s.pods, PodCIDR, "the pool contains addresses that pods get, take them out: "},
		{&s.clusterIPs, ServiceCIDR, "the pool contains addresses that ClusterIPs are taken from, take them out: "},
	} {
		if found := c.with.within(given); len(found) > 0 {
			spec.crossing = append(spec.crossing, config.Problem{Field: "spec.addresses", Reason: c.reason, Warning: true, Message: c.text + few(found)})
		}
	}
	return spec.crossing
}
