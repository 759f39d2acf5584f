package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Segments of the laboratory, as templates for their addresses: the number of a host stands in both families at the end.
type segmentPlan struct {
	name         string
	format4      string
	format6      string
	bits4, bits6 int
}

func lanPlan() segmentPlan  { return segmentPlan{"lan", "192.168.100.%d", "fd00:100::%d", 24, 64} }
func farPlan() segmentPlan  { return segmentPlan{"far", "172.30.0.%d", "fd00:30::%d", 24, 64} }
func mgmtPlan() segmentPlan { return segmentPlan{"mgmt", "10.10.0.%d", "fd00:10::%d", 24, 64} }

// Numbers of the hosts on their segments.
const (
	routerNumber  = 1
	controlNumber = 10 // node-1 is 11, and so on
	clientNumber  = 50
	maxNodes      = 30
)

// addrs returns a host's addresses, IPv4 first.
func (s segmentPlan) addrs(number int) []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr(fmt.Sprintf(s.format4, number)), netip.MustParseAddr(fmt.Sprintf(s.format6, number)),
	}
}

// prefixes returns a host's addresses with the segment's prefix lengths.
func (s segmentPlan) prefixes(number int) []netip.Prefix {
	a := s.addrs(number)
	return []netip.Prefix{netip.PrefixFrom(a[0], s.bits4), netip.PrefixFrom(a[1], s.bits6)}
}

// subnets returns the segment's own prefixes.
func (s segmentPlan) subnets() []netip.Prefix {
	p := s.prefixes(0)
	return []netip.Prefix{p[0].Masked(), p[1].Masked()}
}

// podRanges returns what the Pods of node number i get their addresses from.
func podRanges(i int) []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i)), netip.MustParsePrefix(fmt.Sprintf("fd00:244:0:%x::/64", i)),
	}
}

// quiet keeps routers from telling hosts about shorter ways, which hosts would remember: a measurement would then see
// the first node that it met for ever.
func quiet(h *netlab.Host) error {
	return errors.Join(
		h.Sysctl("net.ipv4.conf.all.send_redirects", "0"),
		h.Sysctl("net.ipv4.conf.default.send_redirects", "0"),
		h.Sysctl("net.ipv6.conf.all.accept_redirects", "0"),
		h.Sysctl("net.ipv6.conf.default.accept_redirects", "0"),
	)
}

// host makes a host with redirects off.
func (l *Lab) host(name string) (*netlab.Host, error) {
	h, err := l.Network.Host(name)
	if err != nil {
		return nil, err
	}
	return h, quiet(h)
}

// buildNetwork makes all segments and hosts, with their addresses and routes.
func (l *Lab) buildNetwork() error {
	var err error
	if l.Network, err = netlab.New(netlab.Options{}); err != nil {
		return err
	}
	for _, s := range []struct {
		plan segmentPlan
		at   **netlab.Segment
	}{{lanPlan(), &l.LAN}, {farPlan(), &l.Far}, {mgmtPlan(), &l.Mgmt}} {
		if *s.at, err = l.Network.Segment(s.plan.name); err != nil {
			return err
		}
	}
	if err := l.buildControl(); err != nil {
		return err
	}
	if err := l.buildOutside(); err != nil {
		return err
	}
	for i := 1; i <= l.o.Nodes; i++ {
		if err := l.buildNode(i); err != nil {
			return err
		}
	}
	return l.connectPods()
}

func (l *Lab) buildControl() (err error) {
	if l.Control, err = l.host("control"); err != nil {
		return err
	}
	_, err = l.Control.Join(l.Mgmt, "eth0", mgmtPlan().prefixes(controlNumber)...)
	return err
}

// buildOutside makes the router and the clients.
func (l *Lab) buildOutside() (err error) {
	if l.RouterHost, err = l.host("router"); err != nil {
		return err
	}
	if err = l.RouterHost.EnableForwarding(); err != nil {
		return err
	}
	if _, err = l.RouterHost.Join(l.LAN, "eth0", lanPlan().prefixes(routerNumber)...); err != nil {
		return err
	}
	if _, err = l.RouterHost.Join(l.Far, "eth1", farPlan().prefixes(routerNumber)...); err != nil {
		return err
	}
	if l.Client, err = l.client("client", l.LAN, lanPlan()); err != nil {
		return err
	}
	l.FarClient, err = l.client("client-far", l.Far, farPlan())
	return err
}

func (l *Lab) client(name string, segment *netlab.Segment, plan segmentPlan) (*netlab.Host, error) {
	h, err := l.host(name)
	if err != nil {
		return nil, err
	}
	if _, err := h.Join(segment, "eth0", plan.prefixes(clientNumber)...); err != nil {
		return nil, err
	}
	return h, defaultRoutes(h, plan.addrs(routerNumber))
}

func (l *Lab) buildNode(i int) error {
	n := &Node{lab: l, Name: fmt.Sprintf("node-%d", i), Addresses: lanPlan().addrs(controlNumber + i), PodCIDRs: podRanges(i), number: i}
	var err error
	if n.Host, err = l.host(n.Name); err != nil {
		return err
	}
	if err = n.Host.EnableForwarding(); err != nil {
		return err
	}
	if n.LAN, err = n.Host.Join(l.LAN, "eth0", lanPlan().prefixes(controlNumber+i)...); err != nil {
		return err
	}
	if n.Mgmt, err = n.Host.Join(l.Mgmt, "eth1", mgmtPlan().prefixes(controlNumber+i)...); err != nil {
		return err
	}
	l.Nodes = append(l.Nodes, n)
	return defaultRoutes(n.Host, lanPlan().addrs(routerNumber))
}

// connectPods tells the nodes and the control plane, over the management segment, where the Pods are. The control plane
// reaches the nodes' LAN addresses the same way: kubectl logs works while a node's LAN cable is cut.
func (l *Lab) connectPods() error {
	var errs []error
	for _, n := range l.Nodes {
		gateways := mgmtPlan().addrs(controlNumber + n.number)
		for family, via := range gateways {
			for _, other := range l.Nodes {
				if other != n {
					errs = append(errs, other.Host.AddRoute(n.PodCIDRs[family], via))
				}
			}
			own := netip.PrefixFrom(n.Addresses[family], n.Addresses[family].BitLen())
			errs = append(errs, l.Control.AddRoute(n.PodCIDRs[family], via), l.Control.AddRoute(own, via))
		}
	}
	return errors.Join(errs...)
}

func defaultRoutes(h *netlab.Host, via []netip.Addr) error {
	return errors.Join(
		h.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), via[0]),
		h.AddRoute(netip.PrefixFrom(netip.IPv6Unspecified(), 0), via[1]),
	)
}
