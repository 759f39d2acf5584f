package speaker

import (
	"testing"
	"time"
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
