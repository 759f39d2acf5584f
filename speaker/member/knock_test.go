package member

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full listens on a loopback address and takes no connection, and has no room for more to wait: the kernel does not answer another.
func full(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	to := netip.AddrPortFrom(loopback(), testPort)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: testPort, Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		conn, err := net.DialTimeout("tcp", to.String(), 200*time.Millisecond)
		if err != nil {
			return to
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue of connections does not fill")
	return to
}

func TestKnock(t *testing.T) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(loopback(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening := l.Addr().(*net.TCPAddr).AddrPort()
	l6, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	listening6 := l6.Addr().(*net.TCPAddr).AddrPort()
	tests := []struct {
		name string
		to   netip.AddrPort
		want sign
	}{
		{"a listener that accepts nothing", listening, welcome},
		{"IPv6", listening6, welcome},
		{"nothing listens", netip.AddrPortFrom(loopback(), testPort), refusal},
		{"no answer", full(t), silence},
		{"no way", netip.MustParseAddrPort("255.255.255.255:1"), silence},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			if got := knock(tt.to, 3, knockEvery); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			if took := time.Since(began); tt.want == silence && took < 3*knockEvery {
				t.Errorf("gave up after %v", took)
			}
		})
	}
	l6.Close()
	if got := knock(listening6, 1, patience); got != refusal {
		t.Errorf("nothing listens any more: got %d", got)
	}
}
