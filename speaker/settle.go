package speaker

import "time"

// A speaker that has just started knows nobody yet: were it to decide at once, it would see all addresses unclaimed and take them all.
// So it listens first.
const (
	settleQuiet = time.Second     // after gossip and config are there
	settleMost  = 3 * time.Second // at most, when speakers that should be there do not answer
)

// settle tells when a speaker that has started may take addresses. It is a value with one-way progress: once settled, always settled.
type settle struct {
	ready time.Time // when config and gossip were first both there
	done  bool
}

// check reports whether the speaker may take addresses; if not, after what time to ask again at the latest (0: only when something changes).
// alive and seeds count speakers, this one included: those that gossip sees, and those that the cluster says run. One that has returned was
// told all there is to know.
func (s *settle) check(now time.Time, synced, gossiping, returned bool, alive, seeds int) (settled bool, again time.Duration) {
	if s.done {
		return true, 0
	}
	if !synced || !gossiping {
		return false, 0
	}
	if returned {
		s.done = true
		return true, 0
	}
	if s.ready.IsZero() {
		s.ready = now
	}
	limit := settleQuiet
	if alive < seeds {
		limit = settleMost
	}
	if left := limit - now.Sub(s.ready); left > 0 {
		return false, left
	}
	s.done = true
	return true, 0
}
