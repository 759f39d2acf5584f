package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

// controlClass is the DSCP of network control traffic (CS6, RFC 4594 section 3.1) as the IP header carries it.
const controlClass = 0xc0

// DialTCP connects to the neighbour from the network namespace of the calling thread, waiting no longer than its connect time.
func DialTCP(ctx context.Context, n bgp.Neighbor) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   n.Connect,
		KeepAlive: -1, // KEEPALIVE messages do this, and the hold timer judges
		Control:   func(network, _ string, raw syscall.RawConn) error { return setSocket(raw, n) },
	}
	if n.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.Source, 0))
	}
	addr := n.Address
	if addr.Zone() != "" { // by number: the net package remembers those of names for a minute, and an interface made anew has another
		ifi, err := net.InterfaceByName(addr.Zone())
		if err != nil {
			return nil, err
		}
		addr = addr.WithZone(strconv.Itoa(ifi.Index))
	}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, n.Port).String())
}

// setSocket makes the socket one that suits the neighbour.
func setSocket(raw syscall.RawConn, n bgp.Neighbor) error {
	var err error
	ctlErr := raw.Control(func(fd uintptr) {
		for _, o := range socketOptions(n) {
			if err = o.set(int(fd)); err != nil {
				err = &optionError{o.name, err}
				return
			}
		}
	})
	return errors.Join(ctlErr, err)
}

// option is a socket option to set; name says for the operator what it is for.
type option struct {
	name string
	set  func(fd int) error
}

// optionError says that an option could not be set.
type optionError struct {
	name string
	err  error
}

func (e *optionError) Error() string { return e.name + ": " + e.err.Error() }
func (e *optionError) Unwrap() error { return e.err }

func socketOptions(n bgp.Neighbor) []option {
	level, class, hops, least := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL, unix.IP_MINTTL
	if n.Over6() {
		level, class, hops, least = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	number := func(name string, level, opt, value int) option {
		return option{name, func(fd int) error { return unix.SetsockoptInt(fd, level, opt, value) }}
	}
	options := []option{number("traffic class", level, class, controlClass)}
	switch {
	case n.TTLSecurity: // RFC 5082: what comes from further away than the link has a smaller one
		options = append(options, number("ttlSecurity", level, hops, 255), number("ttlSecurity", level, least, 255))
	case !n.Internal() && !n.MultiHop: // keeps packets to a router that must be on a connected subnet from going further
		options = append(options, number("time to live", level, hops, 1))
	}
	if n.Device != "" {
		options = append(options, option{"vrf", func(fd int) error { return unix.BindToDevice(fd, n.Device) }})
	}
	if n.Password != "" {
		options = append(options, option{"password", func(fd int) error { return setPassword(fd, n.Address, n.Password) }})
	}
	return options
}

// setPassword has the kernel sign all segments to the address, and ignore those from it that are not signed (RFC 2385).
func setPassword(fd int, to netip.Addr, password config.Password) error {
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	if len(password) > len(sig.Key) {
		return fmt.Errorf("it has %d octets, and TCP MD5 takes no more than %d", len(password), len(sig.Key))
	}
	copy(sig.Key[:], password)
	if to.Is4() {
		addr := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sig.Addr))
		addr.Family, addr.Addr = unix.AF_INET, to.As4()
	} else {
		addr := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sig.Addr))
		addr.Family, addr.Addr = unix.AF_INET6, to.As16()
	}
	return unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig)
}

// dialTrouble says in an operator's words why no connection came about.
func dialTrouble(n bgp.Neighbor, err error) string {
	remote := netip.AddrPortFrom(n.Address, n.Port)
	var timeout net.Error
	var option *optionError
	var nowhere *unlocated
	switch {
	case errors.As(err, &nowhere):
		return nowhere.words
	case errors.As(err, &option):
		return optionTrouble(n, option)
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Sprintf("%s refuses TCP connections: no BGP speaker listens there, or it does not know this node's address", remote)
	case errors.Is(err, unix.EADDRNOTAVAIL) && n.Source.IsValid():
		return fmt.Sprintf("sourceAddress %s is not an address of this node", n.Source)
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return fmt.Sprintf("no way to %s from this node: %s%s", n.Address, rootCause(err), distanceHint(n))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("%s does not answer%s", remote, silenceHints(n))
	default:
		return fmt.Sprintf("cannot connect to %s: %s", remote, rootCause(err))
	}
}

// silenceHints says which of the settings may be the reason that a router does not answer.
func silenceHints(n bgp.Neighbor) string {
	hint := distanceHint(n)
	if n.TTLSecurity {
		hint = "; ttlSecurity is on: the router must be on a subnet of this node, and have it on, too"
	}
	if n.Password != "" {
		hint += "; a router that has another password, or none, does not answer either"
	}
	return hint
}

// distanceHint says that a router far away is not reached on purpose. Routers between answer the small time to live with an error that looks
// like one of the routing table.
func distanceHint(n bgp.Neighbor) string {
	if n.TTLSecurity || n.Internal() || n.MultiHop {
		return ""
	}
	return "; ebgpMultiHop is off, so it must be on a subnet of this node"
}

func optionTrouble(n bgp.Neighbor, e *optionError) string {
	switch {
	case e.name == "vrf" && errors.Is(e.err, unix.ENODEV):
		return fmt.Sprintf("the device %s of spec.vrf does not exist on this node", n.Device)
	case errors.Is(e.err, unix.EPERM):
		return fmt.Sprintf("%s: not permitted; the speaker lacks a capability (CAP_NET_RAW for vrf)", e.name)
	case errors.Is(e.err, unix.ENOPROTOOPT):
		return fmt.Sprintf("%s: the kernel of this node cannot do that", e.name)
	}
	return e.Error()
}

// rootCause strips the addresses that net puts around an error; they change with every try (the local port) and would look like news.
func rootCause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if sys, ok := errors.AsType[*os.SyscallError](err); ok {
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

// HostNICs lists the interfaces that are up in the network namespace of the calling thread.
func HostNICs() ([]bgp.NIC, error) {
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
