package router

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Shares returns how the host's kernel spreads the flows to a prefix: for each next hop the share that it gets, 1 together. None means that
// there is no such route.
func Shares(h *netlab.Host, p netip.Prefix) (map[netip.Addr]float64, error) {
	family := netlink.FAMILY_V4
	if p.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	list, err := h.Netlink().RouteList(nil, family)
	if err != nil {
		return nil, fmt.Errorf("%s: list routes: %w", h.Name(), err)
	}
	weights, total := map[netip.Addr]float64{}, 0.0
	add := func(hops []netip.Addr, weight int) {
		for _, hop := range hops {
			weights[hop] += float64(weight)
			total += float64(weight)
		}
	}
	for _, kr := range list {
		if r, ok := fromKernel(kr); !ok || r.Prefix != p {
			continue
		}
		var single Route
		single.add(kr.Gw, kr.Via)
		add(single.NextHops, 1)
		for _, hop := range kr.MultiPath {
			var one Route
			one.add(hop.Gw, hop.Via)
			add(one.NextHops, hop.Hops+1) // the kernel counts from 0
		}
	}
	for hop := range weights {
		weights[hop] /= total
	}
	return weights, nil
}
