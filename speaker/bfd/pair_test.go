package bfd

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// pair is two sessions and the path between them, in a time of its own.
type pair struct {
	t       *testing.T
	now     time.Time
	start   time.Time
	ends    [2]*end
	latency time.Duration
	cut     bool
	lose    func(from int) bool // whether to lose the next packet of an end; nil: none
	flying  []flight            // in the order of arrival
}

// end is a session and what it sent.
type end struct {
	*Session
	sent    []sent
	changes []change
}

type sent struct {
	at time.Duration
	Packet
}

type change struct {
	at    time.Duration
	state State
	diag  Diagnostic
}

type flight struct {
	at time.Time
	to int
	Packet
}

func profile(tx, rx time.Duration, multiplier uint8) config.BFDProfile {
	return config.BFDProfile{TransmitInterval: tx, ReceiveInterval: rx, DetectMultiplier: multiplier, MinimumTTL: 254}
}

const ms = time.Millisecond

func newPair(t *testing.T, a, b config.BFDProfile) *pair {
	t.Helper()
	start := time.Unix(1_000_000, 0)
	p := &pair{t: t, now: start, start: start, latency: ms}
	p.ends[0], p.ends[1] = &end{Session: NewSession(100, a)}, &end{Session: NewSession(200, b)}
	return p
}

// upPair returns a pair that is up and has settled.
func upPair(t *testing.T, a, b config.BFDProfile) *pair {
	t.Helper()
	p := newPair(t, a, b)
	p.run(10 * time.Second)
	if !p.up() {
		t.Fatalf("not up: %s and %s", p.ends[0].state, p.ends[1].state)
	}
	return p
}

func (p *pair) up() bool { return p.ends[0].state == Up && p.ends[1].state == Up }

// run lets time pass.
func (p *pair) run(d time.Duration) {
	p.t.Helper()
	for end := p.now.Add(d); ; {
		p.tick()
		next := p.next()
		if next.IsZero() || next.After(end) {
			p.now = end
			return
		}
		if next.Before(p.now) {
			p.t.Fatalf("something was due at %s already", next.Sub(p.start))
		}
		p.now = next
		p.deliver()
	}
}

// until lets time pass until the condition holds, and returns how long that took.
func (p *pair) until(limit time.Duration, what string, holds func() bool) time.Duration {
	p.t.Helper()
	began := p.now
	for !holds() {
		if p.now.Sub(began) > limit {
			p.t.Fatalf("not within %s: %s", limit, what)
		}
		p.run(ms / 10)
	}
	return p.now.Sub(began)
}

func (p *pair) next() time.Time {
	next := earliest(p.ends[0].Next(), p.ends[1].Next())
	for _, f := range p.flying {
		next = earliest(next, f.at)
	}
	return next
}

func (p *pair) deliver() {
	for len(p.flying) > 0 && !p.flying[0].at.After(p.now) {
		f := p.flying[0]
		p.flying = p.flying[1:]
		if !p.ends[f.to].Rx(f.Packet, p.now) {
			p.t.Fatalf("refused: %+v", f.Packet)
		}
		p.note(f.to)
	}
}

func (p *pair) tick() {
	for i, e := range p.ends {
		for {
			packet, ok := e.Tick(p.now)
			p.note(i)
			if !ok {
				break
			}
			e.sent = append(e.sent, sent{p.now.Sub(p.start), packet})
			if !p.cut && (p.lose == nil || !p.lose(i)) {
				p.flying = append(p.flying, flight{p.now.Add(p.latency), 1 - i, packet})
			}
		}
	}
}

// note writes down a change of state.
func (p *pair) note(i int) {
	e := p.ends[i]
	last := Down
	if n := len(e.changes); n > 0 {
		last = e.changes[n-1].state
	}
	if e.state != last {
		e.changes = append(e.changes, change{p.now.Sub(p.start), e.state, e.diag})
	}
}

// since returns what the end sent from now on, each time it is called.
func (p *pair) since(i int) func() []sent {
	n := len(p.ends[i].sent)
	return func() []sent { return p.ends[i].sent[n:] }
}
