package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// endpoint keeps one responder open and fed.
type endpoint struct {
	key    key
	stop   context.CancelFunc
	open   func(config.Interface) (responder, error)
	poke   chan struct{} // orders came
	dirty  chan<- struct{}
	status atomic.Pointer[status]
	logged string // the trouble logged last; the owner's

	mu     sync.Mutex
	orders orders
}

// orders is what the endpoint was told and has not taken up yet.
type orders struct {
	want   *want // the latest; nil: no new one
	again  []netip.Addr
	claims map[netip.Addr]rival // of addresses that are looked for: the weightiest
}

// rival is a foreign station that was heard to claim an address that is looked for.
type rival struct {
	mac   string
	probe bool // it only looks for it as well
}

// status is what the endpoint does, for the owner.
type status struct {
	held  []config.L2Holding // answered for in the node's own name, sorted; never changed
	taken []Conflict         // not answered for because somebody else uses it, sorted; never changed
	err   error              // what goes wrong now
	done  bool               // it has ended
}

// tell replaces what the endpoint should do.
func (e *endpoint) tell(v want) { e.order(func(o *orders) { o.want = &v }) }

// again has the endpoint repeat the announcements of those of the addresses it answers for.
func (e *endpoint) again(addrs []netip.Addr) {
	e.order(func(o *orders) { o.again = append(o.again, addrs...) })
}

// claimed has the endpoint know that somebody else wants an address that it is looking for. That somebody uses it outweighs that somebody
// looks for it too.
func (e *endpoint) claimed(addr netip.Addr, by rival) {
	e.order(func(o *orders) {
		if o.claims == nil {
			o.claims = map[netip.Addr]rival{}
		}
		if known, ok := o.claims[addr]; !ok || known.probe {
			o.claims[addr] = by
		}
	})
}

func (e *endpoint) order(change func(*orders)) {
	e.mu.Lock()
	change(&e.orders)
	e.mu.Unlock()
	signal(e.poke)
}

func (e *endpoint) take() orders {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.orders
	e.orders = orders{}
	return o
}

func (e *endpoint) publish(s status) {
	e.status.Store(&s)
	select {
	case e.dirty <- struct{}{}:
	default:
	}
}

// backoff is how long an endpoint waits before it tries again what failed.
func backoff() reconcile.Backoff {
	return reconcile.Backoff{Min: 50 * time.Millisecond, Max: 10 * time.Second}
}

// run opens the responder, has it serve, and opens it again when it failed, until ctx ends. This is the one place where that is decided:
// whatever the error, the wish stands, so it is tried again, ever more rarely. Only the words for the operator differ (see report).
func (e *endpoint) run(ctx context.Context) {
	defer e.publish(status{done: true})
	s := &serving{endpoint: e}
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		err := e.session(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > backoff().Max {
			failures = 0
		}
		failures++
		e.publish(status{err: err, taken: s.users()})
		select {
		case <-ctx.Done():
		case <-time.After(backoff().After(failures)):
		}
	}
}

// session is the life of one open responder.
func (e *endpoint) session(ctx context.Context, s *serving) error {
	s.obey(e.take(), time.Now())
	r, err := e.open(s.want.ifi)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() { failed <- r.Run(ctx) }()
	s.begin(r, time.Now())
	err = s.loop(ctx, failed)
	s.end()
	cancel()
	if err == nil {
		err = <-failed
	}
	return errors.Join(err, r.Close())
}
