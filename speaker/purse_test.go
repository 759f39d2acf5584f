package speaker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
)

// TestPurse spends time on changes that come one after the other.
func TestPurse(t *testing.T) {
	const hour = time.Hour
	for _, tt := range []struct {
		name          string
		pause, took   time.Duration // before the first; each
		changes       int
		atOnce, total int // how many of them are followed by the shortest rest; milliseconds that all rests take
	}{
		{"a few after a pause", hour, time.Millisecond, 10, 10, 20},
		{"many cheap ones", hour, 20 * time.Microsecond, 1000, 1000, 2000},
		{"many dear ones", hour, time.Millisecond, 110, 10, 20 + 100*100},
		{"a very dear one has no successor for a moment only", hour, time.Second, 1, 0, 100},
		{"just begun", 0, 100 * time.Microsecond, 10, 0, 10 * 10},
	} {
		now := time.Unix(1000, 0)
		p := purse{filled: now}
		now = now.Add(tt.pause)
		atOnce, total := 0, time.Duration(0)
		for range tt.changes {
			rest := p.spend(now, tt.took)
			if rest < minInterval || rest > longRest {
				t.Fatalf("%s: rest of %s", tt.name, rest)
			}
			if rest == minInterval {
				atOnce++
			}
			total += rest
			now = now.Add(rest)
		}
		near := func(got, want int) bool { return got >= want-want/10-1 && got <= want+want/10+1 }
		if !near(atOnce, tt.atOnce) || !near(int(total.Milliseconds()), tt.total) {
			t.Errorf("%s: %d at once, %s in all; want about %d, %d ms", tt.name, atOnce, total, tt.atOnce, tt.total)
		}
	}
}

// TestUrgentNewsCutTheRest: with all its time spent, a speaker rests before it acts on a Service that changed, but not when an interface does.
func TestUrgentNewsCutTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.speaker("node-1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		w.change(func(w *world) {
			w.snap = &config.Snapshot{Synced: true, Nodes: []*config.Node{{Name: "node-1"}}}
			w.slow = longRest / 2 // more than can be saved up
		})
		for _, tt := range []struct {
			what   string
			news   chan struct{}
			urgent bool
		}{{"a Service", w.source, false}, {"an interface", w.link, true}} {
			<-time.After(time.Minute)
			poke(w.source)
			<-time.After(longRest * 3 / 4) // it is resting now
			w.read(func(x *world) { x.links = []config.Interface{{Name: tt.what}} })
			poke(tt.news)
			<-time.After(longRest / 4)
			var seen bool
			w.read(func(x *world) { seen = len(x.report.Interfaces) == 1 && x.report.Interfaces[0].Name == tt.what })
			if seen != tt.urgent {
				t.Errorf("%s: acted on while resting: %t, want %t", tt.what, seen, tt.urgent)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
