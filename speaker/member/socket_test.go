package member

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestSocket sends from sockets of each kind to each address they can reach, and back to where the packet says it is from.
func TestSocket(t *testing.T) {
	for _, c := range []struct{ bind, to, back string }{
		{"127.0.0.1", "127.0.0.1", "127.0.0.1"},
		{"::1", "::1", "::1"},
		{"::", "127.0.0.1", "127.0.0.1"},
		{"::", "::1", "::1"},
		{"::", "::ffff:127.0.0.1", "127.0.0.1"},
		{"0.0.0.0", "127.0.0.1", "127.0.0.1"},
		{"127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"},
	} {
		t.Run(c.bind+" to "+c.to, func(t *testing.T) {
			a, b := openSocket(t, c.bind), openSocket(t, c.bind)
			for _, size := range []int{1, 1400, 60000} {
				text := bytes.Repeat([]byte{'x'}, size)
				if err := a.send(text, netip.AddrPortFrom(netip.MustParseAddr(c.to), b.port())); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, packetMost)
				n, from, err := b.receive(buf)
				if err != nil || !bytes.Equal(buf[:n], text) {
					t.Fatalf("received %d bytes, %v; want %d", n, err, size)
				}
				if want := netip.AddrPortFrom(netip.MustParseAddr(c.back), a.port()); from != want {
					t.Fatalf("from %s, want %s", from, want)
				}
				if err := b.send(text, from); err != nil {
					t.Fatal(err)
				}
				if n, _, err := a.receive(buf); n != size || err != nil {
					t.Fatalf("came back: %d bytes, %v; want %d", n, err, size)
				}
			}
		})
	}
}

func TestSocketErrors(t *testing.T) {
	s := openSocket(t, "127.0.0.1")
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port())
	if err := s.send(make([]byte, packetMost), to); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too long a packet: %v", err)
	}
	if err := s.send([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr("::1"), s.port())); err == nil {
		t.Error("an IPv4 socket sends to an IPv6 address")
	}
	ended := make(chan error)
	go func() {
		_, _, err := s.receive(make([]byte, 1))
		ended <- err
	}()
	s.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("receiving: %v", err)
		}
	case <-time.After(patience):
		t.Error("it receives for ever")
	}
	if err := s.send([]byte("x"), to); !errors.Is(err, net.ErrClosed) {
		t.Errorf("sending: %v", err)
	}
}

func (s *socket) port() uint16 { return s.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func openSocket(t *testing.T, bind string) *socket {
	t.Helper()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(bind), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = udp.Close() })
	if err := udp.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(udp)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
