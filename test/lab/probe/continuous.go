package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Continuous asks for an address at a steady pace, as a sequence of hosts would that have never heard of it.
type Continuous struct {
	asker    *asker
	interval time.Duration
}

// NewContinuous prepares asking for ip every interval (10 ms is usual); [Continuous.Run] asks.
func NewContinuous(h *netlab.Host, ifname string, ip netip.Addr, interval time.Duration) (*Continuous, error) {
	a, err := openAsker(h, ifname, ip)
	if err != nil {
		return nil, err
	}
	return &Continuous{asker: a, interval: interval}, nil
}

// Run asks until the context ends, and reports. It can be used once. The error is nil when only the context ended it.
func (c *Continuous) Run(ctx context.Context) (Report, error) {
	defer c.asker.conn.Close()
	report := Report{Begin: time.Now()}
	group, ctx := errgroup.WithContext(ctx)
	var asked []time.Time
	group.Go(func() (err error) { asked, err = c.sendAll(ctx); return err }) // at least once
	group.Go(func() error {
		for {
			answer, err := c.asker.nextWithin(ctx, time.Now().Add(time.Second))
			switch {
			case err == nil:
				if !answer.Unsolicited {
					report.Answers = append(report.Answers, answer)
				}
			case ctx.Err() != nil:
				return nil
			case !errors.Is(err, os.ErrDeadlineExceeded):
				return fmt.Errorf("hear answers for %s: %w", c.asker.ip, err)
			}
		}
	})
	err := group.Wait()
	report.Asked, report.End = len(asked), asked[len(asked)-1] // whom nobody asks any more need not answer
	return report, err
}

func (c *Continuous) sendAll(ctx context.Context) (asked []time.Time, err error) {
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		asked = append(asked, time.Now())
		if err := c.asker.send(); err != nil {
			return asked, err
		}
		select {
		case <-ctx.Done():
			return asked, nil
		case <-tick.C:
		}
	}
}

// Report is what a [Continuous] probe saw.
type Report struct {
	Begin, End time.Time
	Asked      int
	Wait       time.Duration // of a [Survey]: the longest time from a question to the next answer, what the asker was too busy to ask left out
	Answers    []Answer      // in the order of time
}

// Gap is a time without answers.
type Gap struct {
	From, To      time.Time
	Before, After string // hardware addresses that answered last before and first after it; empty at the ends of the report
}

// Duration is the gap's length.
func (g Gap) Duration() time.Duration { return g.To.Sub(g.From) }

// LongestGap is the longest time between two answers, the time before the first and after the last one included.
func (r Report) LongestGap() Gap {
	var longest Gap
	last := Gap{From: r.Begin}
	consider := func(until time.Time, mac string) {
		last.To, last.After = until, mac
		if last.Duration() > longest.Duration() {
			longest = last
		}
		last = Gap{From: until, Before: mac}
	}
	for _, a := range r.Answers {
		consider(a.Time, a.MAC.String())
	}
	consider(r.End, "")
	return longest
}

// Span is a time in which one hardware address gave all the answers.
type Span struct {
	MAC      string
	From, To time.Time // first and last answer
	Answers  int
}

// Spans says who answered when. Two machines that answer by turns give many spans.
func (r Report) Spans() []Span {
	var spans []Span
	for _, a := range r.Answers {
		mac := a.MAC.String()
		if n := len(spans); n > 0 && spans[n-1].MAC == mac {
			spans[n-1].To = a.Time
			spans[n-1].Answers++
			continue
		}
		spans = append(spans, Span{MAC: mac, From: a.Time, To: a.Time, Answers: 1})
	}
	return spans
}

// MACs are the different hardware addresses that answered, sorted.
func (r Report) MACs() []string { return MACs(r.Answers) }

// Returned reports whether an address answered again after another one had taken over: a move too many.
func (r Report) Returned() bool {
	var seen []string
	for _, s := range r.Spans() {
		if slices.Contains(seen, s.MAC) {
			return true
		}
		seen = append(seen, s.MAC)
	}
	return false
}
