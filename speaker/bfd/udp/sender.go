package udp

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/bfd"
)

// The source ports that RFC 5881 section 4 allows.
const (
	firstSource = 49152
	sources     = 65536 - firstSource
)

// networkControl is the DSCP of network control traffic (CS6, RFC 4594 section 3.1) as the IP header carries it.
const networkControl = 0xc0

// priority is the most that a packet may have in this node's queues without CAP_NET_ADMIN.
const priority = 6

// Dial opens a socket that speaks to the neighbour. Its source port depends on the endpoint, so that a session keeps it (RFC 5881 section
// 4) also when the socket is opened anew; where it is taken, the next one serves.
func (Network) Dial(e bfd.Endpoint) (bfd.Sender, error) {
	index := 0
	if e.Interface != "" {
		ifi, err := net.InterfaceByName(e.Interface)
		if err != nil {
			return nil, fmt.Errorf("there is no interface %s on this node: %w", e.Interface, cause(err))
		}
		index = ifi.Index
	}
	first := sourcePort(e)
	for i := range sources {
		conn, err := dial(e, index, firstSource+(first+i)%sources)
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, trouble(e, err)
		}
		return &sender{conn: conn, local: conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(), index: index}, nil
	}
	return nil, fmt.Errorf("no UDP port from %d up is free for BFD", firstSource)
}

func sourcePort(e bfd.Endpoint) int {
	h := fnv.New32a()
	fmt.Fprint(h, e)
	return int(h.Sum32() % sources)
}

func dial(e bfd.Endpoint, index, port int) (net.Conn, error) {
	remote := e.Peer
	local := e.Local
	if index != 0 && remote.Is6() && remote.IsLinkLocalUnicast() {
		remote = remote.WithZone(strconv.Itoa(index))
	}
	if index != 0 && local.Is6() && local.IsLinkLocalUnicast() {
		local = local.WithZone(strconv.Itoa(index))
	}
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if remote.Is6() {
			local = netip.IPv6Unspecified()
		}
	}
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, uint16(port))),
		Control: func(_, _ string, raw syscall.RawConn) error {
			return control(raw, func(fd int) error { return prepareSender(fd, e) })
		},
	}
	return d.DialContext(context.Background(), "udp", netip.AddrPortFrom(remote, e.Port().Number()).String())
}

func prepareSender(fd int, e bfd.Endpoint) error {
	opts := []option{{unix.IPPROTO_IP, unix.IP_TTL, 255}, {unix.IPPROTO_IP, unix.IP_TOS, networkControl}}
	if e.Peer.Is6() {
		opts = []option{{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255}, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS, networkControl}}
	}
	if err := set(fd, append(opts, option{unix.SOL_SOCKET, unix.SO_PRIORITY, priority})); err != nil {
		return err
	}
	device := e.VRF
	if e.Interface != "" {
		device = e.Interface
	}
	if device == "" {
		return nil
	}
	return bindToDevice(fd, device)
}

// trouble says in an operator's words why packets cannot be sent.
func trouble(e bfd.Endpoint, err error) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL) && e.Local.IsValid():
		return fmt.Errorf("%s is not an address of this node: %w", e.Local, cause(err))
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return fmt.Errorf("no way to %s from this node: %w", e.Peer, cause(err))
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("sending BFD packets to %s is not allowed (a firewall of this node, or CAP_NET_RAW is missing): %w", e.Peer, cause(err))
	default:
		return fmt.Errorf("sending BFD packets to %s: %w", e.Peer, cause(err))
	}
}

// sender is a connected socket, so that the kernel tells when nobody listens at the other end.
type sender struct {
	conn  net.Conn
	local netip.Addr
	index int
}

// refusals is how many refusals of earlier packets are taken before it is given up to send this one.
const refusals = 3

// Send sends one packet. A refusal is about an earlier one, and kept the kernel from sending this one: it is sent again.
func (s *sender) Send(payload []byte) error {
	var refused error
	for range refusals {
		_, err := s.conn.Write(payload)
		switch {
		case err == nil:
			return refused
		case errors.Is(err, unix.ECONNREFUSED):
			refused = bfd.ErrRefused
		default:
			return fmt.Errorf("sending BFD packets: %w", cause(err))
		}
	}
	return refused
}

func (s *sender) Local() netip.Addr { return s.local.Unmap().WithZone("") }
func (s *sender) Interface() int    { return s.index }
func (s *sender) Close() error      { return s.conn.Close() }

// option is a socket option with an int as value.
type option struct{ level, name, value int }

func set(fd int, opts []option) error {
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option %d/%d: %w", o.level, o.name, err)
		}
	}
	return nil
}

func bindToDevice(fd int, device string) error {
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to device %s: %w", device, err)
	}
	return nil
}

// control runs f on the socket before it is bound.
func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	ctl := raw.Control(func(fd uintptr) { err = f(int(fd)) })
	return errors.Join(ctl, err)
}

// cause strips what net puts around an error: addresses and ports that change with every try would look like news.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}
