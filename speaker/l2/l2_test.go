package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

const (
	macA = "02:00:00:00:00:0a"
	macB = "02:00:00:00:00:0b"
	macX = "02:00:00:00:00:ff" // foreign
)

// world runs a reconciler on a modelled network in synctest's time.
type world struct {
	*network
	r   *Reconciler
	log logbook
}

// set hands copies over, for the test goes on with its own.
func (w *world) set(desired []decide.L2Address, links []config.Interface) {
	w.r.Set(slices.Clone(desired), slices.Clone(links))
}

// start runs the reconciler until end is called, which waits for it.
func (w *world) start() (end func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.r.Run(ctx) }()
	return func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
}

func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{network: newNetwork(t)}
		w.r = newReconciler(Options{Log: w.log.logger(), Probe: true}, w.openers())
		end := w.start()
		test(t, w)
		end()
		if left := w.answers(); left != "" {
			t.Errorf("after Run these still answer:\n%s", left)
		}
		for name, rs := range w.open {
			if len(rs) > 0 {
				t.Errorf("left open: %s", name)
			}
		}
	})
}

// check waits until all is quiet and compares who answers, and what Actual says of it.
func (w *world) check(what string, want ...string) {
	w.t.Helper()
	synctest.Wait()
	slices.Sort(want)
	if diff := cmp.Diff(strings.Join(want, "\n"), w.answers()); diff != "" {
		w.t.Errorf("%s: answers (-want +got):\n%s", what, diff)
	}
	actual := []string{}
	for _, h := range w.r.Actual() {
		actual = append(actual, fmt.Sprint(h.Interface, " ", h.Address))
	}
	wantActual := []string{}
	for _, line := range want { // "eth0 ARP 192.0.2.1 at MAC"
		f := strings.Fields(line)
		wantActual = append(wantActual, f[0]+" "+f[2])
	}
	slices.Sort(actual)
	slices.Sort(wantActual)
	if diff := cmp.Diff(wantActual, actual); diff != "" {
		w.t.Errorf("%s: Actual (-want +got):\n%s", what, diff)
	}
}

func (w *world) said(what string, want ...string) {
	w.t.Helper()
	synctest.Wait()
	got := w.take()
	slices.Sort(got) // of several interfaces none is first
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s: announcements (-want +got):\n%s", what, diff)
	}
}

func TestTakeover(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA), up("eth1", 3, macB)}
		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth0", "eth1"), wished("2001:db8::1", "eth0"), wished("192.0.2.2", "eth9")}, links)
		w.check("set", "eth0 ARP 192.0.2.1 at "+macA, "eth1 ARP 192.0.2.1 at "+macB, "eth0 NDP 2001:db8::1 at "+macA)
		pass(3 * time.Second)
		synctest.Wait()
		var want []string
		for _, at := range []string{"0s", "50ms", "200ms", "1s", "2s"} {
			want = append(want, at+" eth0 ARP 192.0.2.1 at "+macA, at+" eth0 NDP 2001:db8::1 at "+macA, at+" eth1 ARP 192.0.2.1 at "+macB)
		}
		got := w.take()
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("burst (-want +got):\n%s", diff)
		}

		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth1")}, links)
		w.check("partly let go", "eth1 ARP 192.0.2.1 at "+macB)
		pass(10 * time.Second)
		w.said("nothing new to announce")
		w.r.Set(nil, links)
		w.check("all let go")
		pass(2 * time.Minute)
		w.said("nothing to refresh")
	})
}

func TestAddingOpensNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth0")}, links)
		w.check("one", "eth0 ARP 192.0.2.1 at "+macA)
		since := w.r.Actual()[0].Since
		pass(5 * time.Second)
		w.take()
		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth0"), wished("192.0.2.2", "eth0")}, links)
		w.check("two", "eth0 ARP 192.0.2.1 at "+macA, "eth0 ARP 192.0.2.2 at "+macA)
		w.said("only the new one", "5s eth0 ARP 192.0.2.2 at "+macA)
		actual := w.r.Actual()
		if w.opened != 1 || !actual[0].Since.Equal(since) || actual[1].Since.Sub(since) != 5*time.Second {
			t.Errorf("opened %d sockets, holdings %v", w.opened, actual)
		}
	})
}

func TestRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := wished("192.0.2.1", "eth0")
		a.Refresh = time.Minute
		w.r.Set([]decide.L2Address{a}, []config.Interface{up("eth0", 2, macA)})
		pass(2100 * time.Millisecond)
		synctest.Wait()
		w.take()
		pass(time.Hour)
		synctest.Wait()
		if n := len(w.take()); n < 3600/66 || n > 3600/54+1 {
			t.Errorf("%d announcements an hour, want one each 54 to 66 s", n)
		}
	})
}

func TestLinkChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		desired := []decide.L2Address{wished("192.0.2.1", "eth0")}
		link := up("eth0", 2, macA)
		w.r.Set(desired, []config.Interface{link})
		w.check("up", "eth0 ARP 192.0.2.1 at "+macA)
		pass(4 * time.Second)
		w.take()

		link.MAC = macB // bond failover
		w.r.Set(desired, []config.Interface{link})
		w.check("another MAC", "eth0 ARP 192.0.2.1 at "+macB)
		w.said("with the new MAC", "4s eth0 ARP 192.0.2.1 at "+macB)
		if w.opened != 1 {
			t.Errorf("a new MAC opened a socket")
		}
		pass(4 * time.Second)
		w.take()

		link.Stirred++ // carrier lost for a moment, a virtual machine moved
		w.r.Set(desired, []config.Interface{link})
		w.said("at its new place", "8s eth0 ARP 192.0.2.1 at "+macB)
		pass(4 * time.Second)
		w.take()

		link.Up = false
		w.r.Set(desired, []config.Interface{link})
		w.check("down")
		link.Up = true
		w.r.Set(desired, []config.Interface{link})
		w.check("up again", "eth0 ARP 192.0.2.1 at "+macB)
		w.said("announced again", "12s eth0 ARP 192.0.2.1 at "+macB)

		link.Index = 7 // removed and made anew
		w.r.Set(desired, []config.Interface{link})
		w.check("new interface", "eth0 ARP 192.0.2.1 at "+macB)
		w.r.Set(desired, nil)
		w.check("gone")
		if len(w.r.Counts()) != 0 {
			t.Errorf("counts of an interface that is gone: %v", w.r.Counts())
		}
	})
}

func TestOneFailsTheOthersGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA), up("eth1", 3, macB)}
		w.setRefuse("eth0 ARP", errors.New("no such device"))
		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth0", "eth1"), wished("2001:db8::1", "eth0")}, links)
		w.check("eth0 refuses ARP", "eth1 ARP 192.0.2.1 at "+macB, "eth0 NDP 2001:db8::1 at "+macA)
		pass(time.Minute)
		synctest.Wait()
		want := []string{`level=WARN msg="cannot answer on the interface; trying again" interface=eth0 protocol=ARP error="open: no such device"`}
		if diff := cmp.Diff(want, w.log.take()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
		w.setRefuse("eth0 ARP", nil)
		pass(10 * time.Second)
		all := []string{"eth0 ARP 192.0.2.1 at " + macA, "eth1 ARP 192.0.2.1 at " + macB, "eth0 NDP 2001:db8::1 at " + macA}
		w.check("it came round", all...)
		w.log.take()

		w.kill("eth1 ARP")
		w.check("a socket died", "eth0 ARP 192.0.2.1 at "+macA, "eth0 NDP 2001:db8::1 at "+macA)
		pass(50 * time.Millisecond)
		w.check("it was opened again", all...)
		want = []string{
			`level=WARN msg="cannot answer on the interface; trying again" interface=eth1 protocol=ARP error="network is down"`,
			`level=INFO msg="answering on the interface again" interface=eth1 protocol=ARP`,
		}
		if diff := cmp.Diff(want, w.log.take()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

// Failures count in a row only: after a long good time the first one is made up for at once.
func TestBackoffStartsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth0")}, []config.Interface{up("eth0", 2, macA)})
		w.check("set", "eth0 ARP 192.0.2.1 at "+macA)
		for _, wait := range []time.Duration{50, 100, 200, 400} {
			w.kill("eth0 ARP")
			pass(wait*time.Millisecond - time.Millisecond)
			w.check("waiting")
			pass(2 * time.Millisecond)
			w.check("opened again", "eth0 ARP 192.0.2.1 at "+macA)
		}
		pass(time.Minute)
		w.kill("eth0 ARP")
		pass(51 * time.Millisecond)
		w.check("after a long good time", "eth0 ARP 192.0.2.1 at "+macA)
	})
}

func TestOneAddressFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		bad := netip.MustParseAddr("2001:db8::2")
		w.setBroken("eth0 NDP", bad, true)
		w.r.Set([]decide.L2Address{wished("2001:db8::1", "eth0"), wished("2001:db8::2", "eth0")}, []config.Interface{up("eth0", 2, macA)})
		w.check("one fails", "eth0 NDP 2001:db8::1 at "+macA)
		pass(time.Minute)
		synctest.Wait()
		w.setBroken("eth0 NDP", bad, false)
		pass(10 * time.Second)
		w.check("tried again", "eth0 NDP 2001:db8::1 at "+macA, "eth0 NDP 2001:db8::2 at "+macA)
	})
}

func TestWithoutPermission(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for _, n := range []string{"eth0 ARP", "eth0 NDP", "eth1 ARP"} {
			w.setRefuse(n, errDenied)
		}
		w.r.Set([]decide.L2Address{wished("192.0.2.1", "eth0", "eth1"), wished("2001:db8::1", "eth0")},
			[]config.Interface{up("eth0", 2, macA), up("eth1", 3, macB)})
		pass(time.Hour)
		w.check("nothing")
		lines := w.log.take()
		if len(lines) != 1 || !strings.Contains(lines[0], "add the capability NET_RAW") {
			t.Errorf("log:\n%s", strings.Join(lines, "\n"))
		}
		if !w.r.Denied() {
			t.Error("not said to be denied")
		}
		for _, n := range []string{"eth0 ARP", "eth0 NDP", "eth1 ARP"} {
			w.setRefuse(n, nil)
		}
		pass(time.Minute)
		if w.r.Denied() {
			t.Error("still said to be denied")
		}
	})
}

func TestConflicts(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		desired := []decide.L2Address{wished("192.0.2.1", "eth0"), wished("192.0.2.2", "eth0")}
		links := []config.Interface{up("eth0", 2, macA), up("eth1", 3, macB)}
		w.r.Set(desired, links)
		pass(3 * time.Second)
		w.take()
		<-w.r.Changed()
		began := time.Now()
		vip := desired[0].Addr
		for range 3 {
			w.claim("eth0 ARP", vip, macX)
			w.claim("eth0 ARP", vip, macB) // our own other interface
			synctest.Wait()
		}
		<-w.r.Changed()
		if c := w.r.Conflicts(); len(c) != 1 || c[0].Count != 1 || c[0].MAC != macX {
			t.Errorf("at once: %v", c)
		}
		pass(1100 * time.Millisecond)
		want := []Conflict{{Addr: vip, Interface: "eth0", MAC: macX, First: began, Last: began, Count: 3}}
		if diff := cmp.Diff(want, w.r.Conflicts(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("a second later (-want +got):\n%s", diff)
		}
		w.said("the reconciler does not decide who wins")
		w.r.Announce(vip)
		w.r.Announce(netip.MustParseAddr("192.0.2.77"))
		w.said("the winner", "4.1s eth0 ARP 192.0.2.1 at "+macA)
		pass(conflictMemory)
		synctest.Wait()
		if c := w.r.Conflicts(); len(c) != 0 {
			t.Errorf("not forgotten: %v", c)
		}

		w.claim("eth0 ARP", vip, macX)
		synctest.Wait()
		w.r.Set(desired[1:], links)
		synctest.Wait()
		if c := w.r.Conflicts(); len(c) != 0 {
			t.Errorf("conflict of an address that was let go: %v", c)
		}
	})
}
