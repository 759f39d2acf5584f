package gobgp

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/speaker/bgp"
)

// linger is how long a passing state of a further attempt has to last before it is shown. A peer that is down for a day is then seen as
// one state with one error, not as a change at every attempt.
const linger = 2 * time.Second

// board shows the state of a session to readers. The session's goroutine writes, but for what the wire counts.
type board struct {
	changed  func()
	received atomic.Uint64 // UPDATE messages
	refused  atomic.Uint64 // routes in them

	mu      sync.Mutex
	status  bgp.Status
	failing bool        // an attempt failed since the session was last Established
	pending *time.Timer // shows a passing state when it lasts
	turn    int         // grows with every state; a late timer sees that its own is over
}

func newBoard(changed func()) *board {
	return &board{changed: changed, status: bgp.Status{State: bgp.Idle, Since: time.Now()}}
}

func (b *board) read() bgp.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.status
	st.Received, st.Refused = b.received.Load(), b.refused.Load()
	return st
}

// count counts an UPDATE message from the peer, and the routes it offers. Nothing else is kept of it.
func (b *board) count(body []byte) {
	b.received.Add(1)
	b.refused.Add(uint64(offered(body)))
}

// update applies f and tells about it when the status is another one afterwards; counters alone are no news.
func (b *board) update(f func(*bgp.Status)) {
	b.mu.Lock()
	before := b.status
	f(&b.status)
	if b.status.State != before.State {
		b.status.Since = time.Now()
	}
	after := b.status
	b.mu.Unlock()
	after.Counters = before.Counters
	if after != before {
		b.changed()
	}
}

// enter shows a passing state (Connect, OpenSent, OpenConfirm): at once on the first attempt, later only when it lasts. A router that does
// not answer at all is Active, as it is between two attempts: each of them may take as long as a connection may.
func (b *board) enter(s bgp.State) {
	b.settle()
	b.mu.Lock()
	if b.failing && s == bgp.Connect {
		b.mu.Unlock()
		return
	}
	if b.failing {
		turn := b.turn
		b.pending = time.AfterFunc(linger, func() {
			b.update(func(st *bgp.Status) {
				if b.turn == turn {
					st.State = s
				}
			})
		})
		b.mu.Unlock()
		return
	}
	b.mu.Unlock()
	b.update(func(st *bgp.Status) { st.State = s })
}

// settle drops a passing state that was not shown yet.
func (b *board) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn++
	if b.pending != nil {
		b.pending.Stop()
		b.pending = nil
	}
}

// fail shows that an attempt or a session ended, and why.
func (b *board) fail(s bgp.State, why string) {
	b.settle()
	b.mu.Lock()
	b.failing = true
	b.mu.Unlock()
	b.update(func(st *bgp.Status) {
		down(st, s)
		st.LastError = why
	})
}

// establish shows that the session is up. The last error stays readable unless there is a new complaint.
func (b *board) establish(up bgp.Status, complaint string) {
	b.settle()
	b.mu.Lock()
	b.failing = false
	b.mu.Unlock()
	b.update(func(st *bgp.Status) {
		up.State, up.Since, up.LastError, up.Counters = bgp.Established, st.Since, st.LastError, st.Counters
		up.Ups++
		if complaint != "" {
			up.LastError = complaint
		}
		*st = up
	})
}

// stopped shows that the session ended because it is no longer wanted.
func (b *board) stopped() {
	b.settle()
	b.update(func(st *bgp.Status) { down(st, bgp.Idle) })
}

// down is the status of a session that is not established (any more). Who the router was stays readable.
func down(st *bgp.Status, s bgp.State) {
	if st.State == bgp.Established {
		st.Downs++
	}
	*st = bgp.Status{State: s, Since: st.Since, Remote: st.Remote, PeerASN: st.PeerASN, LastError: st.LastError, Counters: st.Counters}
}
