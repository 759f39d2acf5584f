package member

import (
	"net/netip"
	"sync"
	"time"
)

// answerDue is how long a packet may go without any sign of its receiver before that is looked at more closely. An answer takes less than
// a millisecond where speakers share a LAN, and all but the busiest are quicker than this; being wrong costs one connection.
const answerDue = 40 * time.Millisecond

// unanswered notices who was sent a packet and has not been heard since. It knows nothing of what the packets say, of which most want an
// answer: they probe.
type unanswered struct {
	overdue func(netip.AddrPort) // an answer is; called without the lock, must not block
	back    func(netip.AddrPort) // one who was given up is heard; called without the lock, must not block

	mu    sync.Mutex
	since map[netip.AddrPort]time.Time // of the first packet that is not answered
	quiet map[netip.AddrPort]bool      // who was given up
	timer *time.Timer                  // runs as long as anybody owes an answer; nil before the first packet
	over  bool                         // or not begun
}

func newUnanswered(overdue, back func(netip.AddrPort)) *unanswered {
	return &unanswered{overdue: overdue, back: back, since: map[netip.AddrPort]time.Time{}, quiet: map[netip.AddrPort]bool{}, over: true}
}

// begin has it take note of what is sent, until stop: there may be another transport after one that had to be given up.
func (u *unanswered) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.since)
	u.over = false
}

// sent notes a packet that was sent.
func (u *unanswered) sent(to netip.AddrPort, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, waits := u.since[to]; waits || u.over {
		return
	}
	u.since[to] = now
	switch {
	case len(u.since) > 1:
	case u.timer == nil:
		u.timer = time.AfterFunc(answerDue, u.look)
	default:
		u.timer.Reset(answerDue)
	}
}

// heard notes a packet that came.
func (u *unanswered) heard(from netip.AddrPort) {
	u.mu.Lock()
	if _, waits := u.since[from]; waits {
		delete(u.since, from)
		if len(u.since) == 0 {
			u.timer.Stop()
		}
	}
	back := u.quiet[from]
	delete(u.quiet, from)
	u.mu.Unlock()
	if back {
		u.back(from)
	}
}

// giveUp has back called when the address is heard of again.
func (u *unanswered) giveUp(addr netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.quiet[addr] = true
	delete(u.since, addr)
}

// look tells of answers that are overdue, once for each packet, and waits for the next.
func (u *unanswered) look() {
	u.mu.Lock()
	now := time.Now()
	var overdue []netip.AddrPort
	next := answerDue
	for addr, since := range u.since {
		if left := answerDue - now.Sub(since); left > 0 {
			next = min(next, left)
			continue
		}
		overdue = append(overdue, addr)
		delete(u.since, addr)
	}
	if len(u.since) > 0 && !u.over {
		u.timer.Reset(next)
	}
	u.mu.Unlock()
	for _, addr := range overdue {
		u.overdue(addr)
	}
}

// stop ends it.
func (u *unanswered) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.timer != nil {
		u.timer.Stop()
	}
}
