package udp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

// The cable: our node has 10.9.0.5 and fd09::5 on wa, the neighbour 10.9.0.1 and fd09::1 on wb, in a network namespace of its own.
const (
	nearIF, farIF   = "wa", "wb"
	near4, far4     = "10.9.0.5", "10.9.0.1"
	near6, far6     = "fd09::5", "fd09::1"
	nearLink, farLL = "fe80::5", "fe80::1"
)

// cable is a node and a neighbour with an Ethernet cable between them.
type cable struct {
	t  testing.TB
	do func(func()) // at the neighbour's
}

func newCable(t testing.TB) *cable {
	t.Helper()
	nettest.Veth(t, nearIF, farIF)
	c := &cable{t: t, do: nettest.Elsewhere(t, farIF)}
	setAddresses(t, nearIF, near4+"/24", near6+"/64", nearLink+"/64")
	c.do(func() { setAddresses(t, farIF, far4+"/24", far6+"/64", farLL+"/64") })
	return c
}

// setAddresses sets the interface, and the loopback beside it, up with the addresses.
func setAddresses(t testing.TB, name string, list ...string) {
	t.Helper()
	nettest.Up(t, "lo")
	nettest.Up(t, name)
	for _, s := range list {
		a, err := netlink.ParseAddr(s)
		must(t, err)
		a.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrReplace(nettest.Link(t, name), a))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// sever makes both ends send to a MAC that nobody has, so that all is lost and no one is told; undo mends it.
func (c *cable) sever() (undo func()) {
	c.t.Helper()
	nowhere, err := net.ParseMAC("02:00:00:00:00:99")
	must(c.t, err)
	each := func(f func(*netlink.Neigh) error) {
		for _, s := range []string{near4, near6, far4, far6} {
			name, do := farIF, c.do
			if s == far4 || s == far6 {
				name, do = nearIF, func(f func()) { f() }
			}
			do(func() {
				n := &netlink.Neigh{LinkIndex: nettest.Link(c.t, name).Attrs().Index, IP: net.ParseIP(s), HardwareAddr: nowhere, State: netlink.NUD_PERMANENT}
				must(c.t, f(n))
			})
		}
	}
	each(netlink.NeighSet)
	return func() { each(netlink.NeighDel) }
}

// elsewhere opens sockets at the neighbour's.
type elsewhere struct {
	do func(func())
}

func (n elsewhere) Listen(p bfd.Port) (l bfd.Listener, err error) {
	n.do(func() { l, err = Network{}.Listen(p) })
	return l, err
}

func (n elsewhere) Dial(e bfd.Endpoint) (s bfd.Sender, err error) {
	n.do(func() { s, err = Network{}.Dial(e) })
	return s, err
}

// runner is a bfd.Runner that runs.
type runner struct {
	*bfd.Runner
	t    testing.TB
	stop func() // ends it and waits
}

// start runs a Runner until the end of the test, if not stopped before.
func start(t testing.TB, n bfd.Network) *runner {
	t.Helper()
	r := &runner{Runner: bfd.New(bfd.Options{Network: n, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))}), t: t}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// testLog writes to the log of the test.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// of returns the status of a session; a zero one if there is none.
func (r *runner) of(key string) bfd.Status {
	for _, s := range r.Sessions() {
		if s.Key == key {
			return s
		}
	}
	return bfd.Status{}
}

// until waits until the status of the session satisfies the condition, and returns it.
func (r *runner) until(key, what string, holds func(bfd.Status) bool) bfd.Status {
	r.t.Helper()
	deadline := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond) // Changed tells one reader only, and conditions may be about more than the session
	defer again.Stop()
	for {
		if s := r.of(key); holds(s) {
			return s
		}
		select {
		case <-r.Changed():
		case <-again.C:
		case <-deadline:
			r.t.Fatalf("waited in vain for %s; it is %+v, dropped %+v", what, r.of(key), r.Dropped())
		}
	}
}

func (r *runner) up(key string) bfd.Status {
	r.t.Helper()
	return r.until(key, "up", func(s bfd.Status) bool { return s.State == bfd.Up })
}

// settled waits until the session is up with the given interval of ours and the given detection time.
func (r *runner) settled(key string, interval, detection time.Duration) bfd.Status {
	r.t.Helper()
	return r.until(key, "up with "+interval.String()+", "+detection.String(), func(s bfd.Status) bool {
		return s.State == bfd.Up && s.TransmitInterval == interval && s.DetectionTime == detection
	})
}

func profile(interval time.Duration) config.BFDProfile {
	return config.BFDProfile{ReceiveInterval: interval, TransmitInterval: interval, DetectMultiplier: 3}
}

const ms = time.Millisecond

// nsOf returns the network namespace in which do runs its functions.
func nsOf(t testing.TB, do func(func())) int {
	t.Helper()
	var ns netns.NsHandle
	var err error
	do(func() { ns, err = netns.Get() })
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return int(ns)
}

// forward makes the namespace of this thread a router.
func forward(t testing.TB) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
}
