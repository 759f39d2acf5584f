package member

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

const (
	joinFirst = 100 * time.Millisecond // until a seed that did not answer is called again; doubles
	joinAgain = time.Second            // until a member that was lost is called: if it lives it says so itself, much sooner
	joinLast  = 2 * time.Second        // at most: so long does a healed split stay undetected
	joins     = 3                      // calls under way at once: one that succeeds brings the others
)

// call is the state of calling on one seed.
type call struct {
	next     time.Time
	wait     time.Duration
	underWay bool
}

// answer is the end of a call.
type answer struct {
	seed netip.AddrPort
	ok   bool
}

// join calls on seeds that are no members until they are. The first call is made also if all are: gossip may have told of them, but only
// a call brings what they know.
func (m *Member) join(ctx context.Context, ml *memberlist.Memberlist) {
	var g errgroup.Group
	g.SetLimit(joins)
	defer func() { _ = g.Wait() }() // the functions return no errors
	calls := map[netip.AddrPort]*call{}
	done := make(chan answer, joins)
	joined := false
	for {
		next := m.callMissing(ctx, &g, ml, calls, joined, done)
		select {
		case <-ctx.Done():
			return
		case <-m.seeded:
		case a := <-done:
			joined = joined || a.ok
			if c := calls[a.seed]; c != nil {
				c.underWay = false
			}
		case <-next:
		}
	}
}

// callMissing starts the calls that are due and returns a channel that says when the next one is.
func (m *Member) callMissing(
	ctx context.Context, g *errgroup.Group, ml *memberlist.Memberlist,
	calls map[netip.AddrPort]*call, joined bool, done chan<- answer,
) <-chan time.Time {
	m.mu.Lock()
	missing := m.book.missing(joined)
	m.mu.Unlock()
	now := time.Now()
	wanted := make(map[netip.AddrPort]bool, len(missing))
	var soonest time.Time
	// When all start together, each begins at another place: else the first would be called by everybody.
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	for _, lack := range missing {
		seed := lack.addr
		wanted[seed] = true
		c := calls[seed]
		if c == nil {
			c = &call{wait: joinFirst}
			if lack.lost {
				c.next, c.wait = now.Add(joinAgain+rand.N(joinAgain)), joinAgain
			}
			calls[seed] = c
		}
		if c.underWay {
			continue
		}
		if !c.next.After(now) && m.callOn(ctx, g, ml, seed, done) {
			c.underWay, c.next = true, now.Add(c.wait)
			c.wait = min(2*c.wait, joinLast)
		} else if soonest.IsZero() || c.next.Before(soonest) {
			soonest = c.next
		}
	}
	for seed, c := range calls {
		if !wanted[seed] && !c.underWay {
			delete(calls, seed)
		}
	}
	if soonest.IsZero() {
		return nil
	}
	return time.After(max(soonest.Sub(now), joinFirst/10))
}

// callOn starts one call; it reports whether there was room for it.
func (m *Member) callOn(
	ctx context.Context, g *errgroup.Group, ml *memberlist.Memberlist, seed netip.AddrPort, done chan<- answer,
) bool {
	return g.TryGo(func() error {
		_, err := ml.Join([]string{seed.String()})
		if err != nil {
			m.opt.Log.Debug("a speaker does not answer yet", "address", seed, "error", err)
		}
		select {
		case done <- answer{seed, err == nil}:
		case <-ctx.Done():
		}
		return nil
	})
}

// outliveMost bounds how long a new incarnation waits to be told to one other member; gossip goes on telling it.
const outliveMost = 200 * time.Millisecond

// outlive takes a new incarnation whenever a member is lost. A member that was cut off finds the others dead, and tells them so when it is
// back: news of an incarnation that is past by then is not believed.
func (m *Member) outlive(ctx context.Context, ml *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.bereft:
		}
		if err := ml.UpdateNode(outliveMost); err != nil && ctx.Err() == nil {
			m.opt.Log.Debug("new incarnation not told yet", "error", err)
		}
	}
}
