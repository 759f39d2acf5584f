package bfd

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// TestHoldBack: what RFC 5880 section 6.8.3 wants to be used at once, and what only after the Final.
func TestHoldBack(t *testing.T) {
	base := profile(100*ms, 100*ms, 3)
	tests := []struct {
		name         string
		to           config.BFDProfile
		now, then    intervals
		nowDetection time.Duration // while the neighbour has not answered
	}{
		{"slower transmission waits", profile(500*ms, 100*ms, 3), intervals{100 * ms, 100 * ms}, intervals{500 * ms, 100 * ms}, 300 * ms},
		{"quicker transmission does not", profile(20*ms, 100*ms, 3), intervals{20 * ms, 100 * ms}, intervals{20 * ms, 100 * ms}, 300 * ms},
		{"quicker reception waits", profile(100*ms, 20*ms, 3), intervals{100 * ms, 100 * ms}, intervals{100 * ms, 20 * ms}, 300 * ms},
		{"slower reception does not", profile(100*ms, 500*ms, 3), intervals{100 * ms, 500 * ms}, intervals{100 * ms, 500 * ms}, 1500 * ms},
		{"both", profile(500*ms, 20*ms, 3), intervals{100 * ms, 100 * ms}, intervals{500 * ms, 20 * ms}, 300 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := upPair(t, base, base)
			a := p.ends[0]
			got := p.since(0)
			a.Configure(tt.to)
			p.lose = func(from int) bool { return from == 1 } // the neighbour's answers are lost
			p.run(50 * ms)
			if a.used != tt.now || a.DetectionTime() != tt.nowDetection {
				t.Errorf("before the answer: %v, detection %s; want %v, %s", a.used, a.DetectionTime(), tt.now, tt.nowDetection)
			}
			first := got()[0]
			if at := p.now.Sub(p.start) - first.at; at < 49*ms {
				t.Errorf("the neighbour was told %s late only", 50*ms-at)
			}
			for _, s := range got() {
				if !s.Final && (!s.Poll || s.DesiredMinTx != tt.to.TransmitInterval || s.RequiredMinRx != tt.to.ReceiveInterval) {
					t.Errorf("said %+v", s)
				}
			}
			p.lose = nil
			p.run(2 * time.Second)
			if a.used != tt.then || a.polling {
				t.Errorf("after the answer: %v, polling %t; want %v", a.used, a.polling, tt.then)
			}
			if !p.up() || len(p.ends[1].changes) > 2 {
				t.Errorf("the session did not stay up: %v", p.ends[1].changes)
			}
		})
	}
}

// TestHoldBackEnds: who is not up holds nothing back.
func TestHoldBackEnds(t *testing.T) {
	p := upPair(t, profile(2*time.Second, 2*time.Second, 3), profile(100*ms, 100*ms, 3))
	a := p.ends[0]
	p.lose = func(from int) bool { return from == 1 }
	a.Configure(profile(5*time.Second, time.Second, 3))
	p.until(time.Minute, "down", func() bool { return a.state == Down })
	if want := (intervals{5 * time.Second, time.Second}); a.used != want {
		t.Errorf("used %v, want %v", a.used, want)
	}
}

// TestChangeWhilePolling: one poll sequence at a time (RFC 5880 section 6.5).
func TestChangeWhilePolling(t *testing.T) {
	base := profile(100*ms, 100*ms, 3)
	p := upPair(t, base, base)
	a := p.ends[0]
	a.Configure(profile(200*ms, 100*ms, 3))
	p.lose = func(from int) bool { return from == 1 }
	p.run(20 * ms)
	a.Configure(profile(400*ms, 50*ms, 3))
	got := p.since(0)
	p.run(120 * ms)
	for _, s := range got() {
		if s.DesiredMinTx != 200*ms || s.RequiredMinRx != 100*ms {
			t.Errorf("while the first poll was open it said %+v", s)
		}
	}
	p.lose = nil
	p.run(3 * time.Second)
	if want := (intervals{400 * ms, 50 * ms}); a.used != want || a.said != want || a.polling {
		t.Errorf("in the end: used %v, said %v, polling %t", a.used, a.said, a.polling)
	}
	if !p.up() || len(p.ends[1].changes) > 2 {
		t.Errorf("the session did not stay up: %v", p.ends[1].changes)
	}
}

// TestHonourAtOnce: a neighbour that can take more gets more before the old interval is over (RFC 5880 section 6.8.3).
func TestHonourAtOnce(t *testing.T) {
	p := upPair(t, profile(50*ms, 50*ms, 3), profile(50*ms, 10*time.Second, 3))
	if p.ends[0].Interval() != 10*time.Second {
		t.Fatalf("interval %s", p.ends[0].Interval())
	}
	p.run(time.Second)
	p.ends[1].Configure(profile(50*ms, 50*ms, 3))
	got := p.since(0)
	p.run(500 * ms)
	if n := len(got()); n < 9 {
		t.Errorf("%d packets in the next 500 ms", n)
	}
	if !p.up() {
		t.Error("not up any more")
	}
}

// TestMultiplier: a changed multiplier needs no poll, only to be told.
func TestMultiplier(t *testing.T) {
	p := upPair(t, profile(100*ms, 100*ms, 3), profile(100*ms, 100*ms, 3))
	got := p.since(0)
	p.ends[0].Configure(profile(100*ms, 100*ms, 10))
	p.run(5 * ms)
	if n := len(got()); n != 1 || got()[0].Multiplier != 10 || got()[0].Poll {
		t.Errorf("said %+v", got())
	}
	if d := p.ends[1].DetectionTime(); d != time.Second {
		t.Errorf("the neighbour detects in %s, want 1 s", d)
	}
}

// TestChangesLoseNothing: whatever is configured, and whenever, on either end, a session on a path that loses nothing stays up.
func TestChangesLoseNothing(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		some := func() config.BFDProfile {
			d := func() time.Duration { return time.Duration(10*(1+r.IntN(1<<r.IntN(11)))) * ms }
			return profile(d(), d(), uint8(2+r.IntN(4)))
		}
		p := newPair(t, some(), some())
		p.latency = time.Duration(1+r.IntN(1500)) * time.Microsecond
		p.until(60*time.Second, "up", p.up)
		for range 40 {
			p.run(time.Duration(r.IntN(1<<r.IntN(14))) * ms)
			p.ends[r.IntN(2)].Configure(some())
		}
		for i, e := range p.ends {
			if n := len(e.changes); e.state != Up || n > 2 {
				t.Fatalf("seed %d: end %d: %v", seed, i, e.changes)
			}
		}
		p.run(time.Minute)
		for i, e := range p.ends {
			o := p.ends[1-i]
			if e.polling || e.used != e.said || e.said != e.wanted() || e.Interval() != max(e.profile.TransmitInterval, o.profile.ReceiveInterval) {
				t.Fatalf("seed %d: end %d has not settled: %+v", seed, i, e.Session)
			}
		}
	}
}

// TestLossHeals: whatever is lost, once nothing is lost any more both ends are up and settled, and nobody has spoken too often.
func TestLossHeals(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := newPair(t, profile(100*ms, 50*ms, 3), profile(50*ms, 100*ms, 2))
		share := 0.2 + 0.7*r.Float64()
		p.lose = func(int) bool { return r.Float64() < share }
		p.run(time.Minute)
		p.lose = nil
		p.run(20 * time.Second)
		if !p.up() {
			t.Fatalf("seed %d: %s and %s", seed, p.ends[0].state, p.ends[1].state)
		}
		for i, e := range p.ends {
			if e.polling || e.used != e.said {
				t.Fatalf("seed %d: end %d has not settled: %+v", seed, i, e.Session)
			}
			if n := len(e.sent); n > 2500 { // 50 ms less jitter, and answers
				t.Errorf("seed %d: end %d sent %d packets in 80 s", seed, i, n)
			}
		}
	}
}
