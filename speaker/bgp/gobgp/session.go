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

	cut atomic.Pointer[context.CancelCauseFunc] // ends what stands on the connection; nil while there is none
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

// pause waits until the next attempt is due. Attempts begin one connect time apart, up to a quarter less so that nodes do not march in
// step (RFC 4271 section 10). A session that had lasted is taken up again at once; one that keeps falling is not. While there is no
// connection, a change of the node's addresses is a reason to try at once.
func (s *session) pause(ctx context.Context, began, up time.Time, err error) {
	wait := time.Until(began.Add(jitter(s.Neighbor.Connect)))
	if !up.IsZero() && time.Since(up) >= s.Neighbor.Connect {
		wait = rand.N(100 * time.Millisecond)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var down *unconnected
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
		case <-s.wake:
			next := *s.advert.Load()
			last.Paths = next.Paths
			if errors.As(err, &down) && !last.Equal(next) {
				return
			}
			last = next
		}
	}
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
	t, err := l.handshake(standing)
	if err != nil {
		return time.Time{}, l.part(ctx, time.Time{}, err)
	}
	l.terms = t
	up := time.Now()
	s.held = true
	return up, l.part(ctx, up, l.hold(standing))
}

// connect opens a connection to the neighbour, which it returns with the address filled in.
func (s *session) connect(ctx context.Context) (bgp.Neighbor, net.Conn, error) {
	n := s.Neighbor
	if s.finder != nil {
		addr, err := s.locate(ctx)
		if err != nil {
			return n, nil, err
		}
		n.Address = addr
	}
	conn, err := s.dial(ctx, n)
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
