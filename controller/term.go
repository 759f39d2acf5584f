package controller

import (
	"context"
	"errors"
	"fmt"
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
	poolsRetry    = time.Second // looks whether pools that went stay away
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

	book *book

	// Owned by the planner's goroutine.
	due     []*ipam.Outcome          // of the last plan
	waiting map[string]time.Time     // by UID: since when a Service is known to need a write
	kept    map[config.Key]*keepTask // what is left of Services that are gone
}

func newTerm(opt Options, b *book) *term {
	t := &term{opt: opt, log: opt.Log, book: b, desk: newDesk(writers, lowWriters, opt.Log), waiting: make(map[string]time.Time)}
	t.planner = pace.New(planEvery, poolsRetry, 0, t.plan)
	t.desk.stale = t.planner.Trigger
	o := &objects{source: opt.Source, writer: opt.Writer, log: opt.Log, metrics: opt.Metrics}
	t.objects = pace.New(objectsEvery, objectsRetry, 0, o.write)
	t.key = pace.New(0, keyRetry, keyEvery, t.ensureKey)
	t.announce = newAnnouncer(opt, t.desk)
	return t
}

func (t *term) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	t.opt.Metrics.lead(&reign{desk: t.desk, ignoreExcludeLB: t.opt.IgnoreExcludeLB, drainOnCordon: t.opt.DrainOnCordon})
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
	began, measured := time.Now(), t.opt.Metrics.stage(stagePlan)
	in := t.opt.Source.Snapshot()
	plan, again := t.book.plan(in)
	if plan == nil {
		return nil
	}
	put, drop := t.differences(plan.Due, began)
	t.desk.update(put, drop)
	t.desk.set(keeping, t.keep(in, plan))
	t.opt.Metrics.publish(in, plan)
	measured()
	t.announce.wake()
	t.objects.Trigger()
	t.rest(ctx, time.Since(began))
	if again {
		return errUnsettled
	}
	return nil
}

// errUnsettled asks for another plan though nothing changes.
var errUnsettled = errors.New("pools are missing that may yet come")

func (t *term) rest(ctx context.Context, took time.Duration) {
	if wait := min(planRest*took, planRestMax); wait > planEvery {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// differences returns the writes to Services that are due now and were not, or not in this form, and those that are due no more.
func (t *term) differences(due []*ipam.Outcome, now time.Time) (put []*task, drop []config.Key) {
	var gone []*ipam.Outcome
	was := t.due
	t.due = due
	for len(was) > 0 || len(due) > 0 {
		order := compareHeads(was, due)
		if order == 0 && was[0] == due[0] {
			was, due = was[1:], due[1:]
			continue
		}
		if order < 0 {
			gone = append(gone, was[0])
		}
		if order <= 0 {
			was = was[1:]
		}
		if order >= 0 {
			put = append(put, t.task(due[0], now))
			due = due[1:]
		}
	}
	kept := make(map[config.Key]bool, len(put))
	for _, p := range put {
		kept[p.key] = true
	}
	for _, o := range gone {
		if !kept[o.Service.Key] { // else it only has another rank
			drop = append(drop, o.Service.Key)
			delete(t.waiting, o.Service.UID)
		}
	}
	return put, drop
}

// compareHeads says which of two sorted lists goes on with the outcome that comes first.
func compareHeads(a, b []*ipam.Outcome) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	case a[0] == b[0]:
		return 0
	}
	return a[0].Compare(b[0])
}

func (t *term) task(o *ipam.Outcome, now time.Time) *task {
	since, known := t.waiting[o.Service.UID]
	if !known {
		since = now
		t.waiting[o.Service.UID] = now
	}
	return &task{o.Service.Key, func(ctx context.Context) error { return t.write(ctx, o, since) }}
}

// keepTask is a task with what it is for.
type keepTask struct {
	what string
	task *task
}

// keep returns the writes for Services that are gone: addresses to be kept for their return, IPReservations that are of no use any more, and
// statuses of those that are not ours any more. A write that was due before is the same task.
func (t *term) keep(in *config.Snapshot, plan *ipam.Plan) []*task {
	var tasks []*task
	next := make(map[config.Key]*keepTask)
	add := func(key config.Key, what string, do func(context.Context) error) {
		k := t.kept[key]
		if k == nil || k.what != what {
			k = &keepTask{what, &task{key, do}}
		}
		next[key] = k
		tasks = append(tasks, k.task)
	}
	for _, r := range in.Released {
		add(r.Key, fmt.Sprint("release ", r.UID, r.Ingress), func(ctx context.Context) error { return t.release(ctx, r) })
	}
	for _, r := range plan.Retain {
		add(keeperOf(r.Service), fmt.Sprint("keep ", r.Addresses, r.Until), func(ctx context.Context) error { return t.retain(ctx, r) })
	}
	for _, r := range plan.Discard {
		add(keeperOf(r.Service), "discard "+r.UID, func(ctx context.Context) error { return t.discard(ctx, r) })
	}
	t.kept = next
	return tasks
}

// keeperOf is the key under which writes to the IPReservation for a Service are queued; no Service has it.
func keeperOf(service config.Key) config.Key { return config.Key{Name: service.String()} }

// retain keeps the addresses of a Service that went.
func (t *term) retain(ctx context.Context, r ipam.Retention) error {
	if err := t.opt.Writer.Retain(ctx, kube.Retention(r)); err != nil {
		return err
	}
	t.log.Info("addresses kept", "service", r.Service.String(), "addresses", addrText(r.Addresses), "until", r.Until)
	return nil
}

// discard deletes what was kept.
func (t *term) discard(ctx context.Context, r *config.Reservation) error {
	err := t.opt.Writer.DeleteReservation(ctx, r.Name, r.UID)
	if err != nil && !kube.IsNotFound(err) {
		return err
	}
	t.log.Info("addresses no longer kept", "service", r.Service.String(), "addresses", addrText(r.Addresses), "expired", r.Expired)
	return nil
}

// write writes the status of one Service, and tells of the transition.
func (t *term) write(ctx context.Context, o *ipam.Outcome, since time.Time) error {
	s := o.Service
	status := kube.ServiceStatus{Key: s.Key, UID: s.UID, Version: s.Version, Allocated: &o.Allocated}
	if !o.Keep {
		addrs := slices.Clone(o.Addresses)
		status.Ingress = &addrs
	}
	if !o.Keep && outdated(s, o.Addresses) {
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

// outdated reports whether what stands of a Service's announcement is not to stand beside other addresses. That it is announced is not known of one
// that it did not have, and speakers that take an address look for another user of it unless it is said to be announced.
func outdated(s *config.Service, next []netip.Addr) bool {
	if len(next) == 0 {
		return s.Announced.Status != ""
	}
	return s.Announced.Status == "True" && slices.ContainsFunc(next, func(a netip.Addr) bool { return !slices.Contains(s.Ingress, a) })
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
