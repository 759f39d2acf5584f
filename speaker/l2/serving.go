package l2

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
)

// serving is what an endpoint does for its addresses. It outlives the responder, so that what was looked for once is not looked for again.
// The endpoint's goroutine owns it.
type serving struct {
	*endpoint
	r        responder  // nil: none is open
	want     want       // as ordered last
	list     []*address // one for each task, sorted
	schedule schedule
	quiet    time.Time // nothing is sent before

	stale     bool      // the responder does not know the list yet
	settling  bool      // the responder has something left to do
	setErr    error     // of the last r.Set
	settleErr error     // of the last r.Settle
	failures  int       // in a row, of r.Set and r.Settle
	retry     time.Time // when to try r.Set again; zero: it succeeded
	published time.Time
}

// What is done at a time, so that orders are looked at soon, and how fast the most is sent: 64 addresses a millisecond are 10,000 within
// 0.2 s, and do not overrun the queues of drivers and receivers.
const (
	batch    = 64
	pace     = time.Millisecond
	crowded  = 5 * time.Millisecond   // pause when the system has no room for frames
	portion  = 32                     // r.Settle while nothing is to be sent
	aside    = 8                      // r.Settle while something is
	progress = 100 * time.Millisecond // how often the owner hears of what is not complete yet
)

// A process that does nothing for so long was stopped, and others may have taken its addresses over. It says nothing unasked until it has had
// time to hear of that, or is told anew what to answer for.
const (
	frozen = time.Second
	thaw   = 2 * time.Second
)

// begin takes up a responder that was just opened.
func (s *serving) begin(r responder, now time.Time) {
	s.r, s.stale, s.failures, s.quiet = r, true, 0, time.Time{}
	for _, a := range s.list {
		a.held = time.Time{}
		if a.announced() || a.phase == looking {
			s.schedule.begin(a, now)
		}
	}
}

// end forgets the responder.
func (s *serving) end() { s.r = nil }

// loop carries out orders and what is due, until ctx ends (nil) or the responder fails.
func (s *serving) loop(ctx context.Context, failed <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := time.Now(); ; {
		now := time.Now()
		if now.Sub(due) > frozen {
			s.quiet = now.Add(thaw)
		}
		s.obey(s.take(), now)
		s.work(now)
		wait := s.wait(time.Now())
		due = now.Add(wait)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			if err == nil {
				err = errEnded
			}
			return err
		case <-s.poke:
		case <-timer.C:
		}
	}
}

var errEnded = errors.New("the responder has ended")

// wait returns how long nothing is to be done.
func (s *serving) wait(now time.Time) time.Duration {
	if s.stale || s.settling {
		return 0
	}
	next, ok := s.schedule.next()
	if ok && next.Before(s.quiet) {
		next = s.quiet
	}
	if !s.retry.IsZero() && (!ok || s.retry.Before(next)) {
		next, ok = s.retry, true
	}
	if !ok {
		return time.Hour
	}
	return max(0, next.Sub(now))
}

// obey takes orders up. The responder hears of them in work.
func (s *serving) obey(o orders, now time.Time) {
	if o.want != nil {
		if s.quiet.Sub(now) > crowded {
			s.quiet = now
		}
		s.adopt(*o.want, now)
	}
	for addr, by := range o.claims {
		if a := s.find(addr); a != nil {
			s.yield(a, by, now)
		}
	}
	for _, addr := range o.again {
		if a := s.find(addr); a != nil && a.announced() {
			s.schedule.begin(a, now)
		}
	}
}

func (s *serving) find(addr netip.Addr) *address {
	i, ok := slices.BinarySearchFunc(s.list, addr, func(a *address, addr netip.Addr) int { return a.addr.Compare(addr) })
	if !ok {
		return nil
	}
	return s.list[i]
}

// adopt goes over to what is wanted now.
func (s *serving) adopt(v want, now time.Time) {
	stirred := s.want.stirred(v)
	s.want, s.stale = v, true
	s.list = merge(s.list, v.tasks, s.schedule.drop,
		func(a *address, t task) { s.change(a, t, now) },
		func(t task) *address { return s.meet(t, now) })
	if !stirred {
		return
	}
	for _, a := range s.list {
		if a.announced() {
			s.schedule.begin(a, now)
		}
	}
}

// meet begins with an address.
func (s *serving) meet(t task, now time.Time) *address {
	a := &address{task: t, hasty: true}
	if t.probe && !t.standIn {
		a.phase = looking
		s.schedule.begin(a, now)
	} else {
		s.answerFor(a, now)
	}
	return a
}

// change goes on with an address of which something else is wanted now. Looking for a user is not given up because decide knows the address
// for its own meanwhile, but for a better reason; where a stranger is said to use it, that only makes it look again soon.
func (s *serving) change(a *address, t task, now time.Time) {
	was := *a
	a.task = t
	switch {
	case a.phase != answering && (t.standIn || t.sure && !t.probe), was.announced() != a.announced():
		s.answerFor(a, now)
	case a.phase != answering && t.sure && !was.sure:
		a.hasty = true
		if a.phase == taken {
			s.lookLater(a, now)
		}
	case a.announced() && t.refresh != was.refresh && a.turn.step >= bursts:
		s.schedule.drop(a)
		if t.refresh > 0 {
			s.schedule.put(a, now.Add(rand.N(t.refresh)))
		}
	}
}

// answerFor has the address answered for and, if it is ours, announced. The responder is not told here.
func (s *serving) answerFor(a *address, now time.Time) {
	a.phase, a.user, a.held = answering, user{}, time.Time{}
	if a.announced() {
		s.schedule.begin(a, now)
	} else {
		s.schedule.drop(a)
	}
}

// yield takes note that somebody else claims an address that is looked for. Who uses it has it. Of two that look for it at once the one with
// the lower MAC goes on: were it only for courtesy, two speakers that think themselves chosen would both stand back.
func (s *serving) yield(a *address, by rival, now time.Time) {
	switch {
	case a.phase == answering:
	case !by.probe:
		if a.user.mac == "" {
			a.user.first = now
		}
		a.user.mac, a.user.last = by.mac, now
		if a.phase == taken { // the owner hears of it when we look again
			return
		}
		a.phase = taken
		s.lookLater(a, now)
		if s.r != nil {
			s.report(now)
		}
	case a.phase == looking && by.mac < s.want.mac.String():
		s.schedule.begin(a, now.Add(lookSooner+rand.N(lookSooner/5)))
	}
}

// lookLater has an address looked for again. Soon, for once, when this node has just been chosen or found entitled to it: it may have been another
// speaker that answered, which has to give it up.
func (s *serving) lookLater(a *address, now time.Time) {
	wait := lookAgain
	if a.hasty {
		wait = lookSooner
	}
	a.hasty = false
	s.schedule.begin(a, now.Add(wait-wait/10+rand.N(wait/5)))
}

// work does a portion of what is to be done: first answer, then announce.
func (s *serving) work(now time.Time) {
	if s.stale || !s.retry.IsZero() && !now.Before(s.retry) {
		s.set()
	}
	if s.settling {
		s.settle(now)
	}
	if !now.Before(s.quiet) {
		s.act(now)
	}
}

// set tells the responder what to answer.
func (s *serving) set() {
	list := make([]frame.Answer, len(s.list))
	for i, a := range s.list {
		list[i] = a.answer()
	}
	s.stale, s.settling, s.retry = false, true, time.Time{}
	s.setErr = s.r.Set(frame.NewAnswers(s.want.mac, list))
}

// settle has the responder go on with what Set left to do. When it is done, or has taken long, the owner hears of it.
func (s *serving) settle(now time.Time) {
	limit := portion
	if next, ok := s.schedule.next(); ok && !next.After(now) {
		limit = aside
	}
	left, err := s.r.Settle(limit)
	if left > 0 {
		if now.Sub(s.published) >= progress {
			s.report(now)
		}
		return
	}
	s.settling = false
	s.settleErr = err
	if s.setErr == nil && err == nil {
		s.failures = 0
	} else {
		s.failures++
		s.retry = now.Add(backoff().After(s.failures))
	}
	s.report(now)
}

// report works out which addresses are answered for by now, and tells the owner.
func (s *serving) report(now time.Time) {
	held := make([]config.L2Holding, 0, len(s.list))
	for _, a := range s.list {
		if a.phase == answering {
			s.confirm(a, now)
		}
		if a.announced() && !a.held.IsZero() {
			held = append(held, config.L2Holding{Address: a.addr, Interface: s.key.name, Since: a.held})
		}
	}
	err := errors.Join(s.setErr, s.settleErr)
	if err != nil {
		err = fmt.Errorf("answer for addresses: %w", err)
	}
	s.published = now
	s.publish(status{held: held, taken: s.users(), err: err})
}

// confirm works out whether an address is answered for. One that is not, and will not be shortly, is not announced: it would draw traffic
// that nobody can ask for again.
func (s *serving) confirm(a *address, now time.Time) {
	ok := s.r.Ready(a.addr) && (s.setErr == nil || !a.held.IsZero())
	switch {
	case ok && a.held.IsZero():
		a.held = now
		if a.announced() && a.turn.place == 0 {
			s.schedule.begin(a, now)
		}
	case !ok && !s.settling:
		a.held = time.Time{}
		s.schedule.drop(a)
	}
}

// users returns who uses addresses that are not answered for because of it.
func (s *serving) users() []Conflict {
	var out []Conflict
	for _, a := range s.list {
		if u := a.user; u.mac != "" {
			out = append(out, Conflict{Addr: a.addr, Interface: s.key.name, MAC: u.mac, First: u.first, Last: u.last, Unanswered: true})
		}
	}
	return out
}

// act does what is due, a batch of it. What the system has no room for is done a little later; what cannot be sent for another reason is
// counted and comes again in its time (a dead socket the reader finds).
func (s *serving) act(now time.Time) {
	due := s.schedule.due(now, batch)
	if len(due) == batch {
		s.quiet = now.Add(pace)
	}
	for i, a := range due {
		if err := s.turn(a, now); noRoom(err) {
			s.quiet = now.Add(crowded)
			for _, a := range due[i:] {
				s.schedule.put(a, a.turn.at) // it keeps its place
			}
			return
		}
	}
}

func noRoom(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EAGAIN)
}

// turn does what is due about one address and schedules what comes next. When there was no room for the frame, nothing is done.
func (s *serving) turn(a *address, now time.Time) error {
	switch a.phase {
	case answering:
		return s.announce(a, now)
	case taken:
		a.phase, a.turn.step = looking, 0
	}
	return s.look(a, now)
}

func (s *serving) announce(a *address, now time.Time) error {
	err := s.r.Announce(a.addr)
	if noRoom(err) {
		return err
	}
	wait, ok := pause(a.turn.step, a.refresh)
	a.turn.step++
	if ok {
		s.schedule.put(a, now.Add(wait))
	}
	return nil
}

// look sends the next probe, or takes the address when all were sent and nobody said a word.
func (s *serving) look(a *address, now time.Time) error {
	waits := probing()
	if a.turn.step == len(waits) {
		s.answerFor(a, now)
		s.stale = true
		return nil
	}
	if err := s.r.Probe(a.addr); noRoom(err) {
		return err
	}
	wait := waits[a.turn.step]
	a.turn.step++
	s.schedule.put(a, now.Add(wait))
	return nil
}
