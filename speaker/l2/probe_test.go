package l2

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// probed is an address that nobody is known to have used.
func probed(s string, interfaces ...string) decide.L2Address {
	a := wished(s, interfaces...)
	a.Probe = true
	return a
}

func (w *world) conflicts() []string {
	synctest.Wait()
	got := []string{}
	for _, c := range w.r.Conflicts() {
		got = append(got, fmt.Sprint(c.Interface, " ", c.Addr, " ", c.MAC, " unanswered=", c.Unanswered))
	}
	return got
}

func (w *world) disputed(what string, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), w.conflicts()); diff != "" {
		w.t.Errorf("%s: conflicts (-want +got):\n%s", what, diff)
	}
}

// A free address is looked for with two probes, and answered for within 20 ms all the same.
func TestProbeFree(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		desired := []decide.L2Address{probed("192.0.2.1", "eth0"), probed("2001:db8::1", "eth0"), wished("192.0.2.2", "eth0")}
		w.set(desired, links)
		w.check("at once", "eth0 ARP 192.0.2.2 at "+macA)
		w.said("only what is answered for", "0s eth0 ARP 192.0.2.2 at "+macA)
		pass(20 * time.Millisecond)
		all := []string{"eth0 ARP 192.0.2.1 at " + macA, "eth0 ARP 192.0.2.2 at " + macA, "eth0 NDP 2001:db8::1 at " + macA}
		w.check("after 20 ms", all...)
		if n := len(w.take()); n != 2 {
			t.Errorf("%d announcements, want one of each", n)
		}
		if p := w.takeProbes(); len(p) != 4 || !strings.HasPrefix(p[0], "0s") || !strings.HasPrefix(p[3], "7ms") {
			t.Errorf("probes %v", p)
		}

		links[0].Up = false
		w.set(desired, links)
		w.check("no carrier")
		links[0].Up = true
		w.set(desired, links)
		w.check("carrier again: it was free before", all...)
		w.kill("eth0 ARP")
		pass(51 * time.Millisecond)
		w.check("the socket died", all...)
		if p := w.takeProbes(); len(p) > 0 {
			t.Errorf("probed again: %v", p)
		}
		w.set(desired[1:], links)
		w.check("let go", all[1:]...)
		w.set(desired, links)
		w.check("wanted anew, it is looked for anew", all[1:]...)
		pass(20 * time.Millisecond)
		w.check("and found free", all...)
		w.disputed("nobody")
	})
}

// An address that is in use is not answered for; ten seconds later we look again, and when its user has gone we take it.
func TestProbeInUse(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		vip := netip.MustParseAddr("192.0.2.1")
		w.use("eth0 ARP", vip, macX)
		desired := []decide.L2Address{probed("192.0.2.1", "eth0"), probed("192.0.2.2", "eth0")}
		w.set(desired, links)
		pass(20 * time.Millisecond)
		free := "eth0 ARP 192.0.2.2 at " + macA
		w.check("in use", free)
		rival := "eth0 192.0.2.1 " + macX + " unanswered=true"
		w.disputed("in use", rival)
		w.takeProbes()

		desired[0].Probe, desired[0].Taken = false, decide.Kept // decide knows our own claim by now
		w.set(desired, links)
		w.r.Announce(vip)
		pass(5 * time.Second)
		w.check("what decide thinks does not make it free", free)
		links[0].Up = false
		w.set(desired, links)
		pass(time.Second)
		links[0].Up = true
		w.set(desired, links)
		pass(time.Second)
		w.check("nor a link that comes back", free)
		pass(10 * time.Minute)
		w.disputed("it is looked for all the time", rival)
		if n := len(w.takeProbes()); n < 54 || n > 70 {
			t.Errorf("%d probes in ten minutes, want one each 9 to 11 s", n)
		}
		for _, s := range w.take() {
			if strings.Contains(s, vip.String()+" ") {
				t.Errorf("announced %s", s)
			}
		}
		if n := len(w.log.take()); n != 2 { // in use, and again after the link
			t.Errorf("%d log lines", n)
		}

		w.use("eth0 ARP", vip, "")
		pass(12 * time.Second)
		w.check("its user has gone", free, "eth0 ARP 192.0.2.1 at "+macA)
		w.disputed("its user has gone")
		if n := len(w.take()); n == 0 {
			t.Error("taken without a word")
		}
	})
}

// Who hears, while looking, that somebody uses the address does not take it, whatever the frame it was heard in.
func TestClaimWhileLooking(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		vip := netip.MustParseAddr("2001:db8::1")
		w.set([]decide.L2Address{probed("2001:db8::1", "eth0")}, []config.Interface{up("eth0", 2, macA)})
		pass(14 * time.Millisecond)
		synctest.Wait()
		w.claim("eth0 NDP", vip, macX)
		pass(800 * time.Millisecond)
		w.check("claimed")
		w.disputed("claimed", "eth0 2001:db8::1 "+macX+" unanswered=true")
		pass(400 * time.Millisecond)
		w.check("free in the meantime", "eth0 NDP 2001:db8::1 at "+macA)
		w.disputed("free in the meantime")
	})
}

// Of two that look for an address at once one takes it, and the other looks again soon: a host that only looked may not have taken it.
func TestTwoLookAtOnce(t *testing.T) {
	const lower, higher = "02:00:00:00:00:01", "02:00:00:00:00:0f"
	vip := netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		other string
		at    time.Duration // when it is answered for
	}{{higher, 20 * time.Millisecond}, {lower, 1300 * time.Millisecond}} {
		t.Run(tt.other, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.set([]decide.L2Address{probed("192.0.2.1", "eth0")}, []config.Interface{up("eth0", 2, macA)})
				pass(3 * time.Millisecond)
				synctest.Wait()
				w.hear("eth0 ARP", vip, tt.other, true)
				if tt.at > time.Second {
					pass(900 * time.Millisecond)
					w.check("standing back")
				}
				pass(tt.at)
				w.check("answered", "eth0 ARP 192.0.2.1 at "+macA)
				w.disputed("nobody used it")
			})
		})
	}
}

// Two speakers are chosen at once, and the other had just begun to answer: it gives the address up as soon as it hears of this one, and what is told here
// of it may be over before anybody looks. So whoever answers is asked again soon, once.
func TestUserThatCeases(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		a := probed("192.0.2.1", "eth0")
		w.use("eth0 ARP", a.Addr, macB)
		w.set([]decide.L2Address{a}, links)
		pass(20 * time.Millisecond)
		w.use("eth0 ARP", a.Addr, "")
		a.Probe, a.Taken = false, decide.Kept
		w.set([]decide.L2Address{a}, links)
		pass(1200 * time.Millisecond)
		w.check("the other has ceased", "eth0 ARP 192.0.2.1 at "+macA)
	})
}

// When it turns out that another speaker has to give the address up, nobody looks for it any more.
func TestSureWhileInUse(t *testing.T) {
	for _, reason := range []decide.Reason{decide.Won, decide.TookOver, decide.Returned} {
		inBubble(t, func(t *testing.T, w *world) {
			links := []config.Interface{up("eth0", 2, macA)}
			a := probed("192.0.2.1", "eth0")
			w.use("eth0 ARP", a.Addr, macB)
			w.set([]decide.L2Address{a}, links)
			pass(time.Second)
			w.check("another speaker has it")
			a.Probe, a.Taken = false, reason
			w.set([]decide.L2Address{a}, links)
			w.check("it is ours", "eth0 ARP 192.0.2.1 at "+macA)
			w.disputed("no longer unanswered")
		})
	}
}

// Where a stranger is said to use the address, being entitled to it does not make it free; but the speaker that had it may be the one who
// answered, so it is looked for again soon.
func TestEntitledWhileInUse(t *testing.T) {
	for _, reason := range []decide.Reason{decide.Won, decide.TookOver, decide.Returned} {
		inBubble(t, func(t *testing.T, w *world) {
			links := []config.Interface{up("eth0", 2, macA)}
			a := probed("192.0.2.1", "eth0")
			a.Taken = decide.TookOver
			w.use("eth0 ARP", a.Addr, macX)
			w.set([]decide.L2Address{a}, links)
			pass(4 * time.Millisecond)
			a.Taken = reason
			w.set([]decide.L2Address{a}, links)
			pass(4 * time.Second)
			w.check("in use")
			if n := len(w.takeProbes()); n != 2 {
				t.Errorf("%s: %d probes, want one at first and one soon", reason, n)
			}
			w.use("eth0 ARP", a.Addr, "")
			a.Taken = decide.Kept
			w.set([]decide.L2Address{a}, links)
			pass(time.Second)
			w.check("not looked for yet")
			a.Taken = decide.Moved
			w.set([]decide.L2Address{a}, links)
			pass(1200 * time.Millisecond)
			w.check("free", "eth0 ARP 192.0.2.1 at "+macA)
		})
	}
}

func TestProbeSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{network: newNetwork(t)}
		w.r = newReconciler(Options{Log: w.log.logger()}, w.openers())
		done := w.start()
		w.set([]decide.L2Address{probed("192.0.2.1", "eth0")}, []config.Interface{up("eth0", 2, macA)})
		w.check("at once", "eth0 ARP 192.0.2.1 at "+macA)
		done()
	})
}

// A stand-in answers with the owner's MAC and says nothing unasked, not even when it wins a conflict or its own MAC changes. When the owner
// turns out to be gone it answers for itself, and says so.
func TestStandIn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA), up("eth1", 3, macB)}
		a := wished("192.0.2.1", "eth0", "eth1")
		a.Taken, a.For, a.MACs = decide.StandIn, "other", []string{macX, "nonsense"}
		w.set([]decide.L2Address{a}, links)
		synctest.Wait()
		if diff := cmp.Diff("eth0 ARP 192.0.2.1 at "+macX, w.answers()); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if h := w.r.Actual(); len(h) > 0 {
			t.Errorf("lists what is another's: %v", h)
		}
		w.r.Announce(a.Addr)
		w.claim("eth0 ARP", a.Addr, macX) // the owner itself
		links[0].MAC = "02:00:00:00:00:33"
		w.set([]decide.L2Address{a}, links)
		pass(10 * time.Minute)
		w.said("a stand-in says nothing")
		w.disputed("the owner is no rival")

		a.Taken, a.For, a.MACs = decide.TookOver, "", nil
		w.set([]decide.L2Address{a}, links)
		w.check("the owner is gone", "eth0 ARP 192.0.2.1 at 02:00:00:00:00:33", "eth1 ARP 192.0.2.1 at "+macB)
		w.said("the owner is gone", "10m0s eth0 ARP 192.0.2.1 at 02:00:00:00:00:33", "10m0s eth1 ARP 192.0.2.1 at "+macB)
		pass(5 * time.Second)
		w.take()
		a.For, a.MACs = "other", []string{macX, macX}
		w.set([]decide.L2Address{a}, links)
		pass(10 * time.Minute)
		w.said("the other way round")
	})
}

// A process that was stopped says nothing of what it had before, until it has heard what became of it.
func TestAfterAFreeze(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		var desired []decide.L2Address
		for i := range 50 {
			a := wished(fmt.Sprint("192.0.2.", i), "eth0")
			a.Refresh = time.Minute
			desired = append(desired, a)
		}
		w.set(desired, links)
		pass(2 * time.Minute)
		synctest.Wait()
		w.mu.Lock()
		w.freeze = 30 * time.Second
		w.mu.Unlock()
		for frozen := false; !frozen; { // with the next announcement
			pass(10 * time.Millisecond)
			synctest.Wait()
			w.mu.Lock()
			frozen = w.freeze == 0
			w.mu.Unlock()
		}
		w.take()
		pass(31900 * time.Millisecond)
		synctest.Wait()
		if n := len(w.take()); n != 1 { // the one that it began with
			t.Errorf("%d announcements", n)
		}
		w.set(desired[:1], links)
		pass(2 * time.Minute)
		synctest.Wait()
		said := w.take()
		if len(said) < 1 || len(said) > 4 || strings.Contains(strings.Join(said, ""), "192.0.2.1 ") {
			t.Errorf("of one address: %v", said)
		}
	})
}

// What finds no room in the system's queues is sent a little later.
func TestNoRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.full = 3
		w.set([]decide.L2Address{wished("192.0.2.1", "eth0"), wished("192.0.2.2", "eth0")}, []config.Interface{up("eth0", 2, macA)})
		pass(20 * time.Millisecond)
		w.said("after three refusals", "15ms eth0 ARP 192.0.2.1 at "+macA, "15ms eth0 ARP 192.0.2.2 at "+macA)
	})
}

// Ten thousand addresses are announced at a measured pace, at first and ever after, and a takeover does not wait until all are joined.
func TestPace(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const n = 10_000
		var desired []decide.L2Address
		for i := range n {
			a := wished("2001:db8::1", "eth0")
			a.Refresh = time.Minute
			a.Addr = netip.AddrFrom16([16]byte{0: 0x20, 14: byte(i >> 8), 15: byte(i)})
			desired = append(desired, a)
		}
		w.set(desired, []config.Interface{up("eth0", 2, macA)})
		pass(49 * time.Millisecond) // before the second round
		synctest.Wait()
		if got := len(w.take()); got < 64*40 || got > 64*50 {
			t.Errorf("%d announcements in the first 49 ms, want 64 a millisecond", got)
		}
		pass(10 * time.Second)
		synctest.Wait()
		w.take()
		for range 3 { // minutes
			most := 0
			for range 600 {
				pass(100 * time.Millisecond)
				synctest.Wait()
				most = max(most, len(w.take()))
			}
			if most > 80 { // evenly spread it is 17 each 100 ms
				t.Errorf("%d periodic announcements within 100 ms", most)
			}
		}
	})
}

// The period is the address's own, may change, and 0 is none.
func TestRefreshOfEach(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		often, never := wished("192.0.2.1", "eth0"), wished("192.0.2.2", "eth0")
		often.Refresh, never.Refresh = 10*time.Second, 0
		count := func(what string, d time.Duration, a decide.L2Address, least, most int) {
			t.Helper()
			pass(d)
			synctest.Wait()
			n := 0
			for _, s := range w.take() {
				if strings.Contains(s, a.Addr.String()+" ") {
					n++
				}
			}
			if n < least || n > most {
				t.Errorf("%s: %d announcements, want %d to %d", what, n, least, most)
			}
		}
		w.set([]decide.L2Address{often, never}, links)
		pass(3 * time.Second)
		synctest.Wait()
		w.take()
		count("each 10 s", time.Hour, often, 3600/11, 3600/9)
		count("never", time.Hour, never, 0, 0)
		never.Refresh, often.Refresh = 10*time.Second, 0
		w.set([]decide.L2Address{often, never}, links)
		count("now each 10 s", time.Hour, never, 3600/11, 3600/9+1)
		count("now never", time.Hour, often, 0, 0)
	})
}

// A responder that fails while it looks for addresses begins anew with them.
func TestSocketDiesWhileLooking(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.setRefuse("eth0 ARP", errors.New("no such device"))
		w.set([]decide.L2Address{probed("192.0.2.1", "eth0")}, []config.Interface{up("eth0", 2, macA)})
		pass(time.Second)
		w.setRefuse("eth0 ARP", nil)
		pass(time.Second)
		w.check("opened", "eth0 ARP 192.0.2.1 at "+macA)
	})
}
