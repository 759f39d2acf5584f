package bfd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

func passive(p config.BFDProfile) config.BFDProfile { p.Passive = true; return p }

func TestComeUp(t *testing.T) {
	normal, quick := profile(300*ms, 300*ms, 3), profile(50*ms, 50*ms, 3)
	tests := []struct {
		name   string
		a, b   config.BFDProfile
		up     bool
		tx     [2]time.Duration
		detect [2]time.Duration
	}{
		{"equal", normal, normal, true, [2]time.Duration{300 * ms, 300 * ms}, [2]time.Duration{900 * ms, 900 * ms}},
		{"the slower one rules", normal, quick, true, [2]time.Duration{300 * ms, 300 * ms}, [2]time.Duration{900 * ms, 900 * ms}},
		{"each direction has its interval", profile(50*ms, 400*ms, 5), profile(100*ms, 60*ms, 2), true, [2]time.Duration{60 * ms, 400 * ms}, [2]time.Duration{800 * ms, 300 * ms}},
		{"slower than a second", profile(5*time.Second, 5*time.Second, 2), normal, true, [2]time.Duration{5 * time.Second, 5 * time.Second}, [2]time.Duration{15 * time.Second, 10 * time.Second}},
		{"one passive", passive(normal), normal, true, [2]time.Duration{300 * ms, 300 * ms}, [2]time.Duration{900 * ms, 900 * ms}},
		{"both passive", passive(normal), passive(normal), false, [2]time.Duration{time.Second, time.Second}, [2]time.Duration{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, tt.a, tt.b)
			p.run(30 * time.Second)
			if p.up() != tt.up {
				t.Fatalf("%s and %s", p.ends[0].state, p.ends[1].state)
			}
			for i, e := range p.ends {
				if e.Interval() != tt.tx[i] || e.DetectionTime() != tt.detect[i] {
					t.Errorf("end %d: sends every %s, detects in %s; want %s, %s", i, e.Interval(), e.DetectionTime(), tt.tx[i], tt.detect[i])
				}
				if e.polling {
					t.Errorf("end %d still polls", i)
				}
			}
			if tt.up {
				if n := len(p.ends[0].changes); n > 2 {
					t.Errorf("%d changes on the way: %v", n, p.ends[0].changes)
				}
				if at := p.ends[0].changes[len(p.ends[0].changes)-1].at; at > time.Second {
					t.Errorf("up after %s only", at)
				}
			} else if n := len(p.ends[0].sent); n > 0 {
				t.Errorf("a passive end spoke %d times first", n)
			}
		})
	}
}

// TestSlowUntilUp: RFC 5880 section 6.8.3.
func TestSlowUntilUp(t *testing.T) {
	p := newPair(t, profile(10*ms, 10*ms, 3), profile(10*ms, 10*ms, 3))
	p.cut = true
	p.run(60 * time.Second)
	for _, e := range p.ends {
		if n := len(e.sent); n < 55 || n > 85 {
			t.Errorf("%d packets in a minute, want one in 0.75 to 1 s", n)
		}
		for _, s := range e.sent {
			if s.DesiredMinTx != time.Second || s.RequiredMinRx != 10*ms || s.Poll || s.Final || s.Yours != 0 || s.State != Down {
				t.Fatalf("%+v", s)
			}
		}
	}
}

// TestJitter: RFC 5880 section 6.8.7.
func TestJitter(t *testing.T) {
	for _, tt := range []struct {
		multiplier  uint8
		least, most time.Duration
	}{{3, 75 * ms, 100 * ms}, {1, 75 * ms, 90 * ms}} {
		p := upPair(t, profile(100*ms, 100*ms, tt.multiplier), profile(100*ms, 100*ms, 3))
		got := p.since(0)
		p.run(time.Minute)
		last, least, most := got()[0].at, time.Hour, time.Duration(0)
		for _, s := range got()[1:] {
			least, most = min(least, s.at-last), max(most, s.at-last)
			last = s.at
		}
		if least < tt.least || most > tt.most {
			t.Errorf("multiplier %d: gaps of %s to %s, want %s to %s", tt.multiplier, least, most, tt.least, tt.most)
		}
		if spread := tt.most - tt.least; most-least < spread*8/10 {
			t.Errorf("multiplier %d: gaps of %s to %s make little use of what is allowed", tt.multiplier, least, most)
		}
	}
}

// TestDetection: RFC 5880 section 6.8.4.
func TestDetection(t *testing.T) {
	p := upPair(t, profile(50*ms, 50*ms, 3), profile(50*ms, 50*ms, 4))
	p.cut = true
	heard := p.ends[0].heard
	p.until(time.Second, "down", func() bool { return p.ends[0].state == Down })
	if took := p.now.Sub(heard); took < 200*ms || took > 201*ms {
		t.Errorf("lost %s after the last packet, want 4 x 50 ms", took)
	}
	if p.ends[0].diag != DetectionTimeExpired {
		t.Errorf("diagnostic %s", p.ends[0].diag)
	}
	got := p.since(0)
	p.run(5 * time.Second)
	for _, s := range got() {
		if s.Yours != 0 || s.State != Down || s.DesiredMinTx != time.Second || s.Diagnostic != DetectionTimeExpired || s.Poll {
			t.Fatalf("after the loss it said %+v", s)
		}
	}
	if n := len(got()); n > 7 {
		t.Errorf("%d packets in 5 s after the loss", n)
	}
	p.cut = false
	p.until(5*time.Second, "up again", p.up)
	p.run(time.Second)
	if p.ends[0].Interval() != 50*ms || p.ends[0].diag != NoDiagnostic {
		t.Errorf("up again with interval %s, diagnostic %s", p.ends[0].Interval(), p.ends[0].diag)
	}
}

// TestOneSideLost: the path fails in one direction only, so one end detects it and tells the other.
func TestOneSideLost(t *testing.T) {
	p := upPair(t, profile(50*ms, 50*ms, 3), profile(50*ms, 50*ms, 3))
	for range 1000 { // b's packets do not arrive any more
		p.ends[1].Tick(p.now)
		p.now = p.now.Add(ms)
		for {
			packet, ok := p.ends[0].Tick(p.now)
			if !ok {
				break
			}
			p.ends[1].Rx(packet, p.now)
		}
	}
	want := []Diagnostic{DetectionTimeExpired, NeighborSignaledDown}
	if diff := cmp.Diff(want, []Diagnostic{p.ends[0].diag, p.ends[1].diag}); diff != "" {
		t.Errorf("diagnostics: -want +got:\n%s", diff)
	}
	if p.ends[0].state != Down || p.ends[1].state != Init { // b hears Down, but a does not hear its Init
		t.Errorf("%s and %s", p.ends[0].state, p.ends[1].state)
	}
}

// TestAdminDown: RFC 5880 section 6.8.16.
func TestAdminDown(t *testing.T) {
	p := upPair(t, profile(300*ms, 300*ms, 3), profile(300*ms, 300*ms, 3))
	a, b := p.ends[0], p.ends[1]
	if a.Heeded() {
		t.Error("a session that is up has nothing to be heeded")
	}
	a.Disable()
	if a.Heeded() {
		t.Error("heeded before it was said")
	}
	p.run(100 * ms)
	if !a.Heeded() || a.diag != AdministrativelyDown {
		t.Errorf("after 100 ms: heeded %t, %s", a.Heeded(), a.diag)
	}
	if b.state != Down || b.diag != NeighborSignaledDown || b.remote.state != AdminDown || b.remote.diag != AdministrativelyDown {
		t.Errorf("the neighbour: %s, %s; of us: %s, %s", b.state, b.diag, b.remote.state, b.remote.diag)
	}
	got := p.since(0)
	p.run(10 * time.Second)
	if n := len(got()); n < 9 || n > 16 {
		t.Errorf("said %d times in 10 s", n)
	}
	for _, s := range got() {
		if s.State != AdminDown || s.DesiredMinTx < time.Second {
			t.Fatalf("said %+v", s)
		}
	}
	if a.state != AdminDown || b.state != Down {
		t.Errorf("%s and %s", a.state, b.state)
	}
	a.Enable()
	p.until(3*time.Second, "up again", p.up)

	p.cut = true
	a.Disable()
	p.run(3 * time.Second)
	if !a.Heeded() {
		t.Error("a neighbour that is not there any more is waited for")
	}
	if b.diag != DetectionTimeExpired {
		t.Errorf("the neighbour, cut off: %s", b.diag)
	}
}

// hearing returns a session in state Up, and a function that has it hear a packet from discriminator 7 and returns its answers.
func hearing(t *testing.T) (*Session, func(change func(*Packet)) []Packet) {
	t.Helper()
	s := NewSession(9, profile(100*ms, 100*ms, 3))
	now := time.Unix(1_000_000, 0)
	hear := func(change func(*Packet)) (out []Packet) {
		p := Packet{State: Up, Multiplier: 3, Mine: 7, Yours: 9, DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms}
		change(&p)
		now = now.Add(ms)
		s.Rx(p, now)
		for {
			p, ok := s.Tick(now)
			if !ok {
				return out
			}
			out = append(out, p)
		}
	}
	hear(func(p *Packet) { p.State = Down })
	hear(func(p *Packet) { p.State = Init; p.Final = true })
	hear(func(p *Packet) { p.Final = true })
	if s.state != Up || s.polling {
		t.Fatalf("%s, polling %t", s.state, s.polling)
	}
	return s, hear
}

// TestFinal: RFC 5880 sections 6.5 and 6.8.7.
func TestFinal(t *testing.T) {
	s, hear := hearing(t)
	poll := func(p *Packet) { p.Poll = true }
	out := hear(poll)
	if len(out) != 1 || !out[0].Final || out[0].Poll {
		t.Errorf("to a Poll it answered %+v", out)
	}
	s.Configure(profile(200*ms, 100*ms, 3))
	out = hear(poll)
	if len(out) != 2 || !out[0].Final || out[0].Poll || out[1].Final || !out[1].Poll {
		t.Errorf("to a Poll, with something to poll for itself, it answered %+v", out)
	}
	s.Disable()
	hear(func(*Packet) {})
	if out := hear(poll); len(out) > 0 {
		t.Errorf("administratively down, it answered %+v", out)
	}
}

// TestFinalUnasked: a Final ends nothing when there is no poll.
func TestFinalUnasked(t *testing.T) {
	s, hear := hearing(t)
	used := s.used
	if out := hear(func(p *Packet) { p.Final = true }); len(out) > 0 || s.used != used || s.polling {
		t.Errorf("answered %+v, used %v", out, s.used)
	}
}

func TestRefused(t *testing.T) {
	s, _ := hearing(t)
	before := *s
	for _, p := range []Packet{
		{State: Down, Multiplier: 3, Mine: 7, Yours: 10},
		{State: Down, Multiplier: 3, Mine: 7, Yours: 9, Authenticated: true},
	} {
		if s.Rx(p, time.Unix(1_000_001, 0)) {
			t.Errorf("believed %+v", p)
		}
	}
	if *s != before {
		t.Errorf("changed from %+v to %+v", before, *s)
	}
}

// TestSilence: a neighbour may want no periodic packets (RFC 5880 section 6.8.7), and is told of changes all the same.
func TestSilence(t *testing.T) {
	for name, ask := range map[string]func(*Packet){
		"required minimum 0": func(p *Packet) { p.RequiredMinRx = 0 },
		"demand":             func(p *Packet) { p.Demand = true },
	} {
		s, hear := hearing(t)
		hear(ask)
		if next := s.Next(); !next.Equal(s.Deadline()) {
			t.Errorf("%s: next at %s, want the detection time only", name, next)
		}
		if out := hear(func(p *Packet) { ask(p); p.Poll = true }); len(out) != 1 || !out[0].Final {
			t.Errorf("%s: to a Poll it answered %+v", name, out)
		}
		if out := hear(func(p *Packet) { ask(p); p.State = Down }); len(out) != 1 || out[0].State != Down {
			t.Errorf("%s: when the state changed it said %+v", name, out)
		}
		now := s.heard.Add(time.Hour)
		if p, ok := s.Tick(now); !ok || p.Yours != 0 {
			t.Errorf("%s: after the neighbour was lost it said %+v, %t", name, p, ok)
		}
		if s.Next().IsZero() {
			t.Errorf("%s: it will never speak again", name)
		}
	}
}

func TestDemandPolls(t *testing.T) {
	s, hear := hearing(t)
	hear(func(p *Packet) { p.Demand = true })
	s.Configure(profile(300*ms, 100*ms, 3))
	now := s.heard
	n := 0
	for range 250 {
		for {
			p, ok := s.Tick(now)
			if !ok {
				break
			}
			if !p.Poll {
				t.Errorf("said %+v", p)
			}
			n++
		}
		now = now.Add(ms)
	}
	if n < 2 {
		t.Errorf("polled %d times in 250 ms", n)
	}
}

func BenchmarkSession(b *testing.B) {
	s, o := NewSession(1, profile(50*ms, 50*ms, 3)), NewSession(2, profile(50*ms, 50*ms, 3))
	now := time.Unix(1_000_000, 0)
	for b.Loop() {
		for _, x := range [2][2]*Session{{s, o}, {o, s}} {
			for {
				p, ok := x[0].Tick(now)
				if !ok {
					break
				}
				x[1].Rx(p, now)
			}
		}
		now = earliest(s.Next(), o.Next())
	}
}
