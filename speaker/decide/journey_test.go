package decide

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// answering returns which nodes answer for each address now, those in the place of others under the name of those.
func (w *world) answering() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for i, s := range w.nodes {
		if w.away[i] {
			continue
		}
		for _, l := range s.answers {
			who := s.said.Node
			if l.For != "" {
				who = l.For
			}
			if !slices.Contains(out[l.Addr], who) {
				out[l.Addr] = append(out[l.Addr], who)
			}
		}
	}
	return out
}

// guard fails the test as soon as an address is answered for by nobody, or under the MACs of more than the given number of nodes.
func (w *world) guard(t *testing.T, when string, most int) {
	w.watch = func() {
		t.Helper()
		now := w.answering()
		for _, svc := range w.facts.Config.Services {
			if who := now[svc.Ingress[0]]; len(who) == 0 || len(who) > most {
				t.Fatalf("%s: at step %d %s is answered for by %q", when, w.now, svc.Ingress[0], who)
			}
		}
	}
}

// drained returns a copy of the configuration with a node tainted, or not.
func drained(c *config.Snapshot, node string, drain bool) *config.Snapshot {
	out := *c
	out.Nodes = slices.Clone(c.Nodes)
	for i, n := range out.Nodes {
		if n.Name == node {
			is := *n
			is.Drain = drain
			out.Nodes[i] = &is
		}
	}
	return &out
}

// learn lets the nodes hear of another configuration one by one, at most lag steps later.
func (w *world) learn(c *config.Snapshot, lag int) {
	for i := range w.nodes {
		if w.known[i] == nil {
			w.known[i] = w.facts.Config
		}
	}
	w.facts.Config = c
	left := w.Perm(len(w.nodes))
	for step := range lag {
		for len(left) > 0 && w.IntN(lag-step) < len(left) {
			w.known[left[0]] = c
			left = left[1:]
		}
		w.run(1)
	}
	for _, i := range left {
		w.known[i] = c
	}
}

// TestDrainJourney drains node after node, each until the next: new owner first, whoever learns of it first, and only what must move does.
func TestDrainJourney(t *testing.T) {
	for seed := range uint64(8) {
		nodes := 2 + int(seed%5)
		w := newWorld(seed, plain(nodes, 40))
		w.run(60)
		for range nodes + 1 {
			before, took := w.whole(t, "at rest"), w.took()
			victim := w.nodes[w.IntN(nodes)].said.Node
			w.guard(t, "draining "+victim, 2)
			w.learn(drained(w.facts.Config, victim, true), 30)
			w.run(60)
			after, moved := w.whole(t, "drained"), 0
			for a, owner := range before {
				switch {
				case owner == victim:
					moved++
					if after[a] == victim {
						t.Errorf("seed %d: %s stayed with %s", seed, a, victim)
					}
				case after[a] != owner:
					t.Errorf("seed %d: %s moved from %s to %s when %s was drained", seed, a, owner, after[a], victim)
				}
			}
			if got := w.took() - took; got > moved+moved/4 {
				t.Errorf("seed %d: %d addresses were taken %d times", seed, moved, got)
			}
			w.learn(drained(w.facts.Config, victim, false), 30)
			w.run(30)
			if !maps.Equal(after, w.whole(t, "drained no more")) {
				t.Errorf("seed %d: addresses moved when %s was drained no more", seed, victim)
			}
			w.watch = nil
		}
	}
}

// restart lets a node say that it restarts, go, and come back with what it had.
func (w *world) restart(i, absence int) {
	w.enter(i, Restarting)
	w.run(2 * delay) // it answers until the others have surely heard
	w.away[i] = true
	w.run(absence)
	w.away[i] = false
	for k := range w.nodes { // gossip tells all it knows before anything is decided
		if k != i {
			w.nodes[i].heard[k] = heard{member: w.nodes[k].said, version: w.nodes[k].version, at: w.now}
		}
	}
	w.enter(i, Up)
}

// TestRestartJourney restarts every node in turn: no address moves, none is without an answer, and nobody answers with its own MAC for
// what is another's.
func TestRestartJourney(t *testing.T) {
	for seed := range uint64(8) {
		nodes := 2 + int(seed%5)
		w := newWorld(seed, plain(nodes, 40))
		w.run(60)
		before, took := w.whole(t, "at rest"), w.took()
		w.guard(t, "restarting", 1)
		for i := range nodes {
			w.restart(i, silence+w.IntN(3*silence))
			w.run(w.IntN(20))
		}
		w.run(30)
		if after := w.whole(t, "restarted"); !maps.Equal(before, after) || w.took() != took {
			t.Errorf("seed %d: restarts moved addresses: %v, now %v", seed, before, after)
		}
		for _, s := range w.nodes {
			for _, l := range s.answers {
				if l.For != "" {
					t.Errorf("seed %d: %s still stands in for %s", seed, s.said.Node, l.For)
				}
			}
		}
	}
}

// TestRestartThatFails: the node dies while its speaker restarts; its addresses are taken over once each.
func TestRestartThatFails(t *testing.T) {
	for seed := range uint64(6) {
		w := newWorld(seed, plain(5, 60))
		w.run(60)
		before, took := w.whole(t, "at rest"), w.took()
		lost := w.IntN(5)
		name := w.nodes[lost].said.Node
		w.enter(lost, Restarting)
		w.run(2 * delay)
		w.part = func(a, b int) bool { return a == lost || b == lost }
		w.run(silence / 2)
		w.nodes[lost].said.State, w.away[lost] = Up, true
		for k := range w.nodes { // gossip found the node dead: it is no member any more
			w.nodes[k].heard[lost].at, w.nodes[k].heard[lost].member.State = w.now-silence, Up
		}
		w.nodes[lost].said.Claims = nil
		w.run(60)
		moved := 0
		for a, owner := range w.whole(t, "taken over") {
			if before[a] == name {
				moved++
			} else if before[a] != owner {
				t.Errorf("seed %d: %s moved from %s to %s", seed, a, before[a], owner)
			}
		}
		if got := w.took() - took; got != moved {
			t.Errorf("seed %d: %d addresses were taken over in %d takings", seed, moved, got)
		}
	}
}

// TestFailbackJourney: the addresses of a node that was away return to it once it has been back for failbackDelay, not before, never while
// it flaps; they move once, and are answered for all the time.
func TestFailbackJourney(t *testing.T) {
	back := 2 * time.Second // 200 steps
	for seed := range uint64(6) {
		f := plain(4, 40)
		f.Config.L2Advertisements[0].FailbackDelay = &back
		w := newWorld(seed, f)
		w.run(60)
		before := w.whole(t, "at rest")
		lost := w.IntN(4)
		w.cut(lost)
		w.run(silence + 60)
		w.away[lost] = true
		without := w.wholeWithout(t, lost)
		w.guard(t, "going back", 2)
		for range 3 { // it flaps: at most half of the delay without a break
			w.rejoin(lost)
			w.run(100)
			if after := w.whole(t, "just back"); !maps.Equal(after, without) {
				t.Fatalf("seed %d: addresses moved before failbackDelay was over", seed)
			}
			w.cut(lost)
			w.run(silence + 10)
		}
		took := w.took()
		w.rejoin(lost)
		w.run(silence + 260)
		moved := 0
		for a, owner := range w.whole(t, "gone back") {
			if owner != before[a] {
				t.Errorf("seed %d: %s belongs to %s, and is with %s", seed, a, before[a], owner)
			}
			if without[a] != owner {
				moved++
			}
		}
		if moved == 0 || w.took()-took != moved {
			t.Errorf("seed %d: %d addresses went back in %d takings", seed, moved, w.took()-took)
		}
	}
}

// cut takes a node out: its process ends without a word.
func (w *world) cut(i int) {
	w.away[i] = true
	w.nodes[i].said.Claims, w.nodes[i].answers = nil, nil
	w.part = func(a, b int) bool { return a == i || b == i }
}

// wholeWithout returns the owners while a node is out.
func (w *world) wholeWithout(t *testing.T, out int) map[netip.Addr]string {
	t.Helper()
	owners := w.whole(t, "without "+w.nodes[out].said.Node)
	for a, owner := range owners {
		if owner == w.nodes[out].said.Node {
			t.Fatalf("%s is still with %s", a, owner)
		}
	}
	return owners
}

// TestFreezeJourney stops a process for longer than it takes to miss it, and lets it go on as if nothing had happened: what it lost stays
// lost, and it answers for it no longer than the others need to tell it.
func TestFreezeJourney(t *testing.T) {
	for seed := range uint64(6) {
		w := newWorld(seed, plain(5, 60))
		w.run(60)
		frozen := w.IntN(5)
		name := w.nodes[frozen].said.Node
		w.away[frozen] = true
		w.run(4 * silence)
		taken := map[netip.Addr]string{}
		for a, owners := range w.owners() {
			for _, o := range owners {
				if o != name {
					taken[a] = o
				}
			}
		}
		if len(taken) != 60 {
			t.Fatalf("seed %d: %d of 60 addresses were taken over", seed, len(taken))
		}
		w.away[frozen] = false
		w.run(2 * (heartbeat + delay))
		if after := w.whole(t, "thawed"); !maps.Equal(after, taken) {
			t.Errorf("seed %d: addresses moved when %s went on", seed, name)
		}
	}
}

// TestAnyJourney lets drains, restarts, crashes, splits and frozen processes come as they may, one over the other: when all is quiet again,
// every address has one owner, and none is where it must not be.
func TestAnyJourney(t *testing.T) {
	back := 3 * time.Second
	for seed := range uint64(16) {
		nodes := 3 + int(seed%4)
		f := plain(nodes, 30)
		if seed%2 == 0 {
			f.Config.L2Advertisements[0].FailbackDelay = &back
		}
		if seed%3 == 0 {
			f.Config.L2Advertisements[0].Preferred = []config.Preference{{Weight: 7, Nodes: config.Only("node-000", "node-002")}}
		}
		w := newWorld(seed, f)
		w.run(60)
		for range 12 {
			w.incident()
			w.run(w.IntN(2 * silence))
		}
		w.calm()
		w.run(2*silence + 400)
		drain := map[string]bool{}
		for _, n := range w.facts.Config.Nodes {
			drain[n.Name] = n.Drain
		}
		for a, owner := range w.whole(t, "calm again") {
			if drain[owner] {
				t.Errorf("seed %d: %s is with %s, which is drained", seed, a, owner)
			}
		}
		for _, s := range w.nodes {
			if i := slices.IndexFunc(s.answers, func(l L2Address) bool { return l.For != "" || l.Taken == HandedOn || l.Taken == Won }); i >= 0 {
				t.Errorf("seed %d: %s does not come to rest: %+v", seed, s.said.Node, s.answers[i])
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// incident lets something happen to some node.
func (w *world) incident() {
	i := w.IntN(len(w.nodes))
	name := w.nodes[i].said.Node
	switch w.IntN(8) {
	case 0, 1: // never all of them
		on := i > 0 && !w.facts.Config.Nodes[i].Drain
		w.learn(drained(w.facts.Config, name, on), 1+w.IntN(40))
	case 2:
		if !w.away[i] {
			w.restart(i, w.IntN(2*silence))
		}
	case 3:
		w.away[i] = true // frozen
	case 4:
		w.away[i] = false
	case 5:
		w.split(1 + w.IntN(len(w.nodes)-1))
	case 6:
		w.heal()
	case 7: // a crash, and a new process without memory
		part := w.part
		w.cut(i)
		w.run(w.IntN(2 * silence))
		w.rejoin(i)
		w.part = part
	}
}

// calm ends all that is going on, but for the drains.
func (w *world) calm() {
	w.heal()
	for i := range w.nodes {
		w.away[i] = false
		w.known[i] = w.facts.Config
	}
}
