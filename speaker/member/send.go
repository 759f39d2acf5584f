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

// send tells the others what this speaker published, at once and to each, and fetches what is missing.
func (m *Member) send(ctx context.Context, ml *memberlist.Memberlist) {
	var g errgroup.Group
	g.SetLimit(streams)
	defer func() { _ = g.Wait() }() // the functions return no errors
	asked := map[string]time.Time{}
	for {
		work := m.outbox(asked, time.Now())
		m.deliver(&g, ml, work)
		var again <-chan time.Time
		if work.waiting {
			again = time.After(wantInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sendInterval):
		}
		select {
		case <-ctx.Done():
			return
		case <-m.unsent:
		case <-again:
		}
	}
}

// outbox is what is to be sent in one round.
type outbox struct {
	news    []byte // for everybody; nil without
	packed  bool   // it fits a packet
	digest  []byte // what fits in any case
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
	if m.book.said() && m.book.self.stamp != m.told {
		w.news, w.packed = m.book.news(packetLimit)
		w.digest = encodeDigest(digest{m.opt.Node, m.book.self.stamp})
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

// deliver sends a round. Packets go out here; streams, which may block on a peer that is gone, in g.
func (m *Member) deliver(g *errgroup.Group, ml *memberlist.Memberlist, w outbox) {
	if w.news != nil {
		m.tellAll(g, ml, w)
	}
	for node := range w.asks {
		m.tell(g, ml, w.node(node), w.full, len(w.full) <= packetLimit)
	}
	for node, rec := range w.outrun {
		msg := encodeFull(rec)
		m.tell(g, ml, w.node(node), msg, len(msg) <= packetLimit)
	}
	for _, node := range w.wants {
		m.tell(g, ml, w.node(node), encodeWant(m.opt.Node), true)
	}
}

// tellAll sends the news to as many as is reasonable, and leaves the rest, and what got lost, to gossip.
func (m *Member) tellAll(g *errgroup.Group, ml *memberlist.Memberlist, w outbox) {
	told := 0
	for name := range w.peers { // a map's order is random enough to spread who is left to gossip
		if told++; told > directPeers {
			break
		}
		m.tell(g, ml, w.node(name), w.news, w.packed)
	}
	gossip := w.news
	if !w.packed {
		gossip = w.digest
	}
	m.queue.QueueBroadcast(&broadcast{about: m.opt.Node, msg: gossip})
}

// node returns a peer as memberlist takes it. (Those that memberlist hands out change under its own lock.)
func (w *outbox) node(name string) *memberlist.Node {
	a := w.peers[name]
	return &memberlist.Node{Name: name, Addr: a.Addr().AsSlice(), Port: a.Port()}
}

// tell sends a message to one peer. A failure is only logged: the peer is gone, or asks when it hears of the version by gossip.
func (m *Member) tell(g *errgroup.Group, ml *memberlist.Memberlist, p *memberlist.Node, msg []byte, packed bool) {
	if len(p.Addr) == 0 {
		return // it died meanwhile
	}
	if packed {
		if err := ml.SendBestEffort(p, msg); err != nil {
			m.opt.Log.Debug("cannot tell a speaker", "node", p.Name, "error", err)
		}
		return
	}
	g.Go(func() error {
		if err := ml.SendReliable(p, msg); err != nil {
			m.opt.Log.Debug("cannot tell a speaker", "node", p.Name, "error", err)
		}
		return nil
	})
}
