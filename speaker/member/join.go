package member

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"
)

const (
	joinFirst = 100 * time.Millisecond // until a seed that did not answer is called again; doubles
	joinLast  = 2 * time.Second        // at most: so long does a healed split stay undetected
	joins     = 8                      // calls under way at once
)

// call is the state of calling on one seed.
type call struct {
	next     time.Time
	wait     time.Duration
	underWay bool
}

// join calls on seeds that are no members until they are.
func (m *Member) join(ctx context.Context, ml *memberlist.Memberlist) {
	var g errgroup.Group
	g.SetLimit(joins)
	defer func() { _ = g.Wait() }() // the functions return no errors
	calls := map[netip.AddrPort]*call{}
	done := make(chan netip.AddrPort, joins)
	for {
		next := m.callMissing(ctx, &g, ml, calls, done)
		select {
		case <-ctx.Done():
			return
		case <-m.seeded:
		case seed := <-done:
			if c := calls[seed]; c != nil {
				c.underWay = false
			}
		case <-next:
		}
	}
}

// callMissing starts the calls that are due and returns a channel that says when the next one is.
func (m *Member) callMissing(
	ctx context.Context, g *errgroup.Group, ml *memberlist.Memberlist, calls map[netip.AddrPort]*call, done chan<- netip.AddrPort,
) <-chan time.Time {
	m.mu.Lock()
	missing := m.book.missing()
	m.mu.Unlock()
	now := time.Now()
	wanted := make(map[netip.AddrPort]bool, len(missing))
	var soonest time.Time
	for _, seed := range missing {
		wanted[seed] = true
		c := calls[seed]
		if c == nil {
			c = &call{wait: joinFirst}
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
	ctx context.Context, g *errgroup.Group, ml *memberlist.Memberlist, seed netip.AddrPort, done chan<- netip.AddrPort,
) bool {
	return g.TryGo(func() error {
		if _, err := ml.Join([]string{seed.String()}); err != nil {
			m.opt.Log.Debug("a speaker does not answer yet", "address", seed, "error", err)
		}
		select {
		case done <- seed:
		case <-ctx.Done():
		}
		return nil
	})
}
