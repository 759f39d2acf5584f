package member

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func transports(t *testing.T) (a, b *transport) {
	t.Helper()
	var both [2]*transport
	for i := range both {
		tr, err := openTransport(netip.AddrPortFrom(loopback(), 0), unheeded())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tr.Shutdown() })
		both[i] = tr
	}
	return both[0], both[1]
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case x := <-ch:
		return x
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// TestPacketsAreTheirOwn: a packet is not changed by the next.
func TestPacketsAreTheirOwn(t *testing.T) {
	a, b := transports(t)
	for _, text := range []string{"the first", "another"} {
		if _, err := a.WriteToAddress([]byte(text), memberlist.Address{Addr: b.bind.String()}); err != nil {
			t.Fatal(err)
		}
	}
	first, second := receive(t, b.PacketCh()), receive(t, b.PacketCh())
	if string(first.Buf) != "the first" || string(second.Buf) != "another" {
		t.Errorf("got %q and %q", first.Buf, second.Buf)
	}
	if got := first.From.String(); got != a.bind.String() {
		t.Errorf("from %s, want %s", got, a.bind)
	}
	if since := time.Since(first.Timestamp); since < 0 || since > patience {
		t.Errorf("received %v ago", since)
	}
}

// TestAPacketIsCheap: with a buffer of 64 KiB for each, as memberlist's own transport has it, a speaker at rest makes 2 MiB of garbage per second.
func TestAPacketIsCheap(t *testing.T) {
	const packets, most = 200, 4 << 10
	a, b := transports(t)
	text := bytes.Repeat([]byte{'x'}, 100)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range packets {
		if _, err := a.WriteTo(text, b.bind.String()); err != nil {
			t.Fatal(err)
		}
		receive(t, b.PacketCh())
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / packets; each > most {
		t.Errorf("%d bytes for a packet, want %d at most", each, most)
	}
}

// TestAnswersAreNotAnswered: who sends the answer to a probe waits for nothing.
func TestAnswersAreNotAnswered(t *testing.T) {
	a, b := transports(t)
	var overdue []netip.AddrPort
	a.answers.overdue = func(addr netip.AddrPort) { overdue = append(overdue, addr) }
	send := func() {
		t.Helper()
		if _, err := a.WriteToAddress([]byte("x"), memberlist.Address{Addr: b.bind.String(), Name: "b"}); err != nil {
			t.Fatal(err)
		}
		a.answers.look(time.Now().Add(time.Hour))
	}
	a.AckPayload()
	send()
	if len(overdue) > 0 {
		t.Errorf("after the answer to a probe: overdue %v", overdue)
	}
	send()
	if want := []netip.AddrPort{b.bind}; !slices.Equal(overdue, want) {
		t.Errorf("after a probe: overdue %v, want %v", overdue, want)
	}
}

// TestAKnockWakesNobody: the kernel answers it, and the process hears nothing of it.
func TestAKnockWakesNobody(t *testing.T) {
	l, err := listenQuietly(netip.AddrPortFrom(loopback(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if got := knock(at, 1, patience); got != welcome {
		t.Fatalf("a knock: %v", got)
	}
	stream, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, want := in.RemoteAddr().String(), stream.LocalAddr().String(); got != want {
		t.Errorf("the first connection that comes is from %s, want %s", got, want)
	}
}

func TestStreams(t *testing.T) {
	a, b := transports(t)
	out, err := a.DialAddressTimeout(memberlist.Address{Addr: b.bind.String()}, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	in := receive(t, b.StreamCh())
	defer in.Close()
	if n, err := in.Read(make([]byte, 4)); n != 1 || err != nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestShutdownWaitsForNobody: neither for who would take what came, nor for what never comes.
func TestShutdownWaitsForNobody(t *testing.T) {
	a, b := transports(t)
	if _, err := a.WriteTo([]byte("x"), b.bind.String()); err != nil {
		t.Fatal(err)
	}
	conn, err := a.DialTimeout(b.bind.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 {
		for _, tr := range []*transport{a, b} {
			if err := tr.Shutdown(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := a.WriteTo([]byte("x"), b.bind.String()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	again, err := openTransport(b.bind, unheeded())
	if err != nil {
		t.Fatalf("the address is still in use: %v", err)
	}
	_ = again.Shutdown()
}

func TestATakenPortIsSaid(t *testing.T) {
	a, _ := transports(t)
	if _, err := openTransport(a.bind, unheeded()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("TCP is taken: %v", err)
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback(), 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	bind := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := openTransport(bind, unheeded()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("UDP is taken: %v", err)
	}
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind)) // it must have been let go
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
