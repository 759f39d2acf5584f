package speaker

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

// world models everything around a speaker. It keeps state, and fails the test when a speaker does what it must not.
type world struct {
	t  *testing.T
	mu sync.Mutex

	snap     *config.Snapshot
	links    []config.Interface
	view     *member.View
	answers  []decide.L2Address
	set      bool // anything was handed to l2 or bgp
	routes   []decide.Route
	draining bool // routers are asked to prefer others
	said     decide.Member
	again    []netip.Addr // announced again
	claimed  []l2.Conflict
	report   Report
	resyncs  int
	stale    time.Time
	denied   bool
	slow     time.Duration // how long a step takes

	source, link, gossip, layer2, router chan struct{}
}

func newWorld(t *testing.T) *world {
	c := func() chan struct{} { return make(chan struct{}, 1) }
	return &world{t: t, snap: &config.Snapshot{}, source: c(), link: c(), gossip: c(), layer2: c(), router: c()}
}

// change edits the world and tells everybody.
func (w *world) change(edit func(*world)) {
	w.mu.Lock()
	edit(w)
	w.mu.Unlock()
	for _, c := range []chan struct{}{w.source, w.link, w.gossip, w.layer2, w.router} {
		poke(c)
	}
}

func (w *world) read(look func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	look(w)
}

func (w *world) speaker(node string) *Speaker {
	return New(Options{
		Node: node, Started: time.Now(), GossipPort: 7947,
		Source: worldSource{w}, Links: worldLinks{w}, Gossip: worldGossip{w}, L2: worldL2{w}, BGP: worldBGP{w}, Reporter: worldReporter{w},
		Log: slog.New(slog.DiscardHandler),
	})
}

type worldSource struct{ *world }

func (w worldSource) Changed() <-chan struct{} { return w.source }
func (w worldSource) Snapshot() (s *config.Snapshot) {
	w.read(func(x *world) { s = x.snap })
	return s
}

func (w worldSource) Seeds() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
}

func (w worldSource) Stale() (at time.Time) {
	w.read(func(x *world) { at = x.stale })
	return at
}

type worldLinks struct{ *world }

func (w worldLinks) Changed() <-chan struct{} { return w.link }
func (w worldLinks) Interfaces() (l []config.Interface) {
	w.read(func(x *world) { l = x.links })
	return l
}

type worldGossip struct{ *world }

func (w worldGossip) Changed() <-chan struct{} { return w.gossip }
func (w worldGossip) Urgent() <-chan struct{}  { return nil }
func (w worldGossip) View() (v *member.View) {
	w.read(func(x *world) { v = x.view })
	return v
}

func (w worldGossip) Publish(m decide.Member) {
	w.read(func(x *world) {
		for a, c := range m.Claims {
			if old, ok := x.said.Claims[a]; ok && c.Counter < old.Counter {
				x.t.Errorf("claim for %s went back from %d to %d", a, old.Counter, c.Counter)
			}
		}
		x.said = m
	})
}

func (w worldGossip) Resync() { w.read(func(x *world) { x.resyncs++ }) }

func (w worldGossip) SetSeeds(seeds []netip.AddrPort) {
	for _, s := range seeds {
		if s.Port() != 7947 {
			w.t.Errorf("seed %s has the wrong port", s)
		}
	}
}

type worldL2 struct{ *world }

func (w worldL2) Changed() <-chan struct{} { return w.layer2 }
func (w worldL2) Set(answers []decide.L2Address, _ []config.Interface) {
	w.read(func(x *world) {
		for _, a := range answers {
			if _, claims := x.said.Claims[a.Addr]; !claims && a.For == "" && a.Taken != decide.HandedOn {
				x.t.Errorf("answers for %s without a claim that the others know of", a.Addr)
			}
		}
		x.answers, x.set = slices.Clone(answers), true
		// A conflict is known only while the address is answered for.
		x.claimed = slices.DeleteFunc(slices.Clone(x.claimed), func(c l2.Conflict) bool {
			return !slices.ContainsFunc(answers, func(a decide.L2Address) bool { return a.Addr == c.Addr })
		})
	})
}

func (w worldL2) Actual() (out []config.L2Holding) {
	w.read(func(x *world) {
		for _, a := range x.answers {
			out = append(out, config.L2Holding{Address: a.Addr, Interface: a.Interfaces[0]})
		}
	})
	return out
}

func (w worldL2) Conflicts() (c []l2.Conflict) {
	w.read(func(x *world) { c = x.claimed })
	return c
}
func (w worldL2) Denied() (d bool)      { w.read(func(x *world) { d = x.denied }); return d }
func (w worldL2) Announce(a netip.Addr) { w.read(func(x *world) { x.again = append(x.again, a) }) }

type worldBGP struct{ *world }

func (w worldBGP) Changed() <-chan struct{}   { return w.router }
func (w worldBGP) Sessions() []config.Session { return nil }
func (w worldBGP) Set(d bgp.Desired) {
	w.read(func(x *world) { x.routes, x.draining, x.set = slices.Concat(d.Routes...), d.Draining, true })
}

type worldReporter struct{ *world }

func (w worldReporter) Report(r Report) {
	var slow time.Duration
	w.read(func(x *world) { x.report, slow = r, x.slow })
	time.Sleep(slow)
}
