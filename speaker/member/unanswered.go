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
// answer: they probe. (Answers to probes are not noted: to look at who does not answer them would cost each speaker ten connections per second.) It looks with each beat of gossip: a timer for each packet would cost a speaker at rest a third more.
type unanswered struct {
	overdue func(netip.AddrPort) // an answer is; called without the lock, must not block
	back    func(netip.AddrPort) // one who was given up is heard; called without the lock, must not block

	mu    sync.Mutex
	since map[netip.AddrPort]time.Time // of the first packet that is not answered
	quiet map[netip.AddrPort]bool      // who was given up
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
}

// heard notes a packet that came.
func (u *unanswered) heard(from netip.AddrPort) {
	u.mu.Lock()
	delete(u.since, from)
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

// look tells of answers that are overdue, once for each packet.
func (u *unanswered) look(now time.Time) {
	u.mu.Lock()
	var overdue []netip.AddrPort
	for addr, since := range u.since {
		if now.Sub(since) >= answerDue {
			overdue = append(overdue, addr)
			delete(u.since, addr)
		}
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
	clear(u.since)
}
