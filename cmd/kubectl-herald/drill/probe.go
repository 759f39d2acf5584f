// Package drill measures how long a Service cannot be reached while something is provoked: it connects to it again and again, and asks by
// ARP for its address where it stands on the segment.
package drill

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

// How connects are tried. A SYN that is lost is sent again after a second (RFC 6298 section 2.1): a try that takes as long has failed.
const (
	Every   = 10 * time.Millisecond
	Timeout = 900 * time.Millisecond
)

// Try is one attempt to connect.
type Try struct {
	At   time.Time // when it began
	Fail string    // "" when it succeeded in time
}

// Probe tries to connect until it is told to stop.
type Probe struct {
	Dial func(context.Context) error // one attempt

	mu    sync.Mutex
	tries []Try
}

// TCP returns what connects to a TCP port, and resets the connection at once, so that none is left behind.
func TCP(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // else it is only closed more slowly
		}
		return conn.Close()
	}
}

// Run tries every 10 ms until ctx ends, and returns when the last attempt has.
func (p *Probe) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	repeat(ctx, func() {
		at := time.Now()
		wg.Go(func() { p.try(context.WithoutCancel(ctx), at) })
	})
}

// repeat does something every 10 ms until ctx ends.
func repeat(ctx context.Context, do func()) {
	ticks := time.NewTicker(Every)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			do()
		}
	}
}

func (p *Probe) try(ctx context.Context, at time.Time) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	t := Try{At: at}
	if err := p.Dial(ctx); err != nil {
		t.Fail = reason(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries = append(p.tries, t)
}

// reason is the innermost cause of a failure: which address it was is known.
func reason(err error) string {
	if e, ok := err.(net.Error); ok && e.Timeout() { //nolint:errorlint // as it comes from the dialer
		return "no answer in time"
	}
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || inner.Unwrap() == nil {
			return err.Error()
		}
		err = inner.Unwrap()
	}
}

// Between returns the attempts that began in a span of time and have ended, in the order in which they began.
func (p *Probe) Between(from, to time.Time) []Try {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Try
	for _, t := range p.tries {
		if !t.At.Before(from) && t.At.Before(to) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b Try) int { return a.At.Compare(b.At) })
	return out
}

// Summary is what came of attempts.
type Summary struct {
	Tries   int           `json:"connects"`
	Failed  int           `json:"failed"`
	Longest time.Duration `json:"-"` // from the first attempt that failed to the next that succeeded, or to the end
	Why     string        `json:"why,omitempty"`
}

// Summarise sums attempts up that are in the order in which they began. The end is when they ceased to be made.
func Summarise(tries []Try, end time.Time) Summary {
	s := Summary{Tries: len(tries)}
	whys := map[string]int{}
	var since time.Time
	for _, t := range tries {
		switch {
		case t.Fail == "" && !since.IsZero():
			s.Longest, since = max(s.Longest, t.At.Sub(since)), time.Time{}
		case t.Fail != "":
			s.Failed++
			whys[t.Fail]++
			if since.IsZero() {
				since = t.At
			}
		}
	}
	if !since.IsZero() {
		s.Longest = max(s.Longest, end.Sub(since))
	}
	for why, n := range whys {
		if most := whys[s.Why]; n > most || n == most && why < s.Why {
			s.Why = why
		}
	}
	return s
}

// Median returns the middle one of several durations, the longer of the middle two; 0 of none.
func Median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(all), cmp.Compare)
	return sorted[len(sorted)/2]
}
