package l2

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	asking = 10 * time.Millisecond // between two questions for an address
	lanIf  = "eth0"                // of the client on the LAN
	// connectLimit is how long a connection may take to come about: less than the second after which a lost SYN is sent again.
	connectLimit = 900 * time.Millisecond
	streamPath   = "/hold?every=100ms"
)

// load is what goes on beside the questions.
type load struct {
	connections int // new ones per second, to all addresses together
	streams     int // long-lived ones, to all addresses together
}

// sight is what a client saw while something happened.
type sight struct {
	reports  map[netip.Addr]*probe.Report
	attempts []probe.Attempts // for each address
	streams  []probe.Streams  // for each address
}

// watch asks for the addresses all the time, and puts load on them, while something is done.
func (s *stage) watch(ips []netip.Addr, l load, do func()) sight {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	survey, err := probe.NewSurvey(s.Client, lanIf, ips...)
	s.must(err)
	seen := sight{attempts: make([]probe.Attempts, len(ips)), streams: make([]probe.Streams, len(ips))}
	var running, opened sync.WaitGroup
	for i, ip := range ips {
		if l.streams > 0 {
			opened.Add(1)
			running.Go(func() {
				seen.streams[i] = probe.HoldStreams(ctx, s.Client, "http://"+ip.String()+streamPath, share(l.streams, len(ips), i), opened.Done)
			})
		}
	}
	opened.Wait()
	for i, ip := range ips {
		if l.connections > 0 {
			every := time.Second * time.Duration(len(ips)) / time.Duration(l.connections)
			connects := probe.NewConnects(s.Client, netip.AddrPortFrom(ip, 80).String(), every, connectLimit)
			running.Go(func() { seen.attempts[i] = connects.Run(ctx) })
		}
	}
	var failed error
	running.Go(func() { seen.reports, failed = survey.Run(ctx, asking) })
	time.Sleep(calm / 2)
	do()
	stop()
	running.Wait()
	s.must(failed)
	return seen
}

// share is the part of a whole that the i-th of n gets.
func share(whole, n, i int) int { return (i+1)*whole/n - i*whole/n }

// wait is the longest time for which somebody waited who asked for one of the addresses, every 10 ms.
func (s sight) wait() time.Duration {
	var longest time.Duration
	for _, r := range s.reports {
		longest = max(longest, r.Wait)
	}
	return longest
}

// outage is the longest time without a new connection.
func (s sight) outage() time.Duration {
	var longest time.Duration
	for _, a := range s.attempts {
		longest = max(longest, a.LongestOutage())
	}
	return longest
}

// connected returns how many connections were tried, and how many of them failed.
func (s sight) connected() (tried, failed int) {
	for _, a := range s.attempts {
		tried += len(a)
		failed += a.Failed()
	}
	return tried, failed
}

// broken returns how many streams there were, and how many ended by themselves.
func (s sight) broken() (all, broken int) {
	for _, l := range s.streams {
		all += len(l)
		broken += l.Broken()
	}
	return all, broken
}

// moves counts how often the answering machine changed, over all addresses.
func (s sight) moves() int {
	n := 0
	for _, r := range s.reports {
		n += max(0, len(r.Spans())-1)
	}
	return n
}

// firstBy returns when a machine other than this one answered first after a time; zero if none did.
func firstBy(r *probe.Report, not string, after time.Time) time.Time {
	for _, a := range r.Answers {
		if a.Time.After(after) && a.MAC.String() != not {
			return a.Time
		}
	}
	return time.Time{}
}

// lastOf returns the last answer of all machines but the one that is to remain, after a time; zero if there was none.
func lastOf(r *probe.Report, remains string, after time.Time) (last time.Time, answers int) {
	for _, a := range r.Answers {
		if a.Time.After(after) && a.MAC.String() != remains {
			last = a.Time
			answers++
		}
	}
	return last, answers
}

// explain logs who answered when, when it was not one machine all the time.
func (s *stage) explain(what string, seen sight) {
	s.t.Helper()
	told := 0
	for ip, r := range seen.reports {
		gap := r.LongestGap()
		if len(r.Spans()) == 1 && r.Wait < 100*time.Millisecond {
			continue
		}
		if told++; told > maxTold {
			continue
		}
		s.t.Logf("%s: %s: longest gap %s from %s ; an answer took %s at most", what, ip, round(gap.Duration()), round(gap.From.Sub(r.Begin)), round(r.Wait))
		for i, span := range r.Spans() {
			if i == maxSpans {
				s.t.Logf("  and %d more", len(r.Spans())-i)
				break
			}
			name, err := s.NodeOf(span.MAC)
			if err != nil {
				name = span.MAC
			}
			s.t.Logf("  %s from %s to %s, %d times", name, round(span.From.Sub(r.Begin)), round(span.To.Sub(r.Begin)), span.Answers)
		}
	}
	if told > maxTold {
		s.t.Logf("%s: and %d more addresses", what, told-maxTold)
	}
	for _, list := range seen.attempts {
		if text := firstFailures(list, what); len(text) > 0 {
			s.t.Log(text...)
		}
	}
	for _, list := range seen.streams {
		for _, stream := range list {
			if stream.Err != nil {
				s.t.Logf("%s: %v", what, stream.Err)
			}
		}
	}
}

// What is told of what went on: so many addresses, and so many changes of each.
const (
	maxTold  = 4
	maxSpans = 8
)

func firstFailures(list probe.Attempts, what string) (text []any) {
	for _, a := range list {
		if a.Err != nil && len(text) < 3 {
			text = append(text, what, ": a connection failed after ", round(a.Took), ", ", round(a.Begin.Sub(list[0].Begin)), " after the first: ", a.Err, "; ")
		}
	}
	return text
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
