package speaker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

// town models several nodes with a speaker each, in fake time: gossip that takes a while and can be cut, failures that take longer to be
// noticed, sockets that take a moment to open. A watchman looks every millisecond who answers for what.
type town struct {
	t  *testing.T
	mu sync.Mutex

	snap    *config.Snapshot
	houses  map[string]*house
	side    map[string]int // of a split
	watched watch
}

// Times of the model.
const (
	travel  = 3 * time.Millisecond   // of a word from speaker to speaker
	notice  = 400 * time.Millisecond // of a failure
	opening = 4 * time.Millisecond   // of a socket
	meeting = 60 * time.Millisecond  // from the start of a process to the first exchange with another
)

// house is a node.
type house struct {
	*town
	name    string
	run     int // counts processes
	alive   bool
	began   time.Time
	known   map[string]decide.Member // others, as told
	heard   time.Time
	memory  decide.Memory
	former  map[netip.Addr]decide.Claim
	said    *decide.Member // by the present or last process
	links   []config.Interface
	answers []decide.L2Address
	holds   []config.L2Holding
	report  Report
	frozen  chan struct{} // closed when it thaws; nil when it runs
	again   int
	speaker *Speaker
	stop    context.CancelFunc
	done    chan struct{}

	source, link, gossip, layer2, router chan struct{}
}

func newTown(t *testing.T, addresses int, names ...string) *town {
	w := &town{t: t, houses: map[string]*house{}, side: map[string]int{}, watched: watch{
		since: map[netip.Addr]time.Time{}, who: map[netip.Addr][]string{}, last: map[netip.Addr]string{},
	}}
	snap := &config.Snapshot{
		Synced:           true,
		Pools:            []*config.Pool{{Name: "lan", Ranges: []config.Range{{From: addr(1), To: addr(200)}}, AutoAssign: true}},
		L2Advertisements: []*config.L2Advertisement{{Name: "lan", Pools: config.All[string](), Services: config.All[config.Key](), Nodes: config.All[string]()}},
	}
	for i := range addresses {
		snap.Services = append(snap.Services, &config.Service{
			Key: config.Key{Namespace: "default", Name: fmt.Sprintf("web-%02d", i)}, Families: []config.Family{config.IPv4},
			Ingress: []netip.Addr{addr(i + 1)}, Endpoints: config.Endpoints{Ready: map[string]int{"elsewhere": 1}},
		})
	}
	for i, name := range names {
		snap.Nodes = append(snap.Nodes, &config.Node{Name: name, Ready: true})
		links := []config.Interface{{
			Name: "eth0", Index: 2, MAC: fmt.Sprintf("02:00:00:00:00:%02x", i+1), Up: true,
			Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		}}
		w.houses[name] = &house{town: w, name: name, links: links, memory: decide.Memory{}}
	}
	w.snap = snap
	return w
}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }

// start starts a process on a node.
func (w *town) start(names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		w.houses[name].begin()
	}
}

// begin starts a process. The lock is held.
func (h *house) begin() {
	c := func() chan struct{} { return make(chan struct{}, 1) }
	h.source, h.link, h.gossip, h.layer2, h.router = c(), c(), c(), c(), c()
	h.run++
	h.alive, h.began = true, time.Now()
	h.known, h.former, h.heard, h.memory = map[string]decide.Member{}, nil, time.Time{}, decide.Memory{}
	h.speaker = New(Options{
		Node: h.name, Started: time.Now(), GossipPort: 7947,
		Source: houseSource{h}, Links: houseLinks{h}, Gossip: houseGossip{h}, L2: houseL2{h}, BGP: houseBGP{h}, Reporter: houseReporter{h},
		Log: slog.New(slog.DiscardHandler),
	})
	h.speaker.pulse.hold = h.standStill
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.done = cancel, make(chan struct{})
	s, done, run := h.speaker, h.done, h.run
	go func() { _ = s.Run(ctx); close(done) }()
	time.AfterFunc(meeting, func() { h.meet(run) })
}

// meet exchanges all that is known with the others that can be reached.
func (h *house) meet(run int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != run || !h.alive {
		return
	}
	for _, o := range h.houses {
		if o == h || !o.alive || h.side[o.name] != h.side[h.name] {
			continue
		}
		h.heard = time.Now()
		if o.said != nil && o.run > 0 {
			h.known[o.name] = *o.said
		}
		if was, ok := o.known[h.name]; ok && h.said == nil && was.State != decide.Draining {
			h.former = was.Claims
		}
		for name, m := range o.known {
			if _, ok := h.known[name]; !ok && name != h.name {
				h.known[name] = m
			}
		}
		for a, n := range o.memory {
			h.memory[a] = max(h.memory[a], n)
		}
		if h.said != nil {
			o.learn(*h.said)
		}
	}
	poke(h.gossip)
}

// learn takes in what another said. The lock is held.
func (h *house) learn(m decide.Member) {
	h.known[m.Node] = m
	for a, c := range m.Claims {
		h.memory[a] = max(h.memory[a], c.Counter)
	}
	poke(h.gossip)
}

// end ends a process in one of several ways.
func (w *town) end(name string, leave func(*Speaker)) {
	w.mu.Lock()
	h := w.houses[name]
	run, stop, done, s := h.run, h.stop, h.done, h.speaker
	w.mu.Unlock()
	stop()
	if h.frozen == nil {
		<-done
	}
	leave(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	h.alive, h.answers, h.holds = false, nil, nil
	w.look()
	if h.said == nil {
		return
	}
	last := *h.said
	h.said = nil
	forget := func() { w.forget(name, run) }
	switch last.State {
	case decide.Draining: // it left
		time.AfterFunc(travel, forget)
	case decide.Restarting: // waited for
	default:
		time.AfterFunc(notice, forget)
	}
}

func (w *town) kill(name string)    { w.end(name, func(*Speaker) {}) }
func (w *town) restart(name string) { w.end(name, func(s *Speaker) { s.Pause(context.Background()) }) }

func (w *town) retire(name string) { w.end(name, func(s *Speaker) { s.Retire(context.Background()) }) }

// forget lets everybody notice that a process is gone, unless there is another by now.
func (w *town) forget(name string, run int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.houses[name].run != run {
		return
	}
	for _, o := range w.houses {
		delete(o.known, name)
		if o.alive {
			poke(o.gossip)
		}
	}
}

// split cuts the town in two; heal makes it whole.
func (w *town) split(side map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.side = side
	time.AfterFunc(notice, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, h := range w.houses {
			maps.DeleteFunc(h.known, func(o string, _ decide.Member) bool { return w.side[o] != w.side[h.name] })
			if h.alive {
				poke(h.gossip)
			}
		}
	})
}

func (w *town) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.side = map[string]int{}
	for _, h := range w.houses {
		if h.alive {
			run := h.run
			time.AfterFunc(meeting, func() { h.meet(run) })
		}
	}
}

// change edits what the cluster asks for. The edit gets a copy of the snapshot, whose objects it must replace, not change.
func (w *town) change(edit func(*config.Snapshot)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := *w.snap
	edit(&next)
	w.snap = &next
	for _, h := range w.houses {
		if h.alive {
			poke(h.source)
		}
	}
}

// node edits one node.
func (w *town) node(name string, edit func(*config.Node)) {
	w.change(func(s *config.Snapshot) {
		s.Nodes = slices.Clone(s.Nodes)
		for i, n := range s.Nodes {
			if n.Name == name {
				c := *n
				edit(&c)
				s.Nodes[i] = &c
			}
		}
	})
}

// freeze stops a process in the middle of things, and the others notice; thaw lets it go on.
func (w *town) freeze(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.houses[name]
	h.frozen = make(chan struct{})
	poke(h.source)
	w.look()
	run := h.run
	time.AfterFunc(notice, func() { w.forget(name, run) })
}

func (w *town) thaw(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.houses[name]
	close(h.frozen)
	h.frozen = nil
	w.look()
	for _, o := range w.houses { // it refutes its death
		if o != h && o.alive && h.said != nil {
			said := *h.said
			time.AfterFunc(travel, func() { w.mu.Lock(); defer w.mu.Unlock(); o.learn(said) })
		}
	}
}

// owners returns who answers in whose name, by address. A frozen process answers nobody. The lock is held.
func (w *town) owners() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, h := range w.houses {
		if h.frozen != nil || !h.alive {
			continue
		}
		for _, a := range h.answers {
			who := h.name
			if a.For != "" {
				who = a.For
				if want := w.houses[a.For].links[0].MAC; !slices.Equal(a.MACs, []string{want}) {
					w.t.Errorf("%s stands in for %s with %v, whose MAC is %s", h.name, a.For, a.MACs, want)
				}
			}
			if !slices.Contains(out[a.Addr], who) {
				out[a.Addr] = append(out[a.Addr], who)
			}
		}
	}
	return out
}

// owner returns who answers for each address; it fails when somebody does not.
func (w *town) where(when string) map[netip.Addr]string {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[netip.Addr]string{}
	owners := w.owners()
	for _, s := range w.snap.Services {
		a := s.Ingress[0]
		if len(owners[a]) != 1 {
			w.t.Errorf("%s: %s is answered for by %v", when, a, owners[a])
			continue
		}
		out[a] = owners[a][0]
	}
	return out
}

// of returns the addresses that a node has.
func of(where map[netip.Addr]string, node string) []netip.Addr {
	var out []netip.Addr
	for a, n := range where {
		if n == node {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// watch is what was seen: how long addresses were not answered for, or in two names, at a stretch, and how often they moved.
type watch struct {
	since          map[netip.Addr]time.Time
	who            map[netip.Addr][]string
	last           map[netip.Addr]string // who had it alone
	silent, double time.Duration         // the longest
	moves          int
}

// look is called after every change of who answers. The lock is held.
func (w *town) look() {
	x, now, owners := &w.watched, time.Now(), w.owners()
	for _, s := range w.snap.Services {
		a := s.Ingress[0]
		who := slices.Sorted(slices.Values(owners[a]))
		switch took := now.Sub(x.since[a]); {
		case x.since[a].IsZero():
		case len(x.who[a]) == 0:
			x.silent = max(x.silent, took)
		case len(x.who[a]) > 1:
			x.double = max(x.double, took)
		}
		if x.since[a].IsZero() || (len(who) == 1) != (len(x.who[a]) == 1) || (len(who) == 0) != (len(x.who[a]) == 0) {
			x.since[a] = now
		}
		x.who[a] = who
		if len(who) == 1 && x.last[a] != who[0] {
			if x.last[a] != "" {
				x.moves++
			}
			x.last[a] = who[0]
		}
	}
}

// seen returns what was seen since it was last asked.
func (w *town) seen() (silent, double time.Duration, moves int) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look()
	x := &w.watched
	silent, double, moves = x.silent, x.double, x.moves
	x.silent, x.double, x.moves = 0, 0, 0
	clear(x.since)
	w.look()
	return silent, double, moves
}

// story runs a town of nodes a, b, c and d with twelve addresses, settled.
func story(t *testing.T, tell func(t *testing.T, w *town)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t, 12, "a", "b", "c", "d")
		w.start("a", "b", "c", "d")
		time.Sleep(5 * time.Second)
		for _, name := range []string{"a", "b", "c", "d"} {
			if len(of(w.where("at first"), name)) == 0 {
				t.Fatalf("the test is wrong: %s has no address: %v", name, w.where("at first"))
			}
		}
		w.seen()
		tell(t, w)
		for _, h := range w.houses {
			if h.alive {
				w.kill(h.name)
			}
		}
	})
}

type houseSource struct{ *house }

func (h houseSource) Changed() <-chan struct{} { return h.source }
func (h houseSource) Stale() time.Time         { return time.Time{} }
func (h houseSource) Snapshot() *config.Snapshot {
	h.standStill()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.snap
}

// standStill returns when the process is not frozen.
func (h *house) standStill() {
	h.mu.Lock()
	frozen := h.frozen
	h.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

func (h houseSource) Seeds() []netip.Addr {
	out := make([]netip.Addr, len(h.houses))
	for i := range out {
		out[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
	}
	return out
}

type houseLinks struct{ *house }

func (h houseLinks) Changed() <-chan struct{} { return h.link }
func (h houseLinks) Interfaces() []config.Interface {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.links
}

type houseGossip struct{ *house }

func (h houseGossip) Changed() <-chan struct{}    { return h.gossip }
func (h houseGossip) Urgent() <-chan struct{}     { return nil }
func (h houseGossip) SetSeeds(_ []netip.AddrPort) {}

func (h houseGossip) View() *member.View {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := &member.View{Claims: maps.Clone(h.memory), Known: len(h.houses), Alive: 1 + len(h.known), Heard: h.heard, Former: h.former}
	if h.said != nil {
		v.Members = append(v.Members, *h.said)
	}
	for _, m := range h.known {
		v.Members = append(v.Members, m)
	}
	slices.SortFunc(v.Members, func(a, b decide.Member) int { return strings.Compare(a.Node, b.Node) })
	return v
}

func (h houseGossip) Publish(m decide.Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = &m
	for a, c := range m.Claims {
		h.memory[a] = max(h.memory[a], c.Counter)
	}
	run := h.run
	for _, o := range h.houses {
		if o == h.house || h.side[o.name] != h.side[h.name] {
			continue
		}
		time.AfterFunc(travel, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if o.alive && h.run == run && h.said != nil && h.side[o.name] == h.side[h.name] {
				o.learn(m)
			}
		})
	}
}

func (h houseGossip) Resync() {
	run := h.run
	time.AfterFunc(10*time.Millisecond, func() { h.meet(run) })
}

type houseL2 struct{ *house }

func (h houseL2) Changed() <-chan struct{} { return h.layer2 }
func (h houseL2) Conflicts() []l2.Conflict { return nil }
func (h houseL2) Denied() bool             { return false }
func (h houseL2) Announce(netip.Addr)      { h.mu.Lock(); defer h.mu.Unlock(); h.again++ }

func (h houseL2) Actual() []config.L2Holding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holds
}

func (h houseL2) Set(answers []decide.L2Address, _ []config.Interface) {
	h.mu.Lock()
	defer h.mu.Unlock()
	run := h.run
	stays := func(a decide.L2Address) bool {
		return slices.ContainsFunc(answers, func(b decide.L2Address) bool { return a.Addr == b.Addr && a.For == b.For })
	}
	before := len(h.answers)
	h.answers = slices.DeleteFunc(slices.Clone(h.answers), func(a decide.L2Address) bool { return !stays(a) })
	if before == len(answers) && len(h.answers) == before {
		return // the same as before
	}
	h.look()
	next := slices.Clone(answers)
	time.AfterFunc(opening, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.run != run || !h.alive || h.frozen != nil {
			return
		}
		h.answers, h.holds = next, nil
		for _, a := range next {
			h.holds = append(h.holds, config.L2Holding{Address: a.Addr, Interface: "eth0"})
		}
		h.look()
		poke(h.layer2)
	})
}

type houseBGP struct{ *house }

func (h houseBGP) Changed() <-chan struct{}   { return h.router }
func (h houseBGP) Sessions() []config.Session { return nil }
func (h houseBGP) Set(bgp.Desired)            {}

type houseReporter struct{ *house }

func (h houseReporter) Report(r Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report = r
}
