// Package controller gives Services their addresses and says in conditions and events what became of them. It is one loop: a snapshot of what
// the cluster asks for goes in, a plan comes out (ipam), and the difference to what the API server holds is written. Of several replicas
// one leads; the others follow what happens and write nothing.
package controller

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/pace"
)

// Source tells what the cluster asks for. A write made through Writer shows in the next Snapshot.
type Source interface {
	Snapshot() *config.Snapshot
	Changed() <-chan struct{}
}

// Writer writes to the API server. A write that was decided from an object that has changed since fails with a conflict.
type Writer interface {
	WriteService(context.Context, kube.ServiceStatus) error
	ReleaseService(context.Context, config.Released) error
	WriteReady(ctx context.Context, ref config.Ref, generation int64, ready config.Condition) error
	WritePoolStatus(ctx context.Context, pool string, status config.PoolStatus) error
	Retain(context.Context, kube.Retention) error
	DeleteReservation(ctx context.Context, name, uid string) error
}

// Events takes events in; it never blocks.
type Events interface {
	Emit(kube.Event)
}

// Options of a Controller. All fields are required but those that say otherwise.
type Options struct {
	Source Source
	Writer Writer
	Events Events
	// Elect calls lead while this replica leads, and returns when ctx has ended and lead has returned.
	Elect func(ctx context.Context, lead func(context.Context)) error
	// EnsureKey makes sure that the gossip key exists.
	EnsureKey func(context.Context) error
	// IgnoreExcludeLB and DrainOnCordon must be what the speakers were told; they only matter for what conditions explain.
	IgnoreExcludeLB bool
	DrainOnCordon   bool
	Metrics         *Metrics
	Log             *slog.Logger
}

// Controller is the whole process but its flags and servers. Make it with New, run it with Run.
type Controller struct {
	opt    Options
	warm   *pace.Pacer
	book   *book
	leader atomic.Pointer[term] // nil while another replica leads
}

// New returns a Controller that does nothing until Run.
func New(opt Options) *Controller {
	c := &Controller{opt: opt, book: newBook()}
	c.warm = pace.New(standbyEvery, 0, 0, c.follow)
	return c
}

// standbyEvery bounds how often a replica that does not lead parses what changed, so that it can take over at once.
const standbyEvery = time.Second

// Run follows the source, and leads when elected, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { c.forward(ctx); return nil })
	g.Go(func() error { return c.warm.Run(ctx) })
	g.Go(func() error { return c.opt.Elect(ctx, c.lead) })
	return g.Wait()
}

func (c *Controller) forward(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.opt.Source.Changed():
		}
		if t := c.leader.Load(); t != nil {
			t.planner.Trigger()
			continue
		}
		c.warm.Trigger()
	}
}

// follow keeps the parsed snapshot and the plan fresh while another replica leads: to take over at once, and to know what became of Services
// that go while nobody leads.
func (c *Controller) follow(context.Context) error {
	if c.leader.Load() == nil {
		_, _ = c.book.plan(c.opt.Source.Snapshot())
	}
	return nil
}

// lead does the work of the leader until ctx ends.
func (c *Controller) lead(ctx context.Context) {
	t := newTerm(c.opt, c.book)
	c.leader.Store(t)
	defer c.leader.Store(nil)
	t.run(ctx)
}

// Leading reports whether this replica leads.
func (c *Controller) Leading() bool { return c.leader.Load() != nil }
