package speaker

import "time"

// minInterval bounds how often the facts are weighed anew while they keep changing; the first change after a pause is acted on at once.
const minInterval = 2 * time.Millisecond

// With thousands of Services there are thousands of changes one after another at times, and to act on each of them by itself costs many times
// what it does to act on those of a moment together: here, and in the sessions, at the routers, and in garbage.
const (
	purseShare = 100                    // of the time one part in so many may be spent on weighing facts that keep changing,
	purseMost  = 10 * time.Millisecond  // so much of which is saved up while nothing changes,
	longRest   = 100 * time.Millisecond // and no change waits for longer than this
)

// purse is the time that may be spent. A few changes after a pause are acted on as they come.
type purse struct {
	left   time.Duration // what has been saved up; negative: spent beforehand
	filled time.Time     // when it was last added to
}

// spend takes out what weighing the facts took that ended now, and returns how long to rest.
func (p *purse) spend(now time.Time, took time.Duration) time.Duration {
	p.left = min(p.left+now.Sub(p.filled)/purseShare, purseMost)
	p.filled = now
	p.left = max(p.left-took, -longRest/purseShare)
	return max(minInterval, -p.left*purseShare)
}
