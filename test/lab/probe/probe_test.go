package probe

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }

// world is an asking host and two answering ones on a segment.
type world struct {
	client, b, c *netlab.Host
	portB        *netlab.Port
}

func newWorld(t *testing.T) world {
	t.Helper()
	netlab.Need(t)
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	n, err := netlab.New(netlab.Options{})
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
	join := func(name string, last int) (*netlab.Host, *netlab.Port) {
		h, err := n.Host(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.Join(seg, "eth0", netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", last)), netip.MustParsePrefix(fmt.Sprintf("2001:db8::%d/64", last)))
		if err != nil {
			t.Fatal(err)
		}
		return h, p
	}
	var w world
	w.client, _ = join("client", 1)
	w.b, w.portB = join("b", 2)
	w.c, _ = join("c", 3)
	return w
}

func mac(t *testing.T, h *netlab.Host) string {
	t.Helper()
	ifi, err := h.Interface("eth0")
	if err != nil {
		t.Fatal(err)
	}
	return ifi.HardwareAddr.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func own(t *testing.T, h *netlab.Host, ip netip.Addr) {
	t.Helper()
	must(t, h.AddAddr("eth0", netip.PrefixFrom(ip, ip.BitLen())))
}

func eachFamily(t *testing.T, f func(t *testing.T, ip netip.Addr)) {
	for _, ip := range []netip.Addr{v4, v6} {
		t.Run(ip.String(), func(t *testing.T) { f(t, ip) })
	}
}

func TestResolve(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip netip.Addr) {
		w := newWorld(t)
		ask := func() []string {
			answers, err := Resolve(t.Context(), w.client, "eth0", ip, 200*time.Millisecond)
			must(t, err)
			return MACs(answers)
		}
		if got := ask(); len(got) != 0 {
			t.Errorf("nobody has it, %v answer", got)
		}
		// The kernel takes an IPv6 address into service a moment after it was added.
		own(t, w.b, ip)
		var got []string
		waitFor(t, "one answer", func() bool { got = ask(); return len(got) > 0 })
		if len(got) != 1 || got[0] != mac(t, w.b) {
			t.Errorf("%v answer, want %s", got, mac(t, w.b))
		}
		own(t, w.c, ip)
		waitFor(t, "two answers", func() bool { return len(ask()) == 2 })
	})
}

func TestResolveEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Resolve(ctx, w.client, "eth0", v4, time.Minute); err == nil {
		t.Error("no error")
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

// TestNextEndsWhenever ends the context at whatever moment of a wait.
func TestNextEndsWhenever(t *testing.T) {
	w := newWorld(t)
	a, err := openAsker(w.client, "eth0", netip.MustParseAddr("192.0.2.99"))
	must(t, err)
	defer a.conn.Close()
	const patience = 30 * time.Second
	for n := range 5_000 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		begin := time.Now()
		_, err := a.nextWithin(ctx, begin.Add(patience))
		if took := time.Since(begin); took > patience*2/3 {
			t.Fatalf("try %d: waited %s after the context had ended (%v)", n, took, err)
		}
	}
}

func TestResolveExplains(t *testing.T) {
	w := newWorld(t)
	if _, err := Resolve(t.Context(), w.client, "eth7", v4, time.Second); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("unknown interface: %v", err)
	}
	must(t, w.client.DelAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")))
	if _, err := Resolve(t.Context(), w.client, "eth0", v4, time.Second); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("no address: %v", err)
	}
}

func TestFirstAnswer(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip netip.Addr) {
		w := newWorld(t)
		time.AfterFunc(100*time.Millisecond, func() {
			if err := w.b.AddAddr("eth0", netip.PrefixFrom(ip, ip.BitLen())); err != nil {
				t.Error(err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		got, err := FirstAnswer(ctx, w.client, "eth0", ip, 10*time.Millisecond)
		if err != nil || got.MAC.String() != mac(t, w.b) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestContinuousSeesAMove moves an address from b to c, with a silence between.
func TestContinuousSeesAMove(t *testing.T) {
	eachFamily(t, func(t *testing.T, ip netip.Addr) {
		w := newWorld(t)
		own(t, w.b, ip)
		c, err := NewContinuous(w.client, "eth0", ip, 10*time.Millisecond)
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		moved := make(chan error, 1)
		go func() {
			defer cancel()
			moved <- func() error {
				time.Sleep(time.Second)
				if err := w.b.DelAddr("eth0", netip.PrefixFrom(ip, ip.BitLen())); err != nil {
					return err
				}
				time.Sleep(2 * time.Second)
				defer time.Sleep(time.Second)
				return w.c.AddAddr("eth0", netip.PrefixFrom(ip, ip.BitLen()))
			}()
		}()
		report, err := c.Run(ctx)
		must(t, err)
		must(t, <-moved)
		gap := report.LongestGap()
		if gap.Before != mac(t, w.b) || gap.After != mac(t, w.c) || gap.Duration() < 1900*time.Millisecond {
			t.Errorf("longest gap %s, from %s to %s", gap.Duration(), gap.Before, gap.After)
		}
		if spans := report.Spans(); len(spans) != 2 || report.Returned() || spans[0].Answers < 5 || spans[1].Answers < 5 {
			t.Errorf("spans %+v", spans)
		}
		if report.Asked < 50 {
			t.Errorf("asked %d times in %s", report.Asked, report.End.Sub(report.Begin))
		}
	})
}

func TestAnnouncements(t *testing.T) {
	w := newWorld(t)
	a, err := NewAnnouncements(w.client, "eth0")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	// The kernel itself announces a new hardware address when it is told to.
	must(t, w.b.Sysctl("net.ipv4.conf.eth0.arp_notify", "1"))
	link, err := w.b.Netlink().LinkByName("eth0")
	must(t, err)
	must(t, w.b.Netlink().LinkSetHardwareAddr(link, macA))
	send(t, w.c, unix.ETH_P_IPV6, naFrame(t, false))
	send(t, w.c, unix.ETH_P_IPV6, naFrame(t, true)) // an answer to somebody is no announcement

	waitFor(t, "both announcements", func() bool {
		return len(a.Of(netip.MustParseAddr("192.0.2.2"))) > 0 && len(a.Of(v6)) > 0
	})
	if got := a.Of(netip.MustParseAddr("192.0.2.2")); got[0].MAC.String() != macA.String() || got[0].Time.IsZero() {
		t.Errorf("ARP: %+v", got)
	}
	cancel()
	must(t, <-done)
	if got := a.Of(v6); len(got) != 1 || got[0].Kind != KindNA {
		t.Errorf("NA: %+v", got)
	}
}

func send(t *testing.T, h *netlab.Host, protocol int, frame []byte) {
	t.Helper()
	ifi, err := h.Interface("eth0")
	must(t, err)
	conn, err := listen(h, ifi, protocol)
	must(t, err)
	defer conn.Close()
	all := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1} // to all nodes
	_, err = conn.WriteTo(append(bytes.Clone(all), frame[6:]...), &packet.Addr{HardwareAddr: all})
	must(t, err)
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

// serve answers HTTP on b: "/" with a word, everything else with 404.
func serve(t *testing.T, h *netlab.Host, address string) string {
	t.Helper()
	l, err := h.Listen("tcp", address)
	must(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	s := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

func TestGet(t *testing.T) {
	w := newWorld(t)
	for _, address := range []string{"192.0.2.2:0", "[2001:db8::2]:0"} {
		url := "http://" + serve(t, w.b, address)
		r, err := Get(t.Context(), w.client, url+"/", 10*time.Second)
		if err != nil || r.Status != 200 || r.Body != "hello" || r.Took <= 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if r, err := Get(t.Context(), w.client, url+"/missing", 10*time.Second); err == nil || r.Status != 404 {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

func TestFirstGet(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := FirstGet(ctx, w.client, "http://192.0.2.2:80/", 10*time.Second); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody listens: %v", err)
	}
	ready := make(chan string, 1)
	go func() {
		time.Sleep(100 * time.Millisecond)
		ready <- serve(t, w.b, "192.0.2.2:80")
	}()
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := FirstGet(ctx, w.client, "http://192.0.2.2:80/", time.Second)
	if err != nil || r.Body != "hello" {
		t.Errorf("%+v, %v", r, err)
	}
	<-ready
}

func TestConnectsSeeAnOutage(t *testing.T) {
	w := newWorld(t)
	c := NewConnects(w.client, serve(t, w.b, "192.0.2.2:0"), 10*time.Millisecond, 900*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan Attempts, 1)
	go func() { result <- c.Run(ctx) }()
	time.Sleep(time.Second)
	must(t, w.portB.Block())
	time.Sleep(2 * time.Second)
	must(t, w.portB.Unblock())
	time.Sleep(2 * time.Second)
	cancel()
	l := <-result
	if got := l.LongestOutage(); got < 1300*time.Millisecond || got > 20*time.Second {
		t.Errorf("outage of 2 s measured as %s; %d of %d failed", got, l.Failed(), len(l))
	}
	if l.Failed() == 0 || l.Failed() == len(l) || l[0].Err != nil || l[len(l)-1].Err != nil {
		t.Errorf("%d of %d failed", l.Failed(), len(l))
	}
}
