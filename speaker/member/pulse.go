package member

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// Feeling the pulse of nodes whose speaker restarts. The process is gone, so the failure detector has nobody to ask; but while the node
// lives, its kernel answers a connection to the gossip port, if only by refusing it.
const (
	pulseInterval = 100 * time.Millisecond
	pulseMost     = time.Second            // the longest interval, of large clusters
	pulseTimeout  = 150 * time.Millisecond // of one connection
	pulsesMissed  = 3                      // so many in a row without an answer: the node is dead
	pulsesAtOnce  = 16
)

// patient is a node whose pulse is felt. Its fields belong to attend.
type patient struct {
	restarter
	missed  int  // in a row
	refused bool // the last time
	asked   time.Time
	pending bool
}

// due reports whether it is time for another pulse.
func (p *patient) due(now time.Time, every time.Duration) bool {
	if p.missed > 0 {
		every = pulseInterval // it is getting serious
	}
	return !p.pending && now.Sub(p.asked) >= every
}

// feel takes the outcome of a connection.
func (p *patient) feel(s sign) {
	p.pending, p.refused = false, s == refusal
	switch s {
	case silence:
		p.missed++
	case refusal, welcome:
		p.missed = 0
	case blind: // nobody was asked
	}
}

// pulse is the outcome of one connection.
type pulse struct {
	node string
	sign sign
}

// attend watches over the nodes whose speakers restart, and gives up those that are dead or take too long. As every speaker watches, each
// does so more rarely when there are many.
func (m *Member) attend(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(pulsesAtOnce)
	defer func() { _ = g.Wait() }() // the functions return no errors
	patients := map[string]*patient{}
	felt := make(chan pulse, pulsesAtOnce)
	for {
		every := min(max(pulseInterval, time.Duration(m.alive())*pulseInterval/smallCluster), pulseMost)
		m.visit(ctx, &g, patients, felt, every)
		var next <-chan time.Time
		if len(patients) > 0 {
			next = time.After(pulseInterval / 4)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.waiting:
		case <-next:
		case p := <-felt:
			if known := patients[p.node]; known != nil {
				known.feel(p.sign)
			}
		}
	}
}

// visit brings patients up to date, feels the pulse of those whose turn it is, and gives up who is beyond help.
func (m *Member) visit(ctx context.Context, g *errgroup.Group, patients map[string]*patient, felt chan<- pulse, every time.Duration) {
	m.mu.Lock()
	now := time.Now()
	restarters := m.book.restarters()
	for name := range patients {
		if _, ok := restarters[name]; !ok {
			delete(patients, name)
		}
	}
	gaveUp := map[string]string{}
	for name, r := range restarters {
		p := patients[name]
		if p == nil {
			p = &patient{}
			patients[name] = p
		}
		p.restarter = r
		why := p.hopeless(now)
		if why != "" && m.book.giveUp(name) {
			gaveUp[name] = why
			delete(patients, name)
		}
	}
	if len(gaveUp) > 0 {
		m.wake()
	}
	m.mu.Unlock()
	if len(gaveUp) > 0 {
		poke(m.seeded)
	}
	for name, why := range gaveUp {
		m.opt.Log.Warn("a speaker that restarts is not waited for any longer", "node", name, "why", why)
	}
	for name, p := range patients {
		if !p.due(now, every) {
			continue
		}
		addr := p.addr
		p.pending = g.TryGo(func() error {
			select {
			case felt <- pulse{name, m.knock(addr, 1, pulseTimeout)}:
			case <-ctx.Done():
			}
			return nil
		})
		if p.pending {
			p.asked = now
		}
	}
}

// hopeless says why a node whose speaker is gone need not be waited for; "" when it should.
func (p *patient) hopeless(now time.Time) string {
	switch {
	case !p.absent:
		return ""
	case p.missed >= pulsesMissed:
		return "its node does not answer"
	case p.doubted && p.refused:
		return "no speaker runs there"
	case now.After(p.until):
		return "it takes too long"
	}
	return ""
}
