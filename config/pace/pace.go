// Package pace turns many triggers into few runs: a burst of changes costs one run now and one after the minimum interval, a failed run is
// tried again by itself, and a quiet source is run again now and then if wanted.
package pace

import (
	"context"
	"time"
)

// Pacer calls one function, never twice at the same time.
type Pacer struct {
	min, retry, max time.Duration
	run             func(context.Context) error
	trigger         chan struct{}
}

// New makes a Pacer for run; nothing happens before Run. Two runs start at least min apart, however many triggers arrive. A run that
// returns an error is run again retry after it ended (a trigger may bring that forward). Without any trigger run is called max after it
// was last started; 0 means never. The function reports its own errors: the Pacer only looks at whether there was one.
func New(min, retry, max time.Duration, run func(context.Context) error) *Pacer {
	return &Pacer{min: min, retry: retry, max: max, run: run, trigger: make(chan struct{}, 1)}
}

// Trigger asks for a run that starts after this call. It never blocks and may be called from any goroutine, also from the run itself.
func (p *Pacer) Trigger() {
	select {
	case p.trigger <- struct{}{}:
	default: // one is waiting already, and it will see what this caller saw
	}
}

// Run calls the function as triggers come, until ctx ends; then it returns nil. The run under way is waited for.
func (p *Pacer) Run(ctx context.Context) error {
	var last time.Time // start of the last run; zero before the first
	again := p.max
	for p.due(ctx, last, again) {
		last = time.Now()
		if err := p.run(ctx); err != nil {
			again = max(p.retry, 1)
		} else if again = p.max; again > 0 {
			again = max(again-time.Since(last), 1)
		}
	}
	return nil
}

// due waits for the next run: until a trigger, but not before min after last, or until again has passed (0 = never). It reports false when ctx ended.
func (p *Pacer) due(ctx context.Context, last time.Time, again time.Duration) bool {
	var timer <-chan time.Time
	if again > 0 {
		timer = time.After(again)
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer:
	case <-p.trigger:
	}
	if !p.rest(ctx, last) {
		return false
	}
	select {
	case <-p.trigger: // came during the rest: the run that follows answers it too
	default:
	}
	return ctx.Err() == nil
}

// rest waits until min has passed since last. It reports false when ctx ended.
func (p *Pacer) rest(ctx context.Context, last time.Time) bool {
	wait := p.min - time.Since(last)
	if last.IsZero() || wait <= 0 {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(wait):
		return true
	}
}
