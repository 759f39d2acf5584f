package speaker

import (
	"testing"
	"time"
)

func TestSettle(t *testing.T) {
	t0 := time.Unix(1000, 0)
	type ask struct {
		at           time.Duration
		synced, up   bool
		back         bool
		alive, seeds int
		settled      bool
		again        time.Duration
	}
	for name, asks := range map[string][]ask{
		"waits for config and gossip, then a quiet second": {
			{at: 0, synced: false, up: true, alive: 1, seeds: 0},
			{at: 5 * time.Second, synced: true, up: false, alive: 1, seeds: 1},
			{at: 6 * time.Second, synced: true, up: true, alive: 1, seeds: 1, again: time.Second},
			{at: 6500 * time.Millisecond, synced: true, up: true, alive: 3, seeds: 3, again: 500 * time.Millisecond},
			{at: 7 * time.Second, synced: true, up: true, alive: 3, seeds: 3, settled: true},
		},
		"gives absent speakers three seconds": {
			{at: 0, synced: true, up: true, alive: 1, seeds: 3, again: 3 * time.Second},
			{at: 2 * time.Second, synced: true, up: true, alive: 2, seeds: 3, again: time.Second},
			{at: 3 * time.Second, synced: true, up: true, alive: 2, seeds: 3, settled: true},
		},
		"need not listen when it has returned": {
			{at: 0, synced: false, up: true, back: true, alive: 3, seeds: 3},
			{at: time.Second, synced: true, up: true, back: true, alive: 3, seeds: 3, settled: true},
		},
		"stays settled, whatever goes": {
			{at: 0, synced: true, up: true, alive: 1, seeds: 1, again: time.Second},
			{at: time.Second, synced: true, up: true, alive: 1, seeds: 1, settled: true},
			{at: 2 * time.Second, synced: false, up: false, alive: 0, seeds: 9, settled: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s settle
			for i, a := range asks {
				settled, again := s.check(t0.Add(a.at), a.synced, a.up, a.back, a.alive, a.seeds)
				if settled != a.settled || again != a.again {
					t.Fatalf("ask %d: got %v, %v; want %v, %v", i, settled, again, a.settled, a.again)
				}
			}
		})
	}
}
