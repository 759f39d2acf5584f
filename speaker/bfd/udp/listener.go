// Package udp carries BFD over UDP: the sockets of RFC 5881 and RFC 5883, for both address families. What is sent leaves with TTL 255 and
// the traffic class of network control; what is heard comes with the TTL that it had on arrival, which the kernel does not check for UDP
// (IP_MINTTL is for TCP only).
package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
)

// Network opens sockets in the network namespace of the calling thread.
type Network struct{}

// Listen opens a socket that hears everything sent to the port, on any of the node's addresses. The port is not shared: where two daemons
// bind it, the kernel gives all packets to one of them. The error says so when another one has it.
func (Network) Listen(p bfd.Port) (bfd.Listener, error) {
	network := "udp4"
	if p.Family == config.IPv6 {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return prepareListener(fd, p) })
	}}
	conn, err := lc.ListenPacket(context.Background(), network, fmt.Sprintf(":%d", p.Number()))
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, errors.New("another BFD daemon of this node has it (FRR's bfdd or BIRD, perhaps): let that one do without BFD, or Herald")
	case errors.Is(err, unix.EAFNOSUPPORT):
		return nil, fmt.Errorf("this node has no %s", p.Family)
	case errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("binding to a device needs CAP_NET_RAW: %w", cause(err))
	case err != nil:
		return nil, cause(err)
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &listener{raw: raw, close: sync.OnceValue(conn.Close)}, nil
}

func prepareListener(fd int, p bfd.Port) error {
	opts := []option{{unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {unix.IPPROTO_IP, unix.IP_PKTINFO, 1}}
	if p.Family == config.IPv6 {
		opts = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		}
	}
	if err := set(fd, opts); err != nil {
		return err
	}
	if p.VRF == "" {
		return nil
	}
	return bindToDevice(fd, p.VRF)
}

// listener is an open port.
type listener struct {
	raw   syscall.RawConn
	close func() error
	buf   [128]byte // of a packet; the rest of a longer one does not matter
	oob   [128]byte
}

// Wait blocks until there is something to receive. It only peeks, so that Receive, which another goroutine calls, gets everything.
func (l *listener) Wait() error {
	var failed error
	err := l.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if again(err) {
			return false
		}
		failed = err
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("receive: %w", cause(err))
	}
	return nil
}

func again(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)
}

// Receive returns the next datagram, if there is one.
func (l *listener) Receive() (bfd.Datagram, bool) {
	var (
		d  bfd.Datagram
		ok bool
	)
	err := l.raw.Control(func(fd uintptr) {
		n, oobn, _, from, err := unix.Recvmsg(int(fd), l.buf[:], l.oob[:], unix.MSG_DONTWAIT)
		if err != nil {
			return // nothing there; what is worse, Wait will tell
		}
		ok = true
		d.Payload, d.From = l.buf[:n], addrOf(from)
		ancillary(&d, l.oob[:oobn])
	})
	return d, ok && err == nil
}

// Close makes Wait return.
func (l *listener) Close() error { return l.close() }

func addrOf(from unix.Sockaddr) netip.Addr {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr)
	}
	return netip.Addr{}
}

// ancillary reads where the datagram came in, what it was addressed to, and its TTL.
func ancillary(d *bfd.Datagram, oob []byte) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		switch [2]int32{h.Level, h.Type} {
		case [2]int32{unix.IPPROTO_IP, unix.IP_TTL}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
			if len(data) >= 4 {
				d.TTL = int(binary.NativeEndian.Uint32(data))
			}
		case [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO}: // index, address for answers, address in the header
			if len(data) >= unix.SizeofInet4Pktinfo {
				d.Interface = int(binary.NativeEndian.Uint32(data))
				d.To = netip.AddrFrom4([4]byte(data[8:12]))
			}
		case [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}: // address, index
			if len(data) >= unix.SizeofInet6Pktinfo {
				d.To = netip.AddrFrom16([16]byte(data[:16]))
				d.Interface = int(binary.NativeEndian.Uint32(data[16:]))
			}
		}
	}
}
