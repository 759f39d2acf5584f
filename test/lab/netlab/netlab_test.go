package netlab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// two is a network of two hosts on one segment.
type two struct {
	net  *Network
	a, b *Host
	port *Port // b's
}

func newTwo(t *testing.T) two {
	t.Helper()
	Need(t)
	n, err := New(Options{Prefix: "t" + strconv.Itoa(os.Getpid()) + "-"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	seg, err := n.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	w := two{net: n, a: mustHost(t, n, "a"), b: mustHost(t, n, "b")}
	if _, err := w.a.Join(seg, "eth0", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("fd00::1/64")); err != nil {
		t.Fatal(err)
	}
	if w.port, err = w.b.Join(seg, "eth0", netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("fd00::2/64")); err != nil {
		t.Fatal(err)
	}
	return w
}

func mustHost(t *testing.T, n *Network, name string) *Host {
	t.Helper()
	h, err := n.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// greets answers every connection to address of h with a word, until the test ends.
func greets(t *testing.T, h *Host, address, word string) string {
	t.Helper()
	l, err := h.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, word)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func hear(h *Host, address string, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestHostsTalkInBothFamilies(t *testing.T) {
	w := newTwo(t)
	for _, address := range []string{"192.0.2.2:0", "[fd00::2]:0", "[" + linkLocal(t, w.b, "eth0") + "%eth0]:0"} {
		t.Run(address, func(t *testing.T) {
			got, err := hear(w.a, greets(t, w.b, address, "hello"), time.Minute)
			if err != nil || got != "hello" {
				t.Errorf("heard %q, %v", got, err)
			}
		})
	}
	if _, err := hear(w.a, "b:80", time.Second); err == nil {
		t.Error("a name was dialled")
	}
}

func linkLocal(t *testing.T, h *Host, ifname string) string {
	t.Helper()
	addrs, err := h.Addrs(ifname)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.Addr().IsLinkLocalUnicast() {
			return a.Addr().String()
		}
	}
	t.Fatalf("%s of %s has no link-local address", ifname, h.Name())
	return ""
}

func running(t *testing.T, h *Host, ifname string) bool {
	t.Helper()
	ifi, err := h.Interface(ifname)
	if err != nil {
		t.Fatal(err)
	}
	return ifi.Flags&net.FlagRunning != 0
}

func TestPortFailures(t *testing.T) {
	nft := "needs nft"
	if _, err := exec.LookPath("nft"); err == nil {
		nft = ""
	}
	ctx := context.Background()
	for _, tt := range []struct {
		name        string
		fail, mend  func(p *Port) error
		carrierLost bool
		skip        string
	}{
		{"cut", (*Port).Cut, (*Port).Restore, true, ""},
		{"block", (*Port).Block, (*Port).Unblock, false, ""},
		{"lose all", func(p *Port) error { return p.Lose(ctx, 1) }, func(p *Port) error { return p.Lose(ctx, 0) }, false, nft},
		{"drop tcp", func(p *Port) error { return p.Drop(ctx, "udp dport 7", "meta l4proto tcp") }, func(p *Port) error { return p.Drop(ctx) }, false, nft},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.skip != "" {
				t.Skip(tt.skip)
			}
			w := newTwo(t)
			address := greets(t, w.b, "192.0.2.2:0", "hello")
			if _, err := hear(w.a, address, time.Minute); err != nil {
				t.Fatalf("before: %v", err)
			}
			if err := tt.fail(w.port); err != nil {
				t.Fatal(err)
			}
			if got, err := hear(w.a, address, 300*time.Millisecond); err == nil {
				t.Errorf("heard %q through a dead cable", got)
			}
			if lost := !running(t, w.b, "eth0"); lost != tt.carrierLost {
				t.Errorf("carrier lost: %t, want %t", lost, tt.carrierLost)
			}
			if !running(t, w.a, "eth0") {
				t.Error("the other host's carrier is lost too")
			}
			if err := tt.mend(w.port); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the hosts to talk again", func() bool { _, err := hear(w.a, address, time.Second); return err == nil })
		})
	}
}

func TestLoseRefusesNonsense(t *testing.T) {
	w := newTwo(t)
	for _, p := range []float64{-0.1, 1.1} {
		if err := w.port.Lose(context.Background(), p); err == nil {
			t.Errorf("loss of %v accepted", p)
		}
	}
}

func TestRouting(t *testing.T) {
	w := newTwo(t)
	far := mustHost(t, w.net, "far")
	if err := w.net.Veth(w.b, "far0", far, "eth0"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		w.b.EnableForwarding(),
		w.b.AddAddr("far0", netip.MustParsePrefix("198.51.100.1/24")),
		far.AddAddr("eth0", netip.MustParsePrefix("198.51.100.2/24")),
		far.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("198.51.100.1")),
		w.a.AddRoute(netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("192.0.2.2")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := hear(w.a, greets(t, far, "198.51.100.2:0", "far"), time.Minute); got != "far" {
		t.Errorf("heard %q, %v", got, err)
	}
	if err := w.a.DelRoute(netip.MustParsePrefix("198.51.100.0/24")); err != nil {
		t.Error(err)
	}
}

func TestCommandsRunInside(t *testing.T) {
	w := newTwo(t)
	ctx := context.Background()
	direct, err := w.b.Output(ctx, "ip", "-br", "address")
	if err != nil || !strings.Contains(direct, "192.0.2.2/24") {
		t.Errorf("ip address on b: %q, %v", direct, err)
	}
	named, err := exec.Command("ip", "netns", "exec", w.b.Name(), "ip", "-br", "address").Output()
	if err != nil || string(named) != direct {
		t.Errorf("by name: %q, %v; want %q", named, err, direct)
	}
	if _, err := w.b.Output(ctx, "sh", "-c", "echo because >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "because") {
		t.Errorf("a failed command gives %v", err)
	}
}

func TestDoNestsAndReturns(t *testing.T) {
	w := newTwo(t)
	read := func(h *Host) (mac string) {
		err := h.Do(func() error {
			ifi, err := net.InterfaceByName("eth0")
			if err == nil {
				mac = ifi.HardwareAddr.String()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return mac
	}
	var inner, outer string
	err := w.a.Do(func() error {
		inner, outer = read(w.b), read(w.a)
		_, err := net.InterfaceByName("eth0")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if inner == outer || inner != read(w.b) {
		t.Errorf("addresses %s and %s", inner, outer)
	}
	if _, err := net.InterfaceByName("eth0"); err == nil {
		t.Error("the thread did not come back")
	}
}

func TestHostsComeAndGo(t *testing.T) {
	w := newTwo(t)
	for range 3 {
		h := mustHost(t, w.net, "pod")
		if err := w.net.Veth(w.a, "pod0", h, "eth0"); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.a.Interface("pod0"); err == nil {
			t.Error("the host's cable stays plugged in")
		}
		if w.net.Lookup("pod") != nil {
			t.Error("the host is still listed")
		}
	}
}

func TestWrongNames(t *testing.T) {
	w := newTwo(t)
	for _, name := range []string{"", "a", ".x", "a/b", "../x", "ä"} {
		if _, err := w.net.Host(name); err == nil {
			t.Errorf("host %q made", name)
		}
	}
	for _, name := range []string{"", "lan", "sixteen-letters-", "a b"} {
		if _, err := w.net.Segment(name); err == nil {
			t.Errorf("segment %q made", name)
		}
	}
}

func TestForwardRefusesNames(t *testing.T) {
	w := newTwo(t)
	if _, err := Forward(w.a, "name:80"); err == nil {
		t.Error("a name was accepted as target")
	}
}
