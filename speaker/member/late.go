package member

import (
	"sync"
	"time"
)

// lateness notices when this process runs late, by a beat of gossip that comes at a fixed interval as long as there is anybody to gossip
// with. A process that does not get the processor sees others fall silent who are not, and must not believe itself: what they said may
// lie unread in its sockets.
type lateness struct {
	mu    sync.Mutex
	every time.Duration // 0: no beat
	last  time.Time     // beat
	late  time.Time     // when it was last found to run late
}

const (
	lateBy     = 40 * time.Millisecond // so much later than due a beat is late; a busy machine that is no problem stays below
	lateMemory = time.Second           // for so long after one
	lateMost   = 5 * time.Second       // and a longer pause is none of a busy machine: there was nobody to gossip with
)

// set says how far apart beats are.
func (l *lateness) set(every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.every, l.last = every, time.Time{}
}

// tick takes a beat; several at once are one.
func (l *lateness) tick(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.overdue(now) {
		l.late = now
	}
	l.last = now
}

// recent reports whether the process has lately run late, or does now.
func (l *lateness) recent(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overdue(now) || !l.late.IsZero() && now.Sub(l.late) < lateMemory
}

func (l *lateness) overdue(now time.Time) bool {
	pause := now.Sub(l.last)
	return l.every > 0 && !l.last.IsZero() && pause > l.every+lateBy && pause < lateMost
}
