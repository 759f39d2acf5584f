package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/bgp"
)

// controlClass is the DSCP of network control traffic (CS6, RFC 4594 section 3.1) as the IP header carries it.
const controlClass = 0xc0

// dialTCP connects to the neighbour, waiting no longer than its connect time.
func dialTCP(ctx context.Context, n bgp.Neighbor) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   n.Connect,
		KeepAlive: -1, // KEEPALIVE messages do this, and the hold timer judges
		Control:   func(network, _ string, raw syscall.RawConn) error { return setSocket(raw, n) },
	}
	if n.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.Source, 0))
	}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(n.Address, n.Port).String())
}

// setSocket sets the traffic class, and keeps packets to an external peer that must be on a connected subnet from going further.
func setSocket(raw syscall.RawConn, n bgp.Neighbor) error {
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		level, class, hops := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
		if n.Address.Is6() {
			level, class, hops = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
		}
		err = unix.SetsockoptInt(int(fd), level, class, controlClass)
		if err == nil && !n.Internal() && !n.MultiHop {
			err = unix.SetsockoptInt(int(fd), level, hops, 1)
		}
	})
	return errors.Join(ctlErr, err)
}

// dialTrouble says in an operator's words why no connection came about.
func dialTrouble(n bgp.Neighbor, err error) string {
	remote := netip.AddrPortFrom(n.Address, n.Port)
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Sprintf("%s refuses TCP connections: no BGP speaker listens there, or it does not know this node's address", remote)
	case errors.Is(err, unix.EADDRNOTAVAIL) && n.Source.IsValid():
		return fmt.Sprintf("sourceAddress %s is not an address of this node", n.Source)
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return fmt.Sprintf("no way to %s from this node: %s", n.Address, rootCause(err))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		hint := ""
		if !n.Internal() && !n.MultiHop {
			hint = "; ebgpMultiHop is off, so it must be on a subnet of this node"
		}
		return fmt.Sprintf("%s does not answer within %s%s", remote, n.Connect.Round(time.Millisecond), hint)
	default:
		return fmt.Sprintf("cannot connect to %s: %s", remote, rootCause(err))
	}
}

// rootCause strips the addresses that net puts around an error; they change with every try (the local port) and would look like news.
func rootCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return err
}

// localAddress returns our end of a connection; the zero Addr when it has none that is an IP address.
func localAddress(c net.Conn) netip.Addr {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// hostNICs lists the interfaces of this process's network namespace that are up.
func hostNICs() ([]bgp.NIC, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var out []bgp.NIC
	for _, i := range list {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue // gone meanwhile, or useless as next hop
		}
		nic := bgp.NIC{Name: i.Name}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				nic.Addrs = append(nic.Addrs, p.Addr().Unmap())
			}
		}
		out = append(out, nic)
	}
	return out, nil
}
