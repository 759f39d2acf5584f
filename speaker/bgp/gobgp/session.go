package gobgp

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

// patience is how long the peer's OPEN, or its reading of what we write, is waited for when no hold time limits it (RFC 4271 section 8.2.2
// suggests 4 minutes).
const patience = 4 * time.Minute

// session is one BGP session. The goroutine of Run owns it; Set and Status are for others.
type session struct {
	bgp.Neighbor
	dial func(context.Context, bgp.Neighbor) (net.Conn, error)
	nics func() ([]bgp.NIC, error)
	log  *slog.Logger

	advert atomic.Pointer[bgp.Advert]
	wake   chan struct{} // capacity 1: advert was replaced
	board  *board

	find   func(iface string) Finder
	finder Finder // finds the router of an unnumbered session; nil for others
	held   bool   // the session was established before
	misses int    // attempts in a row that got no connection

	cut      atomic.Pointer[context.CancelCauseFunc] // ends what stands on the connection; nil while there is none
	hurry    chan struct{}                           // capacity 1: the router is likely to answer now
	dialling atomic.Pointer[context.CancelCauseFunc] // ends the attempt to connect; nil while there is none
}

// Set implements bgp.Session.
func (s *session) Set(a bgp.Advert) {
	if last := s.advert.Load(); last != nil && last.Equal(a) {
		return
	}
	s.advert.Store(&a)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Drop implements bgp.Session. The peer, should it still hear, is told BFD Down (RFC 9384).
func (s *session) Drop(words string) {
	if cut := s.cut.Load(); cut != nil {
		(*cut)(newFault(packet.BGP_ERROR_CEASE, bfdDown, nil, words))
	}
}

// errHurry ends an attempt to connect in favour of a new one: what it has sent was lost on a router that was not there, and would be sent
// again only after seconds.
var errHurry = errors.New("the router is back")

// Hasten implements bgp.Session.
func (s *session) Hasten() {
	if s.cut.Load() != nil {
		return // there is a connection
	}
	select {
	case s.hurry <- struct{}{}:
	default:
	}
	if end := s.dialling.Load(); end != nil {
		(*end)(errHurry)
	}
}

// Status implements bgp.Session.
func (s *session) Status() bgp.Status { return s.board.read() }

// Run implements bgp.Session.
func (s *session) Run(ctx context.Context) {
	defer s.board.stopped()
	if s.Interface != "" {
		s.finder = s.find(s.Interface)
		var wg sync.WaitGroup
		defer wg.Wait()
		looking, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		wg.Go(func() { s.finder.Run(looking) })
	}
	for ctx.Err() == nil {
		began := time.Now()
		up, err := s.attempt(ctx)
		if ctx.Err() != nil {
			if !up.IsZero() {
				s.log.Info("BGP session ended", "reason", context.Cause(ctx))
			}
			return
		}
		s.pause(ctx, began, up, err)
	}
}

// unconnected is the error of an attempt that got no connection.
type unconnected struct{ words string }

func (e *unconnected) Error() string { return e.words }

// failed reports the end of an attempt, unless it is we who end it; the same failure again is not news.
func (s *session) failed(ctx context.Context, up time.Time, err error) {
	if ctx.Err() != nil {
		return
	}
	state := bgp.Idle
	if _, ok := errors.AsType[*unconnected](err); ok {
		state = bgp.Active
	}
	news := !up.IsZero() || s.board.read().LastError != err.Error()
	s.board.fail(state, err.Error())
	switch {
	case !up.IsZero():
		s.log.Warn("BGP session lost", "reason", err, "after", time.Since(up).Round(time.Second))
	case news:
		s.log.Warn("BGP session does not come up", "reason", err)
	}
}

// pause waits until the next attempt is due. After one that got no connection that is when nextTry says, or when the router is said to be
// back, or the node's addresses change. After one that the router broke off it is a connect time from its beginning, up to a quarter less so
// that nodes do not march in step (RFC 4271 section 10). A session that had lasted is taken up again at once; one that keeps falling is not.
func (s *session) pause(ctx context.Context, began, up time.Time, err error) {
	var down *unconnected
	every := s.Neighbor.Connect
	if errors.As(err, &down) {
		every = s.nextTry()
		s.misses++
	} else {
		s.misses = 0
	}
	wait := time.Until(began.Add(jitter(every)))
	if !up.IsZero() && time.Since(up) >= min(s.Neighbor.Connect, lasting) {
		wait = rand.N(100 * time.Millisecond)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var last bgp.Advert
	if a := s.advert.Load(); a != nil {
		last = *a
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-s.hurry:
			s.misses = 0
			return
		case <-s.wake:
			next := *s.advert.Load()
			last.Paths = next.Paths
			if down != nil && !last.Equal(next) {
				return
			}
			last = next
		}
	}
}

// lasting is how long a session has to be up, if not for a connect time, so that losing it is not what it always does.
const lasting = 10 * time.Second

// soon is how long after an attempt that got no connection the second one begins.
const soon = 250 * time.Millisecond

// nextTry is how far apart two attempts begin of which the first got no connection. Most routers that go away are back in seconds, so it is
// little at first, and half as much again each time, up to the connect time: a router that was away for a while is found before half of
// that has passed once more.
func (s *session) nextTry() time.Duration {
	d := soon
	for range s.misses {
		if d >= s.Neighbor.Connect {
			break
		}
		d += d / 2
	}
	return min(d, s.Neighbor.Connect)
}

// jitter returns between three quarters and the whole of d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d - rand.N(d/4+1)
}

// attempt connects, agrees with the peer on a session, and holds it until it fails or ctx ends. It returns when the session was
// established (zero: never) and why it ended.
func (s *session) attempt(ctx context.Context) (time.Time, error) {
	s.board.enter(bgp.Connect)
	n, conn, err := s.connect(ctx)
	if err != nil {
		if errors.Is(err, errHurry) {
			return time.Time{}, &unconnected{err.Error()} // and no failure
		}
		err = &unconnected{dialTrouble(n, err)}
		s.failed(ctx, time.Time{}, err)
		return time.Time{}, err
	}
	l := &link{session: s, Neighbor: n, wire: newWire(conn, s.board.count)}
	defer l.wire.close()
	standing, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	s.cut.Store(&cut)
	defer s.cut.Store(nil)
	s.misses = 0
	t, err := l.handshake(standing)
	if err != nil {
		return time.Time{}, l.part(ctx, time.Time{}, err)
	}
	l.terms = t
	up := time.Now()
	s.held = true
	select {
	case <-s.hurry: // no longer
	default:
	}
	return up, l.part(ctx, up, l.hold(standing))
}

// shortestDial is how long an attempt to connect takes at least when there is no answer: a packet that was lost would be sent again after that.
const shortestDial = time.Second

// connect opens a connection to the neighbour, which it returns with the address filled in. While attempts come soon after each other, none
// takes much longer: the router may have come back just after it was asked.
func (s *session) connect(ctx context.Context) (bgp.Neighbor, net.Conn, error) {
	n := s.Neighbor
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.dialling.Store(&end)
	defer s.dialling.Store(nil)
	if s.finder != nil {
		addr, err := s.locate(ctx)
		if err != nil {
			return n, nil, err
		}
		n.Address = addr
	}
	limited := n
	limited.Connect = min(n.Connect, max(s.nextTry(), shortestDial))
	conn, err := s.dial(ctx, limited)
	if err != nil && context.Cause(ctx) == errHurry { //nolint:errorlint // it is this very value
		err = errHurry
	}
	return n, conn, err
}

// locate waits for a router on the interface, no longer than a connect time.
func (s *session) locate(ctx context.Context) (netip.Addr, error) {
	timer := time.NewTimer(s.Neighbor.Connect)
	defer timer.Stop()
	for {
		addr, err := s.finder.Router()
		if err == nil {
			return addr, nil
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, ctx.Err()
		case <-timer.C:
			return netip.Addr{}, &unlocated{err.Error()}
		case <-s.finder.Changed():
		}
	}
}

// unlocated is the error of an attempt that found no router on its interface.
type unlocated struct{ words string }

func (e *unlocated) Error() string { return e.words }
