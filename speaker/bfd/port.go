package bfd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heraldlb/herald/speaker/reconcile"
)

// port keeps one well-known port open. Its goroutine opens the socket and waits on it; what has come is read by the owner, so that the
// owner can make sure that nothing is left unread before it declares a neighbour lost.
type port struct {
	Port
	network Network
	events  chan<- event
	resume  chan struct{} // capacity 1: the owner has read what there was
	cancel  context.CancelFunc
	done    chan struct{}

	// The owner's:
	listener Listener // nil while it is not open
	trouble  string   // why not
}

// event is what a port's goroutine tells the owner.
type event struct {
	port     *port
	listener Listener // it has been opened, or something has come in; nil: it has failed
	err      error    // then
}

// backoff is how long to wait before a socket is opened again.
func backoff() reconcile.Backoff {
	return reconcile.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}
}

// run keeps the socket open until ctx ends.
func (p *port) run(ctx context.Context) {
	defer close(p.done)
	for failures := 0; ctx.Err() == nil; {
		began := time.Now()
		err := p.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > backoff().Max {
			failures = 0
		}
		failures++
		p.tell(ctx, event{port: p, err: err})
		select {
		case <-ctx.Done():
		case <-time.After(backoff().After(failures)):
		}
	}
}

// listen opens the socket and tells whenever something has come in, until the socket fails.
func (p *port) listen(ctx context.Context) error {
	l, err := p.network.Listen(p.Port)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Port, err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	for err == nil && ctx.Err() == nil {
		p.tell(ctx, event{port: p, listener: l})
		select {
		case <-ctx.Done():
		case <-p.resume:
			err = l.Wait()
		}
	}
	stop()
	err = errors.Join(err, l.Close())
	return fmt.Errorf("%s: %w", p.Port, err)
}

func (p *port) tell(ctx context.Context, e event) {
	select {
	case <-ctx.Done():
	case p.events <- e:
	}
}

// stop ends the port and waits for it.
func (p *port) stop() {
	p.cancel()
	<-p.done
}
