package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Survey asks for many addresses over few sockets: one for each family. It can be used once.
type Survey struct {
	questions []questionOf
	conns     map[bool]*packet.Conn // by: is it IPv4
	wanted    map[netip.Addr]bool
}

type questionOf struct {
	inquiry
	conn *packet.Conn
}

// NewSurvey prepares asking for the addresses from a host's interface; [Survey.Run] or [Survey.Sweep] asks.
func NewSurvey(h *netlab.Host, ifname string, ips ...netip.Addr) (*Survey, error) {
	s := &Survey{conns: map[bool]*packet.Conn{}, wanted: map[netip.Addr]bool{}}
	if err := s.prepare(h, ifname, ips); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Survey) prepare(h *netlab.Host, ifname string, ips []netip.Addr) error {
	ifi, err := h.Interface(ifname)
	if err != nil {
		return err
	}
	for _, ip := range ips {
		q, err := newInquiry(h, ifi, ip)
		if err != nil {
			return err
		}
		if s.conns[ip.Is4()] == nil {
			if s.conns[ip.Is4()], err = listen(h, ifi, answerProtocol(ip)); err != nil {
				return err
			}
		}
		s.wanted[ip] = true
		s.questions = append(s.questions, questionOf{q, s.conns[ip.Is4()]})
	}
	return nil
}

func (s *Survey) close() {
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
}

// Run asks for all addresses every interval until the context ends, and reports about each. The error is nil when only the context ended
// it.
func (s *Survey) Run(ctx context.Context, interval time.Duration) (map[netip.Addr]*Report, error) {
	defer s.close()
	var mu sync.Mutex // questions and answers come from different goroutines
	reports, open := map[netip.Addr]*Report{}, map[netip.Addr]time.Time{}
	for ip := range s.wanted {
		reports[ip] = &Report{Begin: time.Now()}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, q := range s.questions {
				mu.Lock()
				reports[q.ip].Asked++
				if open[q.ip].IsZero() {
					open[q.ip] = time.Now()
				}
				mu.Unlock()
				if err := q.send(); err != nil {
					return err
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
		return nil
	})
	s.hear(ctx, group, func(a Answer) {
		mu.Lock()
		defer mu.Unlock()
		r := reports[a.IP]
		r.Answers = append(r.Answers, a)
		r.waited(open[a.IP], a.Time)
		open[a.IP] = time.Time{}
	})
	err := group.Wait()
	for ip, r := range reports {
		r.End = time.Now()
		r.waited(open[ip], r.End)
	}
	return reports, err
}

// waited takes how long a question was open; the zero time is none.
func (r *Report) waited(asked, answered time.Time) {
	if !asked.IsZero() {
		r.Wait = max(r.Wait, answered.Sub(asked))
	}
}

// hear listens on each socket until the context ends. An address is answered for in one family, so answers for it come one after another.
func (s *Survey) hear(ctx context.Context, group *errgroup.Group, take func(Answer)) {
	for _, conn := range s.conns {
		group.Go(func() error {
			defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
			buf := make([]byte, 2048)
			for {
				n, _, err := conn.ReadFrom(buf)
				now := time.Now()
				switch {
				case ctx.Err() != nil:
					return nil
				case errors.Is(err, os.ErrDeadlineExceeded):
					continue
				case err != nil:
					return fmt.Errorf("hear answers: %w", err)
				}
				if c, err := parseClaim(buf[:n]); err == nil && !c.Unsolicited && s.wanted[c.IP] {
					take(Answer{Claim: clone(c), Time: now})
				}
			}
		})
	}
}

func (q questionOf) send() error { return q.inquiry.send(q.conn) }

const (
	sweepBatch = 50                     // questions at once: more would fill the queues of who is asked
	sweepPause = 5 * time.Millisecond   // between batches
	sweepRound = 200 * time.Millisecond // for the last answers
)

// Sweep asks for each address once, in batches, and again up to the given number of rounds for those that nobody has answered for. It
// returns the answers by address.
func (s *Survey) Sweep(ctx context.Context, rounds int) (map[netip.Addr][]Answer, error) {
	defer s.close()
	var mu sync.Mutex
	answers := map[netip.Addr][]Answer{}
	hearing, stop := context.WithCancel(ctx)
	defer stop()
	group, hearing := errgroup.WithContext(hearing)
	s.hear(hearing, group, func(a Answer) {
		mu.Lock()
		defer mu.Unlock()
		answers[a.IP] = append(answers[a.IP], a)
	})
	group.Go(func() error {
		defer stop()
		for range rounds {
			var open []questionOf
			mu.Lock()
			for _, q := range s.questions {
				if len(answers[q.ip]) == 0 {
					open = append(open, q)
				}
			}
			mu.Unlock()
			if err := askAll(hearing, open); err != nil || len(open) == 0 {
				return err
			}
		}
		return nil
	})
	err := group.Wait()
	return answers, errors.Join(err, ctx.Err())
}

func askAll(ctx context.Context, questions []questionOf) error {
	if len(questions) == 0 {
		return nil
	}
	for i, q := range questions {
		if err := q.send(); err != nil {
			return err
		}
		if i%sweepBatch == sweepBatch-1 {
			pauseFor(ctx, sweepPause)
		}
	}
	pauseFor(ctx, sweepRound)
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
