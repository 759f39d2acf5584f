package member

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// memberlist finds a node dead when it has not answered several probes for long enough that its process cannot merely be late. The kernel of
// a node is never late, so asking that is quicker: an answer to a probe that is overdue, or a lifeline that breaks, makes a speaker knock at
// the gossip port. A refusal means that the process has ended. Silence means that the node is dead or cut off, once two speakers have met
// with it, or one if there never was another to ask. In every other case memberlist decides, as it does for nodes that never answered a knock.
const (
	knocks      = 5                     // without an answer are silence
	knocksAlone = 10                    // where nobody else can look
	knockEvery  = 25 * time.Millisecond // for the answer to each

	confirmations = 2           // speakers that must find a node silent
	findingCounts = time.Second // for so long does what was found count

	looksAtOnce   = 16
	looksPerTime  = 20  // per second, on the average
	looksBurst    = 64  // at once
	lookersMost   = 16  // speakers that are asked to look, too
	wordsMost     = 256 // of others, waiting
	overdueMost   = 64  // answers, waiting
	refusedReason = "nothing listens at its gossip port any more"
	silentReason  = "its node does not answer"
)

// watcher is the state of watch. Its fields belong to that goroutine.
type watcher struct {
	*Member
	ml      *memberlist.Memberlist
	cases   map[string]*suspicion
	allowed *rate.Limiter
	lines   lines
	looks   errgroup.Group

	opened, broken chan string // lifelines
	found          chan finding
}

// suspicion is what is known of a peer that may have died.
type suspicion struct {
	addr     netip.AddrPort
	answered bool // its kernel has answered a knock before
	looking  bool
	alive    time.Time            // when it last answered
	silent   map[string]time.Time // who has found it silent, and when
}

// forget drops what was found too long ago.
func (s *suspicion) forget(now time.Time) {
	maps.DeleteFunc(s.silent, func(_ string, when time.Time) bool { return now.Sub(when) > findingCounts })
}

// finding is the outcome of looking.
type finding struct {
	node  string
	addr  netip.AddrPort
	sign  sign
	alarm bool // it was not looked at because others asked to
}

// watch looks after peers that may have died, until ctx ends.
func (m *Member) watch(ctx context.Context, ml *memberlist.Memberlist) {
	w := &watcher{
		Member: m, ml: ml, cases: map[string]*suspicion{}, allowed: rate.NewLimiter(looksPerTime, looksBurst),
		opened: make(chan string), broken: make(chan string), found: make(chan finding),
	}
	w.lines = lines{held: map[string]*line{}, opened: passTo(w.opened), broken: passTo(w.broken)}
	w.looks.SetLimit(looksAtOnce)
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		w.lines.close()
		_ = w.looks.Wait() // the functions return no errors
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.peered:
			w.follow(ctx)
		case node := <-w.opened:
			if s := w.of(node); s != nil {
				s.answered = true
				m.opt.Log.Debug("lifeline is open", "node", node)
			}
		case node := <-w.broken:
			w.look(ctx, node, true)
		case addr := <-m.overdue:
			if node := m.nodeAt(addr); node != "" {
				w.look(ctx, node, true)
			}
		case said := <-m.words:
			w.hear(ctx, said)
		case f := <-w.found:
			w.judge(f)
		}
	}
}

// passTo returns a function that passes a node's name on until ctx ends.
func passTo(to chan<- string) func(context.Context, string) {
	return func(ctx context.Context, node string) {
		select {
		case to <- node:
		case <-ctx.Done():
		}
	}
}

// follow holds lifelines to those who live, and forgets who has gone for good.
func (w *watcher) follow(ctx context.Context) {
	w.mu.Lock()
	peers := w.book.livePeers()
	for node := range w.cases {
		if w.book.peers[node] == nil {
			delete(w.cases, node)
		}
	}
	w.mu.Unlock()
	w.lines.set(ctx, w.opt.Node, peers)
}

// nodeAt returns the live peer at an address; "" without one.
func (m *Member) nodeAt(addr netip.AddrPort) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range m.book.peers {
		if p.live && p.addr == addr {
			return name
		}
	}
	return ""
}

// of returns the suspicion of a live peer; nil for one that is not, or is about to restart, which others wait for.
func (w *watcher) of(node string) *suspicion {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.book.peers[node]
	if p == nil || !p.live || p.restarting() {
		return nil
	}
	s := w.cases[node]
	if s == nil || s.addr != p.addr {
		s = &suspicion{addr: p.addr, silent: map[string]time.Time{}}
		w.cases[node] = s
	}
	return s
}

// look has a node knocked at. With alarm the others are asked to look, too, when it does not answer at once.
func (w *watcher) look(ctx context.Context, node string, alarm bool) {
	s := w.of(node)
	if s == nil || s.looking || !w.allowed.Allow() {
		return
	}
	others := w.others(node)
	f := finding{node: node, addr: s.addr, alarm: alarm}
	times := knocks
	if w.alone(node) {
		times = knocksAlone
	}
	s.looking = w.looks.TryGo(func() error {
		f.sign = w.knock(f.addr, 1, knockEvery)
		if f.sign == silence {
			if alarm {
				w.tell(others, encodeLook(w.opt.Node, node))
			}
			f.sign = w.knock(f.addr, times-1, knockEvery)
		}
		select {
		case w.found <- f:
		case <-ctx.Done():
		}
		return nil
	})
}

// hear takes what another speaker says of a node.
func (w *watcher) hear(ctx context.Context, said word) {
	s := w.of(said.node)
	if s == nil || said.from == w.opt.Node || said.node == w.opt.Node {
		return
	}
	s.forget(time.Now())
	if said.silent {
		s.silent[said.from] = time.Now()
		w.conclude(said.node, s)
	}
	if _, own := s.silent[w.opt.Node]; !own {
		w.look(ctx, said.node, false)
	}
}

// judge takes what this speaker has found.
func (w *watcher) judge(f finding) {
	s := w.of(f.node)
	if known := w.cases[f.node]; known != nil && known.addr == f.addr {
		known.looking = false
	}
	if s == nil || s.addr != f.addr {
		return
	}
	switch f.sign {
	case welcome:
		s.answered, s.alive = true, time.Now()
		clear(s.silent)
	case refusal:
		if s.answered && w.lose(f.node, f.addr, refusedReason) && f.alarm {
			w.tell(w.others(f.node), encodeLook(w.opt.Node, f.node))
		}
	case silence:
		if s.answered {
			s.silent[w.opt.Node] = time.Now()
			w.opt.Log.Debug("a speaker does not answer", "node", f.node)
			w.tell(w.others(f.node), encodeSilent(w.opt.Node, f.node))
			w.conclude(f.node, s)
		}
	case blind: // nobody was asked
	}
}

// conclude gives a node up that enough speakers find silent, unless it has just answered this one.
func (w *watcher) conclude(node string, s *suspicion) {
	now := time.Now()
	s.forget(now)
	_, own := s.silent[w.opt.Node]
	enough := len(s.silent) >= confirmations || own && w.alone(node)
	if !own && now.Sub(s.alive) < findingCounts {
		enough = false
	}
	if enough && w.lose(node, s.addr, silentReason) {
		clear(s.silent)
	}
}

// lose takes a peer for dead; it reports whether that is news.
func (m *Member) lose(node string, addr netip.AddrPort, why string) bool {
	m.mu.Lock()
	lost := m.book.lose(node, time.Now())
	if lost {
		m.answers.giveUp(addr) // with the lock, so that whoever hears of it finds it lost
		m.wake()
	}
	m.mu.Unlock()
	if lost {
		poke(m.seeded)
		poke(m.peered)
		m.opt.Log.Info("speaker is gone", "node", node, "why", why)
	}
	return lost
}

// revive takes back that the peer at an address was lost: it was heard.
func (m *Member) revive(addr netip.AddrPort) {
	m.mu.Lock()
	node := m.book.revive(addr)
	if node != "" {
		m.asks[node] = true // it may have missed what was said meanwhile
		m.wake()
	}
	m.mu.Unlock()
	if node != "" {
		poke(m.peered)
		m.opt.Log.Info("speaker is heard again", "node", node)
	}
}

// alone reports whether no other speaker but the one on a node was ever heard of. One that has lost the others is not: it may be the one who
// is cut off.
func (m *Member) alone(node string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.book.peers) == 1 && m.book.peers[node] != nil
}

// others returns some live peers besides one, in no order.
func (m *Member) others(node string) []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []netip.AddrPort
	for name, p := range m.book.peers {
		if p.live && name != node && len(out) < lookersMost {
			out = append(out, p.addr)
		}
	}
	return out
}

// tell sends a message in a packet.
func (w *watcher) tell(peers []netip.AddrPort, msg []byte) {
	for _, addr := range peers {
		if err := w.ml.SendBestEffort(addressee(addr), msg); err != nil {
			w.opt.Log.Debug("cannot tell a speaker", "address", addr, "error", err)
		}
	}
}
