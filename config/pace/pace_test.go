package pace

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

func TestPacer(t *testing.T) {
	tests := []struct {
		name            string
		min, retry, max time.Duration
		triggers        []time.Duration // when, since the start
		takes           time.Duration   // how long a run lasts
		fail            []int           // runs (from 0) that fail
		until           time.Duration
		want            []time.Duration // starts of runs
	}{
		{"no trigger, no run", 10 * ms, 50 * ms, 0, nil, 0, nil, time.Hour, nil},
		{"first trigger runs at once", 10 * ms, 50 * ms, 0, []time.Duration{3 * ms}, 0, nil, time.Hour, []time.Duration{3 * ms}},
		{"a burst is two runs", 10 * ms, 50 * ms, 0, []time.Duration{0, 1 * ms, 2 * ms, 9 * ms}, 0, nil, time.Second, []time.Duration{0, 10 * ms}},
		{"far apart: each at once", 10 * ms, 50 * ms, 0, []time.Duration{0, 20 * ms, 45 * ms}, 0, nil, time.Second, []time.Duration{0, 20 * ms, 45 * ms}},
		{"a trigger during a run is not lost", 10 * ms, 50 * ms, 0, []time.Duration{0, 5 * ms}, 30 * ms, nil, time.Second, []time.Duration{0, 30 * ms}},
		{"failed: again after retry", 10 * ms, 50 * ms, 0, []time.Duration{0}, 0, []int{0, 1}, time.Second, []time.Duration{0, 50 * ms, 100 * ms}},
		{"retry counts from the end", 10 * ms, 50 * ms, 0, []time.Duration{0}, 20 * ms, []int{0}, time.Second, []time.Duration{0, 70 * ms}},
		{"a trigger brings the retry forward", 10 * ms, 50 * ms, 0, []time.Duration{0, 15 * ms}, 0, []int{0}, time.Second, []time.Duration{0, 15 * ms}},
		{"retry keeps the minimum", 10 * ms, 1 * ms, 0, []time.Duration{0}, 0, []int{0}, time.Second, []time.Duration{0, 10 * ms}},
		{"retry 0 keeps the minimum", 10 * ms, 0, 0, []time.Duration{0}, 0, []int{0}, time.Second, []time.Duration{0, 10 * ms}},
		{"quiet: again after max", 10 * ms, 50 * ms, 100 * ms, []time.Duration{20 * ms}, 0, nil, 250 * ms, []time.Duration{20 * ms, 120 * ms, 220 * ms}},
		{"max counts from the start of a run", 10 * ms, 50 * ms, 100 * ms, []time.Duration{0}, 30 * ms, nil, 250 * ms, []time.Duration{0, 100 * ms, 200 * ms}},
		{"a run longer than max", 10 * ms, 50 * ms, 20 * ms, []time.Duration{0}, 30 * ms, nil, 65 * ms, []time.Duration{0, 30*ms + 1, 60*ms + 2}},
		{"max without any trigger", 10 * ms, 50 * ms, 100 * ms, nil, 0, nil, 250 * ms, []time.Duration{100 * ms, 200 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var got []time.Duration
				p := New(tt.min, tt.retry, tt.max, func(context.Context) error {
					n := len(got)
					got = append(got, time.Since(start))
					time.Sleep(tt.takes)
					if slices.Contains(tt.fail, n) {
						return errors.New("failed")
					}
					return nil
				})
				for _, at := range tt.triggers {
					time.AfterFunc(at, p.Trigger)
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.until)
				defer cancel()
				if err := p.Run(ctx); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("runs started (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestStopWhileResting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		runs := 0
		p := New(time.Hour, 0, 0, func(context.Context) error { runs++; return nil })
		p.Trigger()
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		p.Trigger()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || runs != 1 {
			t.Errorf("Run returned %v after %d runs, want nil after 1", err, runs)
		}
	})
}

func TestTriggerFromRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p *Pacer
		runs := 0
		p = New(10*ms, 0, 0, func(context.Context) error {
			if runs++; runs < 5 {
				p.Trigger()
			}
			return nil
		})
		p.Trigger()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_ = p.Run(ctx)
		if runs != 5 {
			t.Errorf("%d runs, want 5: a trigger from within a run asks for another", runs)
		}
	})
}
