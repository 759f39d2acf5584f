package speaker

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/heraldlb/herald/speaker/member"
)

// How long what is reported of the other speakers may lag behind, for each that there should be: every speaker reports it, so that in a rollout
// over n nodes n speakers would write their status n times, and twice. In a small cluster this is next to nothing.
const (
	countLag   = 50 * time.Millisecond // of mere numbers, which a restart changes twice
	missingLag = 4 * time.Millisecond  // of who is missing, which is news: only so that not all write at once
	lagMost    = 30 * time.Second
	lagAgain   = 4 // and numbers that keep changing are told after so many times as long
)

// heads is what is reported of the speakers.
type heads struct {
	known, alive int
	missing      []string // sorted
}

func (h heads) same(o heads) bool {
	return h.known == o.known && h.alive == o.alive && slices.Equal(h.missing, o.missing)
}

// census holds back what is reported of the speakers until it has settled.
type census struct {
	told  heads
	seen  heads     // last, when it differs
	first time.Time // since when what was told is not right; zero: it is
	due   time.Time
}

// headsOf counts the speakers of a view; nobody is known without one.
func headsOf(view *member.View) heads {
	if view == nil {
		return heads{}
	}
	return heads{known: view.Known, alive: view.Alive, missing: view.Missing}
}

// take takes in how things stand, and returns after what time to do so again (0: need not). What is to be reported is in told.
func (c *census) take(now time.Time, is heads) time.Duration {
	switch {
	case is.same(c.told), c.told.known == 0, is.known == 0: // gossip has just begun, or ended
		c.tell(is)
		return 0
	case c.first.IsZero():
		c.first = now
		c.see(now, is)
	case !is.same(c.seen):
		c.see(now, is)
	}
	if left := c.due.Sub(now); left > 0 {
		return left
	}
	c.tell(is)
	return 0
}

func (c *census) tell(is heads) { *c = census{told: is} }

// see notes a change, which is due when it has lasted.
func (c *census) see(now time.Time, is heads) {
	c.seen = is
	lag := min(time.Duration(is.known)*countLag, lagMost)
	last := c.first.Add(lagAgain * lag)
	if !slices.Equal(is.missing, c.told.missing) {
		lag = min(time.Duration(is.known)*missingLag, lagMost)
		last = c.first.Add(lag)
	}
	c.due = now.Add(lag/2 + rand.N(lag/2+1))
	if c.due.After(last) {
		c.due = last
	}
}
