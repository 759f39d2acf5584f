package member

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestLifeline: a line is held as long as both ends live, and what else comes at the gossip port is sorted out.
func TestLifeline(t *testing.T) {
	a, b := transports(t)
	ctx := t.Context()
	opened, ended := make(chan struct{}, 1), make(chan bool, 1)
	go func() { ended <- holdLine(ctx, b.bind, func() { poke(opened) }) }()
	receive(t, opened)

	knocked, err := a.DialTimeout(b.bind.String(), patience) // says nothing
	if err != nil {
		t.Fatal(err)
	}
	knocked.Close()
	out, err := a.DialTimeout(b.bind.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("stream")); err != nil {
		t.Fatal(err)
	}
	out.Close()
	in := receive(t, b.StreamCh())
	defer in.Close()
	if got, err := io.ReadAll(in); string(got) != "stream" || err != nil {
		t.Errorf("the stream brought %q, %v", got, err)
	}
	select {
	case <-ended:
		t.Fatal("the line ended")
	case conn := <-b.StreamCh():
		t.Fatalf("another stream: %v", conn)
	default:
	}
	if err := b.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if !receive(t, ended) {
		t.Error("it never was open")
	}
}

// TestLinesHaveABound: who opens more than there may be loses them, and nobody else suffers.
func TestLinesHaveABound(t *testing.T) {
	a, b := transports(t)
	b.lines.Store(linesHeld)
	conn, err := a.DialTimeout(b.bind.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{lineGreeting}); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the line is held: %v", err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // of a connection, as it is
	return ok && e.Timeout()
}

// TestWatched: in a large cluster each speaker watches a few and is watched by as many.
func TestWatched(t *testing.T) {
	for _, n := range []int{1, 5, 40, 41, 100} {
		all := map[string]netip.AddrPort{}
		for i := range n {
			all[fmt.Sprintf("node-%03d", i)] = port(i)
		}
		by := map[string]int{}
		for self := range all {
			peers := map[string]netip.AddrPort{}
			for name, addr := range all {
				if name != self {
					peers[name] = addr
				}
			}
			for name, addr := range watched(self, peers) {
				if name == self || addr != all[name] {
					t.Fatalf("%s watches %s at %s", self, name, addr)
				}
				by[name]++
			}
		}
		want := n - 1
		if n > smallCluster {
			want = linesMost
		}
		for name := range all {
			if by[name] != want {
				t.Errorf("of %d, %d watch %s, want %d", n, by[name], name, want)
			}
		}
	}
}
