package member

import (
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls, mostly with its own locks held: it only writes into the book and wakes others.
type delegate struct{ m *Member }

// NodeMeta returns nothing: what a speaker says of itself may be larger than metadata can be, and travels in messages.
func (d *delegate) NodeMeta(int) []byte { return nil }

// NotifyMsg takes a message of another speaker.
func (d *delegate) NotifyMsg(raw []byte) {
	msg, err := decode(raw)
	if err != nil {
		d.drop(err)
		return
	}
	d.m.mu.Lock()
	news := d.m.accept(msg)
	spread := news && len(d.m.book.livePeers()) > directPeers
	d.m.wake()
	d.m.mu.Unlock()
	if spread { // not everybody was told directly: pass it on
		d.m.queue.QueueBroadcast(&broadcast{about: aboutOf(msg), msg: append([]byte(nil), raw...)})
	}
}

// accept applies a message to the book; it reports whether it was news of a peer. The lock is held.
func (m *Member) accept(msg any) bool {
	switch v := msg.(type) {
	case *record:
		return m.book.take(v, true, time.Now())
	case *delta:
		return m.book.takeDelta(v, time.Now())
	case digest:
		return m.book.takeDigest(v)
	case want:
		if p := m.book.peers[v.from]; p != nil && p.live {
			m.asks[v.from] = true
		}
	case bundle:
		m.book.takeBundle(v, time.Now())
	case word:
		select {
		case m.words <- v:
		default: // the failure detector will do without
		}
	}
	return false
}

// aboutOf returns the node that a message is about.
func aboutOf(msg any) string {
	switch v := msg.(type) {
	case *record:
		return v.member.Node
	case *delta:
		return v.node
	case digest:
		return v.node
	}
	return ""
}

// wake tells whoever has something to do now. The lock is held.
func (m *Member) wake() {
	if m.book.turned {
		m.book.turned = false
		poke(m.urgent)
	}
	if m.book.dirty {
		poke(m.changed)
	}
	if len(m.book.restarters()) > 0 {
		poke(m.waiting)
	}
	if len(m.asks) > 0 || len(m.book.wants) > 0 || len(m.book.outrun) > 0 || (m.book.said() && m.book.self.stamp != m.told) {
		poke(m.unsent)
	}
}

func (d *delegate) drop(err error) {
	d.m.dropped.Add(1)
	d.m.opt.Log.Debug("dropped a gossip message", "error", err)
}

// GetBroadcasts returns messages to spread with the gossip.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	now := time.Now()
	d.m.late.tick(now)
	d.m.answers.look(now)
	return d.m.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns all that is known of live members, for a push/pull.
func (d *delegate) LocalState(bool) []byte {
	d.m.mu.Lock()
	s := d.m.book.bundle(time.Now()) // records are never changed, so they can be encoded without the lock
	d.m.mu.Unlock()
	return encodeSync(s)
}

// MergeRemoteState takes what another speaker knows.
func (d *delegate) MergeRemoteState(raw []byte, _ bool) {
	msg, err := decode(raw)
	if err != nil {
		d.drop(err)
		return
	}
	d.m.mu.Lock()
	d.m.accept(msg)
	d.m.wake()
	d.m.mu.Unlock()
}

// NotifyJoin notes a member that came to life.
func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.m.mu.Lock()
	d.m.book.alive(n.Name, addrOf(n))
	if len(d.m.book.peers) <= directPeers { // it may have missed what was said while it was thought dead
		d.m.asks[n.Name] = true
	}
	d.m.wake()
	d.m.mu.Unlock()
	poke(d.m.peered)
	if n.Name != d.m.opt.Node {
		d.m.opt.Log.Info("speaker is alive", "node", n.Name, "address", n.Address())
	}
}

// NotifyLeave notes a member that died or left.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	now := time.Now()
	late := d.m.late.recent(now)
	d.m.mu.Lock()
	p := d.m.book.peers[n.Name]
	known := p != nil && p.lost
	d.m.book.dead(n.Name, late, now)
	p = d.m.book.peers[n.Name]
	waiting := p != nil && p.absent
	doubted := waiting && p.doubted
	d.m.wake()
	d.m.mu.Unlock()
	poke(d.m.seeded)
	poke(d.m.bereft)
	poke(d.m.peered)
	switch {
	case known: // and said
	case doubted:
		d.m.opt.Log.Info("speaker seems gone, but this one ran late: looking again", "node", n.Name)
	case waiting:
		d.m.opt.Log.Info("speaker restarts; what it claims stands meanwhile", "node", n.Name)
	default:
		d.m.opt.Log.Info("speaker is gone", "node", n.Name)
	}
}

// NotifyUpdate is for changed metadata, which is not used.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}

// NotifyConflict reports that two speakers use one node name at different addresses. The older stays until it is found dead.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	d.m.opt.Log.Warn("two speakers use one node name; the second is not heard while the first lives",
		"node", existing.Name, "first", existing.Address(), "second", other.Address())
}

// addrOf returns a member's address as a value.
func addrOf(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr) // memberlist holds 4 or 16 bytes
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}

// broadcast is a queued message about a node; a later one about the same node replaces it.
type broadcast struct {
	about string
	msg   []byte
}

// Invalidates implements memberlist.Broadcast.
func (b *broadcast) Invalidates(o memberlist.Broadcast) bool {
	other, ok := o.(*broadcast)
	return ok && other.about == b.about
}

// Name implements memberlist.NamedBroadcast, so that the queue finds what is replaced without a search.
func (b *broadcast) Name() string { return b.about }

// Message implements memberlist.Broadcast.
func (b *broadcast) Message() []byte { return b.msg }

// Finished implements memberlist.Broadcast.
func (b *broadcast) Finished() {}
