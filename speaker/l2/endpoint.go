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
	want  *want // the latest; nil: no new one
	again []netip.Addr
}

// status is what the endpoint does, for the owner.
type status struct {
	held []config.L2Holding // answered for, sorted; never changed
	err  error              // what goes wrong now
	done bool               // it has ended
}

// tell replaces what the endpoint should do.
func (e *endpoint) tell(v want) { e.order(func(o *orders) { o.want = &v }) }

// again has the endpoint repeat the announcements of those of the addresses it answers for.
func (e *endpoint) again(addrs []netip.Addr) {
	e.order(func(o *orders) { o.again = append(o.again, addrs...) })
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
	var v want
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		err := e.session(ctx, &v)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > backoff().Max {
			failures = 0
		}
		failures++
		e.publish(status{err: err})
		select {
		case <-ctx.Done():
		case <-time.After(backoff().After(failures)):
		}
	}
}

// session is the life of one open responder.
func (e *endpoint) session(ctx context.Context, v *want) error {
	if o := e.take(); o.want != nil {
		*v = *o.want
	}
	r, err := e.open(v.ifi)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1)
	go func() { failed <- r.Run(ctx) }()
	s := &serving{endpoint: e, r: r, want: v}
	err = s.loop(ctx, failed)
	cancel()
	if err == nil {
		err = <-failed
	}
	return errors.Join(err, r.Close())
}
