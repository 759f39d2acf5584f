package member

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
)

func TestLateness(t *testing.T) {
	const every = 50 * time.Millisecond
	now := time.Unix(1000, 0)
	var l lateness
	l.tick(now)
	if now = now.Add(time.Second); l.recent(now) {
		t.Error("late without a beat")
	}
	l.set(every)
	if l.recent(now) {
		t.Error("late before the first beat")
	}
	l.tick(now)
	for range 10 {
		now = now.Add(every + lateBy)
		l.tick(now)
		l.tick(now) // for the next peer
	}
	if l.recent(now) {
		t.Error("late though all beats were nearly in time")
	}
	if !l.recent(now.Add(every + lateBy + time.Millisecond)) {
		t.Error("not late with a beat overdue")
	}
	now = now.Add(3 * every)
	for end := now.Add(lateMemory); now.Before(end); now = now.Add(every) {
		if l.tick(now); !l.recent(now) {
			t.Errorf("not late %v after a late beat", lateMemory-end.Sub(now))
		}
	}
	if l.tick(now); l.recent(now) {
		t.Error("late for ever")
	}
	if l.recent(now.Add(lateMost)) {
		t.Error("late because there was nobody to gossip with")
	}
}

// TestDoubtedDeath: who seems to die while this process runs late is taken for one that restarts, until there is no doubt.
func TestDoubtedDeath(t *testing.T) {
	now := time.Unix(1000, 0)
	setup := func(state decide.State) (*book, func() patient) {
		a, b := newBook("a", port(1), 1), newBook("b", port(2), 2)
		b.publish(decide.Member{Started: 5, State: state, Claims: claim("192.0.2.9", 7)})
		a.alive("b", port(2))
		a.take(b.self, true, now)
		a.dead("b", true, now)
		return a, func() patient { return patient{restarter: a.restarters()["b"]} }
	}
	a, b := setup(decide.Up)
	if v := a.view(); len(v.Members) != 1 || v.Members[0].State != decide.Restarting {
		t.Fatalf("not doubted: %+v", v)
	}
	for s, want := range map[sign]bool{silence: false, refusal: true, welcome: false} {
		p := b()
		if p.feel(s); (p.hopeless(now) != "") != want {
			t.Errorf("after sign %d: hopeless %q", s, p.hopeless(now))
		}
		if p.hopeless(now.Add(doubts+time.Millisecond)) == "" {
			t.Errorf("after sign %d: doubted for ever", s)
		}
	}
	if len(a.bundle(now).absent) != 0 {
		t.Error("others are told that it restarts")
	}
	a.alive("b", port(2))
	if v := a.view(); len(v.Members) != 1 || v.Members[0].State != decide.Up {
		t.Errorf("it lives: %+v", v)
	}
	a.dead("b", false, now)
	if v := a.view(); len(v.Members) != 0 {
		t.Errorf("no doubt: %+v", v)
	}

	a, b = setup(decide.Restarting)
	p := b()
	if p.feel(refusal); p.doubted || p.hopeless(now) != "" {
		t.Errorf("one that restarts refuses, of course: %+v", p)
	}
	if a, _ := setup(decide.Draining); len(a.view().Members) != 0 {
		t.Error("one that leaves is waited for")
	}
	if len(a.bundle(now).absent) != 1 {
		t.Error("others are not told who restarts")
	}
}
