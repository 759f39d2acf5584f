package controller

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/speaker/decide"
)

// Pace of the Announced conditions.
const (
	announceEvery = 200 * time.Millisecond
	announceRest  = 4                     // times as long as a round took
	announceYield = 50 * time.Millisecond // looks this often whether assignments are through
	announceGrace = 3 * time.Second       // in which a new Service's announcement may begin before it is said that it has not
)

// announcer keeps the Announced conditions true. It gives way to assignments: while Services wait for an address it waits, too.
type announcer struct {
	opt   Options
	desk  *desk
	waked chan struct{} // capacity 1

	// Owned by run.
	owners map[string]map[netip.Addr]string // by UID: who answered for the Service's addresses when the condition was decided last
	since  map[string]time.Time             // by UID: when an announcement was first found pending

	mu    sync.Mutex
	moved map[string][]string // by UID: moves that no event has told of yet
}

func newAnnouncer(opt Options, d *desk) *announcer {
	return &announcer{
		opt: opt, desk: d, waked: make(chan struct{}, 1),
		owners: make(map[string]map[netip.Addr]string), since: make(map[string]time.Time), moved: make(map[string][]string),
	}
}

// wake says that something may have changed.
func (a *announcer) wake() {
	select {
	case a.waked <- struct{}{}:
	default:
	}
}

// run decides and hands over the conditions that differ, until ctx ends.
func (a *announcer) run(ctx context.Context) {
	for {
		began := time.Now()
		again := a.round(began)
		rest := max(announceEvery, announceRest*time.Since(began))
		if !pause(ctx, rest, nil) || !pause(ctx, again, a.waked) {
			return
		}
		for a.desk.waiting(assigning) > 0 {
			if !pause(ctx, announceYield, nil) {
				return
			}
		}
	}
}

// pause waits for a time (0 = for ever) or a signal. It reports false when ctx ended.
func pause(ctx context.Context, d time.Duration, signal <-chan struct{}) bool {
	var timer <-chan time.Time
	if d > 0 {
		timer = time.After(d)
	}
	select {
	case <-ctx.Done():
		return false
	case <-signal:
	case <-timer:
	}
	return ctx.Err() == nil
}

// round decides for all Services. It returns after what time to decide again though nothing changed; 0 = never.
func (a *announcer) round(now time.Time) (again time.Duration) {
	defer a.opt.Metrics.stage(stageAnnounce)()
	in := a.opt.Source.Snapshot()
	if in == nil || !in.Synced {
		return 0
	}
	s := see(decide.Facts{Config: in, IgnoreExcludeLB: a.opt.IgnoreExcludeLB, DrainOnCordon: a.opt.DrainOnCordon})
	owners, since := make(map[string]map[netip.Addr]string, len(a.owners)), make(map[string]time.Time)
	var tasks []*task
	for _, svc := range in.Services {
		if len(svc.Ingress) == 0 || svc.Allocated.Status == "" || svc.Deleting {
			continue // the write that takes the addresses away removes the condition as well
		}
		v := s.judge(svc)
		if v.condition.Status != "True" && (v.pending || svc.Announced.Status == "") {
			first, ok := a.since[svc.UID]
			if !ok {
				first = now
			}
			since[svc.UID] = first
			if left := announceGrace - now.Sub(first); left > 0 {
				if again == 0 || left < again {
					again = left
				}
				owners[svc.UID] = a.owners[svc.UID]
				continue
			}
		}
		moved := moves(a.owners[svc.UID], v.owners)
		owners[svc.UID] = v.owners
		want := v.condition
		want.ObservedGeneration = svc.Announced.ObservedGeneration
		if want != svc.Announced {
			a.remember(svc.UID, moved)
			tasks = append(tasks, &task{svc.Key, func(ctx context.Context) error { return a.write(ctx, svc, want, v.conflicts) }})
		}
	}
	a.forget(owners)
	a.owners, a.since = owners, since
	a.desk.set(announcing, tasks)
	return again
}

// remember keeps moves until the write that tells of them has succeeded, which may be that of a later round.
func (a *announcer) remember(uid string, moved []string) {
	if len(moved) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.moved[uid] = append(a.moved[uid], moved...)
}

// forget drops the moves of Services that are gone.
func (a *announcer) forget(present map[string]map[netip.Addr]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.moved, func(uid string, _ []string) bool { _, ok := present[uid]; return !ok })
}

// untold returns the moves that are to be told of now.
func (a *announcer) untold(uid string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	moved := a.moved[uid]
	delete(a.moved, uid)
	return moved
}

// write writes a condition, and tells of what is new in it: the condition that stands there says what has been told.
func (a *announcer) write(ctx context.Context, svc *config.Service, want config.Condition, conflicts []string) error {
	err := a.opt.Writer.WriteService(ctx, kube.ServiceStatus{Key: svc.Key, UID: svc.UID, Version: svc.Version, Announced: &want})
	if kube.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	a.opt.Log.Debug("announcement", "service", svc.Key.String(), "status", want.Status, "reason", want.Reason, "message", want.Message)
	if slices.ContainsFunc(conflicts, func(c string) bool { return !strings.Contains(svc.Announced.Message, c) }) {
		a.opt.Events.Emit(kube.Event{
			Service: svc.Key, UID: svc.UID, Warning: true, Reason: string(decide.AddressConflict), Action: "Announce", Note: strings.Join(conflicts, "; "),
		})
	}
	if failed(svc.Announced, want) {
		a.opt.Events.Emit(kube.Event{
			Service: svc.Key, UID: svc.UID, Warning: true, Reason: "AnnouncementFailed", Action: "Announce", Note: want.Reason + ": " + want.Message,
		})
	}
	if moved := a.untold(svc.UID); len(moved) > 0 {
		a.opt.Events.Emit(kube.Event{Service: svc.Key, UID: svc.UID, Reason: "AnnouncementMoved", Action: "Announce", Note: strings.Join(moved, "; ")})
	}
	return nil
}

// failed reports whether a condition says something new of why a Service is not announced. That it has no endpoints is no failure of ours, and
// whoever looks at the Service sees it; conflicts are told of by themselves.
func failed(was, is config.Condition) bool {
	switch decide.Reason(is.Reason) {
	case decide.NoAdvertisement, decide.NoEligibleNode, decide.PeersDown:
		return is.Status == "False" && (was.Status != is.Status || was.Reason != is.Reason)
	}
	return false
}
