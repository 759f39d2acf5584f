package decide

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// world simulates speakers that decide and gossip. Time is a number of steps; what a node says reaches each other node after a random
// delay if they are not parted, and a node that was not heard for a while is not live.
type world struct {
	*rand.Rand
	facts Facts
	nodes []*speaker
	now   int
	sent  []message
	part  func(a, b int) bool // whether two nodes cannot hear each other
	away  []bool              // by node: its process does not run, or is frozen
	known []*config.Snapshot  // by node: what it knows of the configuration; nil: all there is
	watch func()              // called whenever some node has decided; may be nil
	cable *cable              // nil: nodes do not hear each other's announcements
}

// speaker is one simulated node: what it last said, and what it has heard of the others.
type speaker struct {
	said    Member
	version int
	heard   []heard // by node
	memory  Memory
	took    int         // addresses newly answered for
	since   []int       // by node: since when it was heard without a break
	answers []L2Address // what it answers for
	decider *Decider
}

type heard struct {
	member  Member
	version int
	at      int
}

type message struct {
	from, to, version, due int
	member                 Member
}

const (
	heartbeat = 10 // steps between messages of a node that has nothing new
	silence   = 60 // steps without a message until a node is taken for dead
	delay     = 8  // longest delay of a message
)

func newWorld(seed uint64, f Facts) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 1)), facts: f, part: func(a, b int) bool { return false },
		away: make([]bool, len(f.Members)), known: make([]*config.Snapshot, len(f.Members)),
	}
	for i := range f.Members {
		s := &speaker{said: f.Members[i], memory: Memory{}, heard: make([]heard, len(f.Members)), since: make([]int, len(f.Members)), decider: NewDecider()}
		for k := range f.Members {
			s.heard[k] = heard{member: f.Members[k]}
		}
		w.nodes = append(w.nodes, s)
	}
	return w
}

// run goes on for so many steps.
func (w *world) run(steps int) {
	for end := w.now + steps; w.now < end; w.now++ {
		w.deliver()
		for _, i := range w.Perm(len(w.nodes)) {
			if w.away[i] {
				continue
			}
			w.step(i)
			if w.watch != nil {
				w.watch()
			}
		}
	}
}

func (w *world) deliver() {
	var later []message
	for _, m := range w.sent {
		switch s := w.nodes[m.to]; {
		case m.due > w.now:
			later = append(later, m)
		case w.part(m.from, m.to), w.away[m.to]:
		default:
			if w.now-s.heard[m.from].at >= silence {
				s.since[m.from] = w.now
				w.exchange(m.from, m.to)
			}
			h := &s.heard[m.from]
			h.at = w.now
			if m.version > h.version {
				h.member, h.version = m.member, m.version
			}
			for a, c := range m.member.Claims {
				s.memory[a] = max(s.memory[a], c.Counter)
			}
		}
	}
	w.sent = later
}

// exchange models the push/pull of a node that is met again: it brings the states of all members that it sees alive, at once.
func (w *world) exchange(from, to int) {
	s, o := w.nodes[to], w.nodes[from]
	for k := range w.nodes {
		h := o.heard[k]
		if k != to && k != from && w.now-h.at < silence && h.version >= s.heard[k].version {
			s.heard[k] = heard{member: h.member, version: h.version, at: w.now}
		}
	}
}

// step lets a node decide on what it has heard, and say so.
func (w *world) step(i int) {
	s := w.nodes[i]
	f := w.facts
	f.Node, f.Claims, f.Expected, f.Members = s.said.Node, s.memory, len(w.nodes), nil
	f.Now, f.Since = w.time(w.now), map[string]time.Time{}
	if w.known[i] != nil {
		f.Config = w.known[i]
	}
	for k := range w.nodes {
		f.Since[w.nodes[k].said.Node] = w.time(s.since[k])
		switch h := &s.heard[k]; {
		case k == i:
			self := s.said
			self.State = Up // of itself it thinks as of one that is there
			f.Members = append(f.Members, self)
		case w.now-h.at < silence, h.member.State == Restarting: // its node lives, as gossip finds out
			f.Members = append(f.Members, h.member)
		}
	}
	if w.cable != nil {
		f.Heard, f.Insists = w.cable.hear(w, i)
	}
	d := s.decider.Decide(f)
	if w.cable != nil {
		d.L2 = w.cable.responders(w, i, d.L2)
	}
	s.answers = d.L2
	w.say(i, d.Claims)
}

// time is the time after so many steps.
func (w *world) time(steps int) time.Time {
	return epoch.Add(time.Duration(steps) * 10 * time.Millisecond)
}

// say makes a node claim what it decided, and tell the others when it is time.
func (w *world) say(i int, claims map[netip.Addr]Claim) {
	s := w.nodes[i]
	changed := !maps.Equal(claims, s.said.Claims)
	for a, c := range claims {
		if _, had := s.said.Claims[a]; !had {
			s.took++
		}
		s.memory[a] = max(s.memory[a], c.Counter)
	}
	s.said.Claims = claims
	if changed {
		s.version++
	}
	if changed || w.now%heartbeat == 0 {
		w.tell(i)
	}
}

// tell sends what a node says of itself to all others.
func (w *world) tell(i int) {
	for k := range w.nodes {
		if k != i {
			w.sent = append(w.sent, message{i, k, w.nodes[i].version, w.now + 1 + w.IntN(delay), w.nodes[i].said})
		}
	}
}

// enter puts a node into another state, and tells the others.
func (w *world) enter(i int, state State) {
	w.nodes[i].said.State = state
	w.nodes[i].version++
	w.tell(i)
}

// owners returns which nodes answer for each address.
func (w *world) owners() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, s := range w.nodes {
		for a := range s.said.Claims {
			out[a] = append(out[a], s.said.Node)
		}
	}
	return out
}

func (w *world) took() int {
	sum := 0
	for _, s := range w.nodes {
		sum += s.took
	}
	return sum
}

// whole fails the test unless each address has exactly one owner, and returns them.
func (w *world) whole(t *testing.T, when string) map[netip.Addr]string {
	t.Helper()
	out := map[netip.Addr]string{}
	owners := w.owners()
	for _, svc := range w.facts.Config.Services {
		a := svc.Ingress[0]
		if len(owners[a]) != 1 {
			t.Fatalf("%s: %s is answered for by %q, want one node", when, a, owners[a])
		}
		out[a] = owners[a][0]
	}
	return out
}

// split parts the nodes below n from the others.
func (w *world) split(n int) { w.part = func(a, b int) bool { return (a < n) != (b < n) } }

func (w *world) heal() { w.part = func(a, b int) bool { return false } }

func TestConvergence(t *testing.T) {
	for seed := range uint64(12) {
		nodes := 2 + int(seed%6)
		w := newWorld(seed, plain(nodes, 40))
		w.run(60)
		before := w.whole(t, "placed")
		if w.took() != 40 {
			t.Errorf("seed %d: 40 addresses placed by %d takings: some moved", seed, w.took())
		}
		for round := range 3 {
			n := 1 + w.IntN(nodes-1)
			w.split(n)
			w.run(silence + 60)
			w.heal()
			w.run(60)
			before = w.checkHeal(t, before, n)
			if t.Failed() {
				t.Fatalf("seed %d, round %d, %d of %d nodes parted", seed, round, n, nodes)
			}
		}
	}
}

// checkHeal compares the owners before a split with those after it healed: the successors chosen by the majority stay, and what a
// minority grabbed goes back.
func (w *world) checkHeal(t *testing.T, before map[netip.Addr]string, n int) map[netip.Addr]string {
	t.Helper()
	after := w.whole(t, "healed")
	below := func(node string) bool {
		return slices.IndexFunc(w.nodes, func(s *speaker) bool { return s.said.Node == node }) < n
	}
	majority := cmp.Compare(2*n, len(w.nodes))
	for a, owner := range before {
		switch {
		case majority == 0 && after[a] != owner:
			t.Errorf("%s moved from %s to %s though neither half was a majority", a, owner, after[a])
		case majority == 0:
		case below(owner) == (majority > 0) && after[a] != owner:
			t.Errorf("%s moved from %s to %s though its owner was in the majority", a, owner, after[a])
		case below(after[a]) != (majority > 0):
			t.Errorf("%s went to %s in the minority, and stayed there", a, after[a])
		}
	}
	return after
}

// TestNodeLoss kills a node: each of its addresses is taken exactly once, and nothing else moves; when it comes back empty, nothing moves.
func TestNodeLoss(t *testing.T) {
	for seed := range uint64(6) {
		w := newWorld(seed, plain(5, 100))
		w.run(60)
		before, took := w.whole(t, "placed"), w.took()
		lost := w.IntN(5)
		name := w.nodes[lost].said.Node
		w.part = func(a, b int) bool { return a == lost || b == lost }
		w.nodes[lost].said.Claims = nil // a crash: it answers for nothing more
		was := w.nodes[lost]
		w.nodes[lost] = &speaker{said: Member{Node: name}, heard: make([]heard, 5), memory: Memory{}, since: make([]int, 5), decider: NewDecider()}
		dead := 0
		for _, owner := range before {
			if owner == name {
				dead++
			}
		}
		w.away[lost] = true
		w.run(silence + 60)
		if got := w.took() - took + was.took; got != dead {
			t.Fatalf("seed %d: %d addresses of %s were taken over in %d takings", seed, dead, name, got)
		}
		after := w.whole(t, "taken over")
		w.rejoin(lost)
		w.run(silence + 60)
		for a, owner := range w.whole(t, "rejoined") {
			if owner != after[a] || before[a] != name && owner != before[a] {
				t.Errorf("seed %d: %s went from %s over %s to %s", seed, a, before[a], after[a], owner)
			}
		}
	}
}

// rejoin starts a node again; as the real speaker does, it hears the whole state before it decides anything.
func (w *world) rejoin(i int) {
	w.heal()
	w.away[i] = false
	s := w.nodes[i]
	s.said = Member{Node: w.facts.Members[i].Node, Interfaces: w.facts.Members[i].Interfaces}
	s.version += 1000
	for k, o := range w.nodes {
		s.heard[k] = heard{member: o.said, version: o.version, at: w.now}
		for a, c := range o.said.Claims {
			s.memory[a] = max(s.memory[a], c.Counter)
		}
	}
}

// TestBurst adds Services one by one while claims still travel: every address ends with one owner, and few are taken twice.
func TestBurst(t *testing.T) {
	all := plain(3, 400)
	w := newWorld(1, all)
	snapshot := *all.Config
	w.facts.Config = &snapshot
	for i := range all.Config.Services {
		w.facts.Config.Services = all.Config.Services[:i+1]
		w.run(1)
	}
	w.run(60)
	owners := w.whole(t, "after the burst")
	twice := w.took() - len(owners)
	t.Logf("%d of %d addresses were taken twice; max/mean = %.3f", twice, len(owners), imbalance(owners, 3))
	if twice > len(owners)/20 {
		t.Errorf("%d of %d addresses were taken twice", twice, len(owners))
	}
	if got := imbalance(owners, 3); got > 1.15 {
		t.Errorf("max/mean = %.3f, want at most 1.15", got)
	}
}
