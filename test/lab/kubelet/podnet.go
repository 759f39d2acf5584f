package kubelet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// podNetwork gives Pods of one node their network namespaces: each is cabled to the node by a pair of veth interfaces,
// the node routes each Pod's addresses to its cable, and the Pod sends everything to the node.
type podNetwork struct {
	network *netlab.Network
	node    *netlab.Host
	ranges  []netip.Prefix // the node's Pod ranges, at most one per family

	mu   sync.Mutex
	used map[netip.Addr]bool
	next map[netip.Prefix]netip.Addr // where to look for a free address: freed ones are used again last
}

func newPodNetwork(network *netlab.Network, node *netlab.Host, ranges []netip.Prefix) *podNetwork {
	return &podNetwork{network: network, node: node, ranges: ranges, used: map[netip.Addr]bool{}, next: map[netip.Prefix]netip.Addr{}}
}

// podGateway returns the address that the node's end of each cable has in the family of the Pod's address, where the Pod's routes lead,
// and how long a prefix holds the one address of a Pod.
func podGateway(pod netip.Addr) (gateway netip.Addr, bits int) {
	if pod.Is6() {
		return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1}), 128 // fe80::1
	}
	return netip.AddrFrom4([4]byte{169, 254, 1, 1}), 32
}

// sandbox is a Pod's place in the network.
type sandbox struct {
	host  *netlab.Host
	addrs []netip.Addr
	name  string // of the network namespace; empty for hostNetwork
}

// add makes a network namespace for a Pod. id is unique on the node and short, as interface names are.
func (n *podNetwork) add(name, id string) (*sandbox, error) {
	host, err := n.network.Host(name)
	if err != nil {
		return nil, err
	}
	s := &sandbox{host: host, name: name}
	if err := n.connect(s, "veth"+id); err != nil {
		return nil, errors.Join(fmt.Errorf("network of Pod: %w", err), n.remove(s))
	}
	return s, nil
}

// remove frees a Pod's addresses and removes its namespace; the cable and the routes go with it.
func (n *podNetwork) remove(s *sandbox) error {
	if s == nil || s.name == "" {
		return nil
	}
	n.mu.Lock()
	for _, a := range s.addrs {
		delete(n.used, a)
	}
	n.mu.Unlock()
	return s.host.Close()
}

func (n *podNetwork) connect(s *sandbox, nodeEnd string) error {
	for _, r := range n.ranges {
		a, err := n.allocate(r)
		if err != nil {
			return err
		}
		s.addrs = append(s.addrs, a)
	}
	if err := n.network.Veth(n.node, nodeEnd, s.host, "eth0"); err != nil {
		return err
	}
	for _, a := range s.addrs {
		gateway, bits := podGateway(a)
		steps := []func() error{
			func() error { return n.node.AddAddr(nodeEnd, netip.PrefixFrom(gateway, gatewayBits(a))) },
			func() error { return s.host.AddAddr("eth0", netip.PrefixFrom(a, bits)) },
			func() error { return linkRoute(n.node, nodeEnd, netip.PrefixFrom(a, bits), netip.Addr{}) },
			func() error { return linkRoute(s.host, "eth0", netip.PrefixFrom(gateway, bits), netip.Addr{}) },
			func() error { return linkRoute(s.host, "eth0", netip.PrefixFrom(zero(a), 0), gateway) },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// allocate takes the next free address of a range; the network address and the first host are left out, as routers use
// them in other set-ups.
func (n *podNetwork) allocate(r netip.Prefix) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := r.Masked().Addr().Next().Next()
	a, ok := n.next[r]
	if !ok {
		a = first
	}
	for range 1 << 8 {
		if !r.Contains(a) || !r.Contains(a.Next()) {
			a = first
		}
		if !n.used[a] {
			n.used[a] = true
			n.next[r] = a.Next()
			return a, nil
		}
		a = a.Next()
	}
	return netip.Addr{}, fmt.Errorf("no free address in %s", r)
}

func gatewayBits(a netip.Addr) int {
	if a.Is4() {
		return 32
	}
	return 64
}

func zero(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// linkRoute adds a route through an interface, by way of a gateway on it if one is given.
func linkRoute(h *netlab.Host, ifname string, dst netip.Prefix, via netip.Addr) error {
	link, err := h.Netlink().LinkByName(ifname)
	if err != nil {
		return err
	}
	r := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen())},
		Scope:     netlink.Scope(unix.RT_SCOPE_LINK),
	}
	if via.IsValid() {
		r.Gw, r.Scope = via.AsSlice(), netlink.Scope(unix.RT_SCOPE_UNIVERSE)
	}
	if err := h.Netlink().RouteReplace(r); err != nil {
		return fmt.Errorf("%s: route %s on %s: %w", h.Name(), dst, ifname, err)
	}
	return nil
}
