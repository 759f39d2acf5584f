package member

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket sends and receives packets by system calls that never wait and that Go's scheduler is not told of. Each one that it is told of wakes its
// monitor thread in a process that is otherwise at rest, which was a quarter of what a speaker with nothing to do cost. One goroutine receives.
type socket struct {
	*net.UDPConn
	raw syscall.RawConn
	six bool // an IPv6 socket, to which IPv4 addresses are mapped ones

	take func(fd uintptr) bool // receives what follows
	into []byte
	from unix.RawSockaddrInet6 // or a shorter one
	size int
	err  error
}

func newSocket(udp *net.UDPConn) (*socket, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{UDPConn: udp, raw: raw}
	s.take = s.receiveNow
	var domain int
	if e := raw.Control(func(fd uintptr) { domain, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN) }); e != nil {
		return nil, e
	}
	s.six = domain == unix.AF_INET6
	return s, err
}

// receive waits for a packet; one that is longer than the buffer is cut off.
func (s *socket) receive(buf []byte) (n int, from netip.AddrPort, err error) {
	s.into = buf
	err = s.raw.Read(s.take)
	s.into = nil
	if err == nil {
		err = s.err
	}
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	return s.size, readAddr(&s.from), nil
}

// receiveNow receives into the fields of s; it reports false when there is nothing to receive yet.
func (s *socket) receiveNow(fd uintptr) bool {
	s.err = nil
	for {
		room := uint32(unix.SizeofSockaddrInet6)
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.into))), uintptr(len(s.into)),
			unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&s.from)), uintptr(unsafe.Pointer(&room)))
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case 0:
			s.size = int(n)
		default:
			s.err = fmt.Errorf("recvfrom: %w", errno)
		}
		return true
	}
}

// send sends a packet. It waits while the socket has no room.
func (s *socket) send(b []byte, to netip.AddrPort) error {
	if to.Addr().Zone() != "" || !s.six && !to.Addr().Unmap().Is4() || len(b) == 0 {
		_, err := s.WriteToUDPAddrPort(b, to)
		return err
	}
	var sa unix.RawSockaddrInet6
	size := s.sockaddr(&sa, to)
	errno := unix.EINTR
	err := s.raw.Control(func(fd uintptr) {
		for errno == unix.EINTR {
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
				unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&sa)), size)
		}
	})
	switch {
	case err != nil:
		return err
	case errno == unix.EAGAIN:
		_, err = s.WriteToUDPAddrPort(b, to)
		return err
	case errno != 0:
		return fmt.Errorf("sendto %s: %w", to, errno)
	}
	return nil
}

// sockaddr writes an address as this socket wants it; it returns its size.
func (s *socket) sockaddr(sa *unix.RawSockaddrInet6, to netip.AddrPort) uintptr {
	if s.six {
		sa.Family, sa.Port, sa.Addr = unix.AF_INET6, swapped(to.Port()), to.Addr().As16()
		return unix.SizeofSockaddrInet6
	}
	four := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
	four.Family, four.Port, four.Addr = unix.AF_INET, swapped(to.Port()), to.Addr().Unmap().As4()
	return unix.SizeofSockaddrInet4
}

// readAddr reads what the kernel wrote. The zone of a link-local address is the number of its interface.
func readAddr(sa *unix.RawSockaddrInet6) netip.AddrPort {
	if sa.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swapped(four.Port))
	}
	addr := netip.AddrFrom16(sa.Addr).Unmap()
	if sa.Scope_id != 0 && addr.Is6() {
		addr = addr.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
	}
	return netip.AddrPortFrom(addr, swapped(sa.Port))
}

// swapped turns a port in this machine's order of bytes into one in the network's, and back.
func swapped(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}
