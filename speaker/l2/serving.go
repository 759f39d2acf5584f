package l2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
)

// serving is the state of an endpoint's session: an open responder, what it answers for and what is to be announced when.
type serving struct {
	*endpoint
	r        responder
	want     *want
	held     map[netip.Addr]time.Time // answered for, since when
	schedule schedule
	failures int       // of r.Set in a row
	retry    time.Time // when to try r.Set again; zero: it succeeded
}

// batch bounds how many addresses are announced before orders are looked at again.
const batch = 64

// loop carries out orders and announces what is due, until ctx ends (nil) or the responder fails.
func (s *serving) loop(ctx context.Context, failed <-chan error) error {
	s.apply(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.announce(time.Now())
		timer.Reset(s.wait(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if err == nil {
				err = errEnded
			}
			return err
		case <-s.poke:
			s.obey(s.take(), time.Now())
		case <-timer.C:
			if !s.retry.IsZero() && !time.Now().Before(s.retry) {
				s.apply(time.Now())
			}
		}
	}
}

var errEnded = errors.New("the responder has ended")

// wait returns how long nothing is due.
func (s *serving) wait(now time.Time) time.Duration {
	next, ok := s.schedule.next()
	if !s.retry.IsZero() && (!ok || s.retry.Before(next)) {
		next, ok = s.retry, true
	}
	if !ok {
		return time.Hour
	}
	return max(0, next.Sub(now))
}

func (s *serving) obey(o orders, now time.Time) {
	if o.want != nil {
		moved := s.want.ifi.MAC != o.want.ifi.MAC
		*s.want = *o.want
		s.apply(now)
		if moved { // the neighbours have the old MAC in their caches
			s.again(slices.Collect(maps.Keys(s.held)), now)
		}
	}
	s.again(o.again, now)
}

func (s *serving) again(addrs []netip.Addr, now time.Time) {
	for _, a := range addrs {
		if _, ok := s.held[a]; ok {
			s.schedule.begin(a, now)
		}
	}
}

// apply gives the responder what is wanted, takes down what is answered for thereafter, and has what is new announced: first answer,
// then announce.
func (s *serving) apply(now time.Time) {
	err := s.r.Set(frame.NewAnswers(s.want.mac, s.want.addrs))
	s.retry = time.Time{}
	if err != nil {
		s.failures++
		s.retry = now.Add(backoff().After(s.failures))
		err = fmt.Errorf("answer for addresses: %w", err)
	} else {
		s.failures = 0
	}
	s.publish(status{held: s.hold(unanswered(err, s.held), now), err: err})
}

// unanswered returns the test for addresses that Set failed for: those that its error names, or, if it names none, all that are new.
func unanswered(err error, held map[netip.Addr]time.Time) func(netip.Addr) bool {
	var some *frame.Unanswered
	switch {
	case err == nil:
		return func(netip.Addr) bool { return false }
	case errors.As(err, &some):
		return some.Has
	default:
		return func(a netip.Addr) bool { _, ok := held[a]; return !ok }
	}
}

// hold replaces what is answered for by what is wanted and does not lack, and returns it.
func (s *serving) hold(lacks func(netip.Addr) bool, now time.Time) []config.L2Holding {
	held := make(map[netip.Addr]time.Time, len(s.want.addrs))
	list := make([]config.L2Holding, 0, len(s.want.addrs))
	for _, a := range s.want.addrs {
		if lacks(a) {
			continue
		}
		since, ok := s.held[a]
		if !ok {
			since = now
			s.schedule.begin(a, now)
		}
		held[a] = since
		list = append(list, config.L2Holding{Address: a, Interface: s.key.name, Since: since})
	}
	for a := range s.held {
		if _, ok := held[a]; !ok {
			s.schedule.drop(a)
		}
	}
	s.held = held
	return list
}

// announce announces what is due, a batch of it. What cannot be sent is counted and comes again; a dead socket the reader finds.
func (s *serving) announce(now time.Time) {
	for _, a := range s.schedule.due(now, batch) {
		_ = s.r.Announce(a)
	}
}
