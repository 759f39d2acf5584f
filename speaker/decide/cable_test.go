package decide

import (
	"net/netip"
	"slices"
	"testing"
)

// cable models the segment as far as the responders tell the owner loop of it: two nodes that answer for one address hear each other's
// announcements, and one that looks before the first use finds who answers.
type cable struct {
	rivals  []map[netip.Addr]opponent // by node
	blocked []map[netip.Addr]int      // by node: addresses that were found in use, and when to look again
}

// opponent is a node that was heard to answer.
type opponent struct {
	node        string
	first, last int
}

const (
	announced = 50  // steps between announcements of an address that is disputed
	remember  = 400 // steps for which an opponent is remembered, and until it is looked for again
)

func newCable(nodes int) *cable {
	c := &cable{}
	for range nodes {
		c.rivals = append(c.rivals, map[netip.Addr]opponent{})
		c.blocked = append(c.blocked, map[netip.Addr]int{})
	}
	return c
}

// user returns another node that answers for an address; "" when there is none.
func (c *cable) user(w *world, i int, a netip.Addr) string {
	for k, s := range w.nodes {
		if k != i && !w.away[k] && slices.ContainsFunc(s.answers, func(l L2Address) bool { return l.Addr == a }) {
			return s.said.Node
		}
	}
	return ""
}

// note takes down that a node was heard.
func (c *cable) note(w *world, i int, a netip.Addr, node string) {
	o := c.rivals[i][a]
	if o.node != node || w.now-o.last > remember {
		o = opponent{node: node, first: w.now}
	}
	o.last = w.now
	c.rivals[i][a] = o
}

// hear returns what a node has heard: those that answer, and those of them that went on when it had announced the address itself.
func (c *cable) hear(w *world, i int) (map[netip.Addr]string, map[netip.Addr]bool) {
	heard, insists := map[netip.Addr]string{}, map[netip.Addr]bool{}
	for _, l := range w.nodes[i].answers {
		if node := c.user(w, i, l.Addr); node != "" && (w.now%announced == 0 || c.rivals[i][l.Addr].node == "") {
			c.note(w, i, l.Addr, node)
		}
	}
	for a, o := range c.rivals[i] {
		if w.now-o.last > remember {
			delete(c.rivals[i], a)
			continue
		}
		heard[a] = o.node
		insists[a] = o.last-o.first >= announced
	}
	return heard, insists
}

// responders returns what of the desired addresses is really answered for.
func (c *cable) responders(w *world, i int, desired []L2Address) []L2Address {
	had := w.nodes[i].answers
	var out []L2Address
	for _, l := range desired {
		if l.Taken == Won || l.Taken == Returned || l.Taken == TookOver && !l.Probe {
			delete(c.blocked[i], l.Addr) // whoever answers is another speaker, and will give way
		}
		until, blocked := c.blocked[i][l.Addr]
		answers := slices.ContainsFunc(had, func(o L2Address) bool { return o.Addr == l.Addr })
		switch {
		case blocked && w.now < until:
			continue
		case blocked || l.Probe && !answers:
			if user := c.user(w, i, l.Addr); user != "" {
				c.note(w, i, l.Addr, user)
				c.blocked[i][l.Addr] = w.now + remember
				continue
			}
			delete(c.blocked[i], l.Addr)
		}
		out = append(out, l)
	}
	for a := range c.blocked[i] {
		if !slices.ContainsFunc(desired, func(l L2Address) bool { return l.Addr == a }) {
			delete(c.blocked[i], a)
		}
	}
	return out
}

// TestGossipCutSegmentWhole cuts the gossip between speakers that share a segment (L2): nobody stops being answered for, soon nobody is
// answered for twice, and once gossip is back nothing is disputed.
func TestGossipCutSegmentWhole(t *testing.T) {
	for name, part := range map[string]func(a, b int) bool{
		"one alone": func(a, b int) bool { return a == 0 || b == 0 },
		"halves":    func(a, b int) bool { return a%2 != b%2 },
		"all alone": func(a, b int) bool { return a != b },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				testGossipCut(t, seed, part)
			}
		})
	}
}

func testGossipCut(t *testing.T, seed uint64, part func(a, b int) bool) {
	nodes := 2 + int(seed%4)
	all := plain(nodes, 40)
	few := *all.Config
	few.Services = few.Services[:30]
	all.Config = &few
	w := newWorld(seed, all)
	w.cable = newCable(nodes)
	w.run(60)
	w.part = part
	w.guard(t, "gossip cut", nodes) // who misses the others one by one may take what is theirs
	w.run(silence + 3*announced)
	w.guard(t, "gossip cut for long", 1)
	w.run(3 * remember)
	w.watch = nil
	w.facts.Config = plain(nodes, 40).Config // Services come while gossip is cut
	w.run(10)
	w.guard(t, "new Services", nodes) // claims cross within each part
	w.run(3 * announced)
	w.guard(t, "new Services for long", 1)
	w.run(2 * remember)
	w.watch = nil
	w.heal()
	w.run(60)
	for a, who := range w.answering() {
		if len(who) != 1 {
			t.Fatalf("seed %d: gossip is back, and %s is answered for by %q", seed, a, who)
		}
	}
	w.whole(t, "gossip is back")
}
