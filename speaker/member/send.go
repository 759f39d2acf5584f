package member

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

const (
	directPeers  = 64                     // so many are told directly of each change; the others by gossip
	packetLimit  = 1150                   // bytes of a message that fits one packet with everything around it
	sendInterval = 2 * time.Millisecond   // least time between two rounds; changes meanwhile are told together
	wantInterval = 200 * time.Millisecond // time between two requests for a missing record
	streams      = 16                     // streams open at once
)

// repeats returns how long after the last news all are told which version there is: packets get lost, and gossip repeats what is small only a
// few times. Who missed it asks.
func repeats() []time.Duration {
	return []time.Duration{250 * time.Millisecond, time.Second, 3 * time.Second}
}

// sender is the state of send.
type sender struct {
	*Member
	ml      *memberlist.Memberlist
	asked   map[string]time.Time // when each peer was last asked for its record
	streams errgroup.Group
	busy    map[string]bool // peers that a stream is open to
	done    chan string     // a stream to this peer has ended
	repeats []time.Time     // when to tell the version again
}

// send tells the others what this speaker published, at once and to each, and fetches what is missing. It never waits for a peer.
func (m *Member) send(ctx context.Context, ml *memberlist.Memberlist) {
	s := &sender{Member: m, ml: ml, asked: map[string]time.Time{}, busy: map[string]bool{}, done: make(chan string)}
	s.streams.SetLimit(streams)
	defer func() { _ = s.streams.Wait() }() // the functions return no errors
	for {
		now := time.Now()
		work := m.outbox(s.asked, now)
		s.deliver(ctx, work)
		s.remind(ctx, work, now)
		var again, repeat <-chan time.Time
		if work.waiting {
			again = time.After(wantInterval)
		}
		if len(s.repeats) > 0 {
			repeat = time.After(time.Until(s.repeats[0]))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sendInterval):
		}
		select {
		case <-ctx.Done():
			return
		case node := <-s.done:
			delete(s.busy, node)
		case <-m.unsent:
		case <-again:
		case <-repeat:
		}
	}
}

// outbox is what is to be sent in one round.
type outbox struct {
	news    []byte // for everybody; nil without
	packed  bool   // it fits a packet
	digest  []byte // what fits in any case; nil while nothing was said
	full    []byte // the whole record, for those that asked
	asks    map[string]bool
	outrun  map[string]*record // see book
	wants   []string           // whose record is asked for
	waiting bool               // some record is still missing
	peers   map[string]netip.AddrPort
}

// outbox collects what is to be sent. asked says when each peer was last asked for its record.
func (m *Member) outbox(asked map[string]time.Time, now time.Time) outbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := outbox{peers: m.book.livePeers(), outrun: m.book.outrun}
	m.book.outrun = map[string]*record{}
	if m.book.said() {
		w.digest = encodeDigest(digest{m.opt.Node, m.book.self.stamp})
	}
	if m.book.said() && m.book.self.stamp != m.told {
		w.news, w.packed = m.book.news(packetLimit)
		m.told = m.book.self.stamp
	}
	if len(m.asks) > 0 && m.book.said() {
		w.full, w.asks = encodeFull(m.book.self), m.asks
		m.asks = map[string]bool{}
	}
	for node := range m.book.wants {
		w.waiting = true
		if now.Sub(asked[node]) >= wantInterval {
			asked[node] = now
			w.wants = append(w.wants, node)
		}
	}
	for node := range asked {
		if !m.book.wants[node] {
			delete(asked, node)
		}
	}
	return w
}

// deliver sends a round. Packets go out here; streams, which may block on a peer that is gone, in goroutines. Whom no stream can be opened to now
// gets the whole record when one can.
func (s *sender) deliver(ctx context.Context, w outbox) {
	if w.news != nil {
		s.tellAll(ctx, w)
	}
	for node := range w.asks {
		s.tell(ctx, w.node(node), w.full)
	}
	for node, rec := range w.outrun {
		s.tell(ctx, w.node(node), encodeFull(rec)) // one that is not told goes on with the wrong version, and is told again
	}
	for _, node := range w.wants {
		s.tell(ctx, w.node(node), encodeWant(s.opt.Node))
	}
}

// tellAll sends the news to as many as is reasonable, and leaves the rest, and what got lost, to gossip.
func (s *sender) tellAll(ctx context.Context, w outbox) {
	gossip := w.news
	if !w.packed {
		gossip = w.digest
	}
	s.queue.QueueBroadcast(&broadcast{about: s.opt.Node, msg: gossip})
	s.tellMany(ctx, w, w.news)
}

// tellMany sends a message to as many as is reasonable.
func (s *sender) tellMany(ctx context.Context, w outbox, msg []byte) {
	told := 0
	for name := range w.peers { // a map's order is random enough to spread who is left to gossip
		if told++; told > directPeers {
			break
		}
		s.tell(ctx, w.node(name), msg)
	}
}

// remind tells the version again when that is due.
func (s *sender) remind(ctx context.Context, w outbox, now time.Time) {
	if w.news != nil {
		s.repeats = s.repeats[:0]
		for _, after := range repeats() {
			s.repeats = append(s.repeats, now.Add(after))
		}
	}
	if len(s.repeats) > 0 && !now.Before(s.repeats[0]) {
		s.repeats = s.repeats[1:]
		s.tellMany(ctx, w, w.digest)
	}
}

// node returns a peer as memberlist takes it. (Those that memberlist hands out change under its own lock.)
func (w *outbox) node(name string) *memberlist.Node {
	n := addressee(w.peers[name])
	n.Name = name
	return n
}

// addressee returns who is at an address, without a name, as memberlist takes it.
func addressee(a netip.AddrPort) *memberlist.Node {
	return &memberlist.Node{Addr: a.Addr().AsSlice(), Port: a.Port()}
}

// tell sends a message to one peer: what fits one packet in one. A failure is only logged: the peer is gone, or asks when it hears of the version by
// gossip.
func (s *sender) tell(ctx context.Context, p *memberlist.Node, msg []byte) {
	if len(p.Addr) == 0 {
		return // it died meanwhile
	}
	if len(msg) <= packetLimit {
		s.failed(p, s.ml.SendBestEffort(unnamed(p), msg))
		return
	}
	if s.busy[p.Name] || !s.stream(ctx, p, msg) {
		s.mu.Lock()
		s.asks[p.Name] = true
		s.mu.Unlock()
	}
}

// stream opens a stream, unless there are as many as there may be; each that ends has the sender look for what is left to do.
func (s *sender) stream(ctx context.Context, p *memberlist.Node, msg []byte) bool {
	started := s.streams.TryGo(func() error {
		s.failed(p, s.ml.SendReliable(p, msg))
		select {
		case s.done <- p.Name:
		case <-ctx.Done():
		}
		return nil
	})
	if started {
		s.busy[p.Name] = true
	}
	return started
}

// unnamed returns a node without its name, for what no answer is expected to: see transport.
func unnamed(n *memberlist.Node) *memberlist.Node {
	return &memberlist.Node{Addr: n.Addr, Port: n.Port}
}

func (s *sender) failed(p *memberlist.Node, err error) {
	if err != nil {
		s.opt.Log.Debug("cannot tell a speaker", "node", p.Name, "error", err)
	}
}
