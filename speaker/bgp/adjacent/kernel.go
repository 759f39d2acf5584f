package adjacent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// Kernel is the Host that this thread's network namespace belongs to.
type Kernel struct{}

// Listen implements Host. It needs CAP_NET_RAW.
func (Kernel) Listen(iface string) (Conn, net.HardwareAddr, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, nil, fmt.Errorf("this node has no interface %s", iface)
	}
	own, err := linkLocals(ifi)
	if err != nil {
		return nil, nil, fmt.Errorf("no router can be looked for on %s: %w", iface, err)
	}
	if len(own) == 0 {
		return nil, nil, fmt.Errorf("the interface %s has no IPv6 link-local address", iface)
	}
	conn, err := open(ifi, own[0])
	switch {
	case errors.Is(err, unix.EPERM):
		return nil, nil, fmt.Errorf("no router can be looked for on %s: not permitted, the speaker lacks CAP_NET_RAW", iface)
	case err != nil:
		return nil, nil, fmt.Errorf("no router can be looked for on %s: %w", iface, err)
	}
	return conn, ifi.HardwareAddr, nil
}

func linkLocals(ifi *net.Interface) ([]netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr().WithZone(""))
		}
	}
	return out, nil
}

// socket is a Conn over ICMPv6.
type socket struct {
	conn *icmp.PacketConn
	p    *ipv6.PacketConn
	ifi  *net.Interface
	buf  []byte
}

func open(ifi *net.Interface, from netip.Addr) (*socket, error) {
	// By number: the net package remembers the numbers of names for a minute, and an interface that was made anew has another.
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", from.WithZone(strconv.Itoa(ifi.Index)).String())
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, p: conn.IPv6PacketConn(), ifi: ifi, buf: make([]byte, 1<<16)}
	if err := s.prepare(); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// prepare lets router advertisements and solicitations in, and nothing else. What we send must not come back: the kernel would take this
// node for one of its own neighbours.
func (s *socket) prepare() error {
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	join := func(group netip.Addr) error { return s.p.JoinGroup(s.ifi, &net.IPAddr{IP: group.AsSlice()}) }
	return errors.Join(
		s.p.SetICMPFilter(&filter),
		s.p.SetControlMessage(ipv6.FlagHopLimit, true),
		s.p.SetHopLimit(onlyHop),
		s.p.SetMulticastHopLimit(onlyHop),
		s.p.SetMulticastLoopback(false),
		s.p.SetMulticastInterface(s.ifi),
		s.p.SetChecksum(true, 2),
		join(netip.IPv6LinkLocalAllNodes()),
		join(netip.IPv6LinkLocalAllRouters()),
	)
}

// ReadFrom implements Conn. What cannot be read as a message is skipped.
func (s *socket) ReadFrom() (ndp.Message, *ipv6.ControlMessage, netip.Addr, error) {
	for {
		n, cm, src, err := s.p.ReadFrom(s.buf)
		if err != nil {
			return nil, nil, netip.Addr{}, err
		}
		m, err := ndp.ParseMessage(s.buf[:n])
		if err != nil {
			continue
		}
		if ip, ok := src.(*net.IPAddr); ok {
			if from, ok := netip.AddrFromSlice(ip.IP); ok {
				return m, cm, from, nil
			}
		}
	}
}

// WriteTo implements Conn.
func (s *socket) WriteTo(m ndp.Message, cm *ipv6.ControlMessage, to netip.Addr) error {
	b, err := ndp.MarshalMessage(m)
	if err != nil {
		return err
	}
	_, err = s.p.WriteTo(b, cm, &net.IPAddr{IP: to.AsSlice()}) // the socket is bound to the interface
	return err
}

// Close implements Conn.
func (s *socket) Close() error { return s.conn.Close() }

// Neighbors implements Host.
func (Kernel) Neighbors(iface string) ([]netip.Addr, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, err
	}
	own, err := linkLocals(ifi)
	if err != nil {
		return nil, err
	}
	list, err := netlink.NeighList(ifi.Index, unix.AF_INET6)
	if err != nil {
		return nil, err
	}
	const known = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
	var out []netip.Addr
	for _, n := range list {
		a, ok := netip.AddrFromSlice(n.IP)
		if ok && a.IsLinkLocalUnicast() && n.State&known != 0 && !slices.Contains(own, a) {
			out = append(out, a)
		}
	}
	return out, nil
}
