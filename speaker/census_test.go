package speaker

import (
	"testing"
	"time"
)

// counted runs a census over a minute of restarts, each of which takes away a speaker for a while, and returns how often another report was
// to be written.
func counted(speakers int, every, away time.Duration, missing []string) (reports int, last heads) {
	var c census
	start := time.Now()
	c.take(start, heads{known: speakers, alive: speakers})
	told := c.told
	for at := time.Duration(0); at < time.Minute; at += 10 * time.Millisecond {
		is := heads{known: speakers, alive: speakers}
		if at%every < away {
			is.alive, is.missing = is.alive-1, missing
		}
		c.take(start.Add(at), is)
		if !c.told.same(told) {
			told = c.told
			reports++
		}
	}
	return reports, told
}

func TestCensus(t *testing.T) {
	for _, tt := range []struct {
		name     string
		speakers int
		every    time.Duration
		away     time.Duration
		missing  []string
		least    int
		most     int
	}{
		{"a small cluster tells at once", 3, 10 * time.Second, 3 * time.Second, nil, 12, 12},
		{"a rollout over hundreds is hardly told", 500, 3 * time.Second, time.Second, nil, 0, 1},
		{"short absences are not", 100, 20 * time.Second, 2 * time.Second, nil, 0, 0},
		{"long ones are", 100, 30 * time.Second, 15 * time.Second, nil, 4, 4},
		{"who is missing is news", 500, 20 * time.Second, 10 * time.Second, []string{"a"}, 4, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n, last := counted(tt.speakers, tt.every, tt.away, tt.missing); n < tt.least || n > tt.most {
				t.Errorf("%d reports, want %d to %d; last %+v", n, tt.least, tt.most, last)
			}
		})
	}
}

// TestCensusIsRightInTheEnd: whatever went before, what has stood for the longest lag is told, and when asked again as told to.
func TestCensusIsRightInTheEnd(t *testing.T) {
	for _, speakers := range []int{2, 5, 100, 1000} {
		var c census
		now := time.Now()
		if wait := c.take(now, heads{known: speakers, alive: speakers}); wait != 0 || c.told.alive != speakers {
			t.Errorf("at first: told %+v, again after %v", c.told, wait)
		}
		for _, is := range []heads{
			{speakers, speakers - 1, nil}, {speakers, speakers - 1, []string{"a"}}, {speakers + 1, speakers, nil}, {speakers, speakers, nil},
		} {
			began := now
			for wait := c.take(now, is); wait > 0; wait = c.take(now, is) {
				now = now.Add(wait)
			}
			if !c.told.same(is) || now.Sub(began) > lagMost {
				t.Errorf("%d speakers: told %+v after %v, want %+v", speakers, c.told, now.Sub(began), is)
			}
			now = now.Add(time.Millisecond)
		}
	}
	var c census
	c.take(time.Now(), heads{known: 500, alive: 500})
	if c.take(time.Now(), heads{}); c.told.known != 0 {
		t.Error("gossip has ended, and nothing is said of it")
	}
}
