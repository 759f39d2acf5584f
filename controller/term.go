package controller

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/pace"
	"github.com/heraldlb/herald/controller/ipam"
)

// Pace and width of the leader's work.
const (
	planEvery     = 5 * time.Millisecond
	planRest      = 2                      // times as long as a plan took: leave the machine to those who are asked for addresses
	planRestMax   = 250 * time.Millisecond // but no longer than this
	writers       = 32                     // requests under way, see desk
	lowWriters    = 4
	keyEvery      = 15 * time.Second // looks for the gossip key
	keyRetry      = time.Second
	objectsEvery  = time.Second // counts and conditions of config objects
	objectsRetry  = 2 * time.Second
	releaseReason = "the Service is no longer of type LoadBalancer and of the class that Herald serves"
)

// term is one time of leading. What it knows beyond the API server's objects it may forget.
type term struct {
	opt      Options
	log      *slog.Logger
	planner  *pace.Pacer
	objects  *pace.Pacer
	key      *pace.Pacer
	desk     *desk
	announce *announcer

	// Owned by the planner's goroutine.
	memory  ipam.Memory
	waiting map[string]time.Time // by UID: since when a Service is known to need an address
}

func newTerm(opt Options) *term {
	t := &term{opt: opt, log: opt.Log, desk: newDesk(writers, lowWriters, opt.Log), waiting: make(map[string]time.Time)}
	t.planner = pace.New(planEvery, 0, 0, t.plan)
	o := &objects{source: opt.Source, writer: opt.Writer, log: opt.Log, metrics: opt.Metrics}
	t.objects = pace.New(objectsEvery, objectsRetry, 0, o.write)
	t.key = pace.New(0, keyRetry, keyEvery, t.ensureKey)
	t.announce = newAnnouncer(opt, t.desk)
	return t
}

func (t *term) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer t.opt.Metrics.forget()
	for _, p := range []*pace.Pacer{t.planner, t.objects, t.key} {
		p.Trigger()
		wg.Go(func() { _ = p.Run(ctx) }) // returns nil only
	}
	wg.Go(func() { t.desk.run(ctx) })
	wg.Go(func() { t.announce.run(ctx) })
	<-ctx.Done()
}

// plan makes a plan and says which writes are due.
func (t *term) plan(ctx context.Context) error {
	began := time.Now()
	in := t.opt.Source.Snapshot()
	if in == nil || !in.Synced {
		return nil // absence means nothing yet: an address that seems free may be held
	}
	var plan ipam.Plan
	plan, t.memory = ipam.Compute(in, t.memory)
	t.desk.set(assigning, t.due(in, plan, began))
	t.opt.Metrics.publish(in, plan)
	t.announce.wake()
	t.objects.Trigger()
	t.rest(ctx, time.Since(began))
	return nil
}

func (t *term) rest(ctx context.Context, took time.Duration) {
	if wait := min(planRest*took, planRestMax); wait > planEvery {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// due returns the writes that bring the API server from the snapshot to the plan.
func (t *term) due(in *config.Snapshot, plan ipam.Plan, now time.Time) []*task {
	var tasks []*task
	waiting := make(map[string]time.Time)
	for i := range plan.Services {
		o := &plan.Services[i]
		if !o.Changed {
			continue
		}
		since, known := t.waiting[o.Service.UID]
		if !known {
			since = now
		}
		waiting[o.Service.UID] = since
		tasks = append(tasks, &task{o.Service.Key, func(ctx context.Context) error { return t.write(ctx, o, since) }})
	}
	t.waiting = waiting
	for _, r := range in.Released {
		tasks = append(tasks, &task{r.Key, func(ctx context.Context) error { return t.release(ctx, r) }})
	}
	return tasks
}

// write writes the status of one Service, and tells of the transition.
func (t *term) write(ctx context.Context, o *ipam.Outcome, since time.Time) error {
	s := o.Service
	status := kube.ServiceStatus{Key: s.Key, UID: s.UID, Version: s.Version, Allocated: &o.Allocated}
	if !o.Keep {
		addrs := slices.Clone(o.Addresses)
		status.Ingress = &addrs
	}
	if len(o.Addresses) == 0 && !o.Keep && s.Announced.Status != "" {
		status.Announced = &config.Condition{}
	}
	err := t.opt.Writer.WriteService(ctx, status)
	if kube.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	t.log.Info("status written", "service", s.Key.String(), "addresses", addrText(o.Addresses), "reason", o.Allocated.Reason)
	t.opt.Metrics.wrote(o, time.Since(since))
	for _, e := range o.Events() {
		t.opt.Events.Emit(kube.Event{Service: s.Key, UID: s.UID, Warning: e.Warning, Reason: e.Reason, Action: "Allocate", Note: e.Message})
	}
	return nil
}

// release clears the status of a Service that is not ours any more.
func (t *term) release(ctx context.Context, r config.Released) error {
	if err := t.opt.Writer.ReleaseService(ctx, r); err != nil {
		return err
	}
	t.log.Info("released", "service", r.Key.String(), "addresses", addrText(r.Ingress))
	for _, a := range r.Ingress {
		t.opt.Events.Emit(kube.Event{
			Service: r.Key, UID: r.UID, Reason: ipam.AddressReleased, Action: "Allocate", Note: "released " + a.String() + ": " + releaseReason,
		})
	}
	return nil
}

func (t *term) ensureKey(ctx context.Context) error {
	err := t.opt.EnsureKey(ctx)
	if err != nil && ctx.Err() == nil {
		t.log.Error("the gossip key cannot be made; speakers without it do not talk to each other", "err", err)
	}
	return err
}

func addrText(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
