package adjacent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// kernel is the Host that this thread's network namespace belongs to.
type kernel struct{}

// Listen implements Host. It needs CAP_NET_RAW.
func (kernel) Listen(iface string) (Conn, net.HardwareAddr, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, nil, fmt.Errorf("this node has no interface %s", iface)
	}
	conn, addr, err := ndp.Listen(ifi, ndp.LinkLocal)
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, nil, fmt.Errorf("no router can be looked for on %s: not permitted, the speaker lacks CAP_NET_RAW", iface)
	case err != nil:
		return nil, nil, fmt.Errorf("no router can be looked for on %s: %w", iface, err)
	case !addr.IsLinkLocalUnicast():
		conn.Close()
		return nil, nil, fmt.Errorf("the interface %s has no IPv6 link-local address", iface)
	}
	if err := prepare(conn); err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("no router can be looked for on %s: %w", iface, err)
	}
	return conn, ifi.HardwareAddr, nil
}

// prepare lets router advertisements and solicitations in, and nothing else.
func prepare(conn *ndp.Conn) error {
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	return errors.Join(
		conn.SetICMPFilter(&filter),
		conn.SetControlMessage(ipv6.FlagHopLimit, true),
		conn.JoinGroup(netip.IPv6LinkLocalAllNodes()),
		conn.JoinGroup(netip.IPv6LinkLocalAllRouters()),
	)
}

// Neighbors implements Host.
func (kernel) Neighbors(iface string) ([]netip.Addr, error) {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return nil, err
	}
	list, err := netlink.NeighList(link.Attrs().Index, unix.AF_INET6)
	if err != nil {
		return nil, err
	}
	const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	var out []netip.Addr
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && a.IsLinkLocalUnicast() && n.State&known != 0 {
			out = append(out, a)
		}
	}
	return out, nil
}
