package member

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// restartingSelf is what a speaker says before it restarts.
func restartingSelf(i int, claims map[netip.Addr]decide.Claim) decide.Member {
	m := self(i, claims)
	m.State = decide.Restarting
	return m
}

// stateOf returns what a view says of a node; false when it is not there.
func stateOf(v *View, node string) (decide.State, bool) {
	i := slices.IndexFunc(v.Members, func(m decide.Member) bool { return m.Node == node })
	if i < 0 {
		return 0, false
	}
	return v.Members[i].State, true
}

// goes lets a speaker say that it restarts, and end when all have heard it.
func goes(t *testing.T, all []*run, i int, claims map[netip.Addr]decide.Claim) {
	t.Helper()
	all[i].Publish(restartingSelf(i, claims))
	for k, r := range all {
		if k != i {
			r.waitFor(t, "that it restarts", func(v *View) bool { s, ok := stateOf(v, all[i].opt.Node); return ok && s == decide.Restarting })
		}
	}
	all[i].stop()
}

// TestRestarterIsWaitedFor: the process is gone for longer than a failure takes to be noticed, also for one that comes meanwhile, and gets its
// claims back.
func TestRestarterIsWaitedFor(t *testing.T) {
	all := cluster(t, 3)
	claims := manyClaims(10, 9)
	all[1].Publish(self(1, claims))
	goes(t, all, 1, claims)
	for _, r := range []*run{all[0], all[2]} {
		r.waitFor(t, "end of the process", func(v *View) bool { return v.Alive == 2 })
		v := r.View()
		if s, ok := stateOf(v, "node-01"); !ok || s != decide.Restarting || !maps.Equal(claimsOf(v, "node-01"), claims) || v.Known != 3 || v.Awaited != 1 {
			t.Fatalf("%s does not wait: %+v", r.opt.Node, v)
		}
	}
	seeds := []netip.AddrPort{all[0].addr, all[1].addr, all[2].addr}
	late := start(t, "node-03", loopback(), key)
	late.SetSeeds(append(slices.Clone(seeds), late.addr))
	late.waitFor(t, "the claims of the one that restarts", func(v *View) bool { return maps.Equal(claimsOf(v, "node-01"), claims) })

	again := start(t, "node-01", all[1].addr.Addr(), key)
	again.SetSeeds(seeds)
	again.waitFor(t, "its former claims", func(v *View) bool { return !v.Heard.IsZero() && maps.Equal(v.Former, claims) })
	for _, r := range []*run{all[0], all[2], late} { // it has said nothing yet
		r.waitFor(t, "the process", func(v *View) bool { return v.Alive == 4 })
		if v := r.View(); !maps.Equal(claimsOf(v, "node-01"), claims) || v.Awaited != 0 {
			t.Errorf("%s forgot the claims before the new run said anything: %+v", r.opt.Node, v)
		}
	}
	next := self(1, claims)
	next.Started = 100
	again.Publish(next)
	for _, r := range []*run{all[0], all[2], late} {
		r.waitFor(t, "the new run", func(v *View) bool {
			s, ok := stateOf(v, "node-01")
			return ok && s == decide.Up && maps.Equal(claimsOf(v, "node-01"), claims)
		})
	}
}

// TestRestarterDies: while its process is away the node dies.
func TestRestarterDies(t *testing.T) {
	var dead atomic.Bool
	all := clusterWith(t, 3, func(m *Member) {
		m.knock = func(addr netip.AddrPort, times int, every time.Duration) sign {
			if dead.Load() {
				<-time.After(time.Duration(times) * every)
				return silence
			}
			return knock(addr, times, every)
		}
	})
	goes(t, all, 1, manyClaims(10, 9))
	all[0].waitFor(t, "end of the process", func(v *View) bool { return v.Alive == 2 })
	for range 10 {
		<-time.After(pulseInterval)
		if _, ok := stateOf(all[0].View(), "node-01"); !ok {
			t.Fatal("not waited for, though the node answers")
		}
	}
	dead.Store(true)
	took := all[0].waitFor(t, "end of the wait", func(v *View) bool { _, ok := stateOf(v, "node-01"); return !ok })
	t.Logf("the death of the node was noticed after %v", took.Round(time.Millisecond))
	if n := all[0].View().Claims[netip.MustParseAddr("10.0.0.1")]; n != 9 {
		t.Errorf("the counters are forgotten: %d", n)
	}
	all[2].waitFor(t, "end of the wait", func(v *View) bool { _, ok := stateOf(v, "node-01"); return !ok })
}

// TestWhoLeavesIsNotWaitedFor: a speaker that leaves has no claims any more, whatever it said before.
func TestWhoLeavesIsNotWaitedFor(t *testing.T) {
	all := cluster(t, 2)
	all[1].Publish(restartingSelf(1, manyClaims(1, 1)))
	all[0].waitFor(t, "that it restarts", func(v *View) bool { s, _ := stateOf(v, "node-01"); return s == decide.Restarting })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := all[1].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	all[0].waitFor(t, "its end", func(v *View) bool { return len(v.Members) == 1 })
}

// TestPartingWordComesLate: the failure detector tells of the leave before the speaker's own word comes.
func TestPartingWordComesLate(t *testing.T) {
	now := time.Unix(1000, 0)
	a, b := newBook("a", port(1), 1), newBook("b", port(2), 2)
	b.publish(decide.Member{Started: 5, State: decide.Restarting, Claims: claim("192.0.2.9", 7)})
	a.alive("b", port(2))
	a.take(b.self, true, now)
	a.dead("b", false, now)
	b.publish(decide.Member{Started: 5, State: decide.Draining})
	if !a.take(b.self, true, now) || a.take(b.self, true, now) || len(a.view().Members) != 0 {
		t.Errorf("still waited for: %+v", a.view())
	}
}

func TestResyncBringsWhatOthersKnow(t *testing.T) {
	all := cluster(t, 2)
	before := time.Now()
	all[0].Resync()
	all[0].waitFor(t, "an answer", func(v *View) bool { return v.Heard.After(before) })
}

// TestGraceEnds: nobody is waited for for ever, nor again by hearsay.
func TestGraceEnds(t *testing.T) {
	now := time.Unix(1000, 0)
	a, b, c := newBook("a", port(1), 1), newBook("b", port(2), 2), newBook("c", port(3), 3)
	b.publish(decide.Member{Started: 5, State: decide.Restarting, Claims: claim("192.0.2.9", 7), Interfaces: []config.Interface{{Name: "eth0"}}})
	a.alive("b", port(2))
	a.take(b.self, true, now)
	a.dead("b", false, now.Add(time.Second))
	if len(a.view().Members) != 1 {
		t.Fatal("not waited for")
	}
	word := must(t, encodeSync(a.bundle(now.Add(100*time.Second)))).(bundle)
	c.takeBundle(word, now.Add(100*time.Second))
	r, ok := c.restarters()["b"]
	if !ok || !r.absent || r.addr != port(2) {
		t.Fatalf("c does not wait, too: %+v", r)
	}
	for at, want := range map[time.Duration]bool{119 * time.Second: false, 121 * time.Second: true} {
		for _, x := range []*book{a, c} {
			p := patient{restarter: x.restarters()["b"]}
			if got := p.hopeless(now.Add(at)) != ""; got != want {
				t.Errorf("after %v hopeless: %v, want %v", at, got, want)
			}
		}
	}
	if !c.giveUp("b") || c.giveUp("b") {
		t.Error("giving up must work once")
	}
	c.takeBundle(word, now.Add(101*time.Second))
	if len(c.view().Members) != 0 {
		t.Error("c waits again though it has given up")
	}
	if a.prune(); len(a.view().Members) != 1 {
		t.Error("a's wait ended with c's")
	}
}

// TestDeathOfTheRunBefore: a speaker is back before its end was noticed, and then the failure detector reports that end.
func TestDeathOfTheRunBefore(t *testing.T) {
	now := time.Unix(1000, 0)
	addr := netip.MustParseAddr("192.0.2.9")
	for _, first := range []decide.State{decide.Restarting, decide.Up} { // restarted, or killed
		a := newBook("a", port(1), 1)
		a.alive("b", port(2))
		run := func(n uint64, state decide.State) *record {
			b := newBook("b", port(2), n)
			b.publish(decide.Member{Started: int64(n), State: state, Claims: claim("192.0.2.9", 7)})
			return b.self
		}
		a.take(run(2, first), true, now)
		a.take(run(3, decide.Up), true, now.Add(time.Second))
		a.dead("b", false, now.Add(1100*time.Millisecond))
		v := a.view()
		if len(v.Members) != 1 || v.Members[0].State != decide.Restarting || v.Members[0].Claims[addr].Counter != 7 {
			t.Fatalf("%s: the claims of the new run are void: %+v", first, v)
		}
		a.alive("b", port(2)) // it refutes
		if v := a.view(); len(v.Members) != 1 || v.Members[0].State != decide.Up {
			t.Errorf("%s: alive again: %+v", first, v)
		}
		// Else it is dead after all, soon.
		a.dead("b", false, now.Add(1200*time.Millisecond))
		p := patient{restarter: a.restarters()["b"]}
		if p.hopeless(now.Add(2*time.Second)) != "" || p.hopeless(now.Add(4*time.Second)) == "" {
			t.Errorf("%s: waited for until %v", first, p.until)
		}
		a.alive("b", port(2))
		a.dead("b", false, now.Add(time.Minute))
		if v := a.view(); len(v.Members) != 0 {
			t.Errorf("%s: a minute later a death is one: %+v", first, v)
		}
	}
}

// TestFormerClaims: a run that has spoken does not want those of an earlier one, and claims of one that drained are nobody's.
func TestFormerClaims(t *testing.T) {
	first := newBook("b", port(2), 2)
	for state, want := range map[decide.State]int{decide.Up: 1, decide.Restarting: 1, decide.Draining: 0} {
		first.publish(decide.Member{Started: 5, State: state, Claims: claim("192.0.2.9", 7)})
		second := newBook("b", port(2), 3)
		second.takeBundle(bundle{records: []*record{first.self}}, time.Now())
		if v := second.view(); len(v.Former) != want {
			t.Errorf("%s: former claims %v, want %d", state, v.Former, want)
		}
		third := newBook("b", port(2), 4)
		third.publish(decide.Member{Started: 6})
		third.takeBundle(bundle{records: []*record{first.self}}, time.Now())
		if v := third.view(); v.Former != nil {
			t.Errorf("%s: one that has spoken is given claims: %v", state, v.Former)
		}
	}
}
