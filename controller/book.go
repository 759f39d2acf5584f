package controller

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/controller/ipam"
)

// poolGrace is for how long a pool must have been away before addresses are taken from Services for that. An uninstall deletes the pools
// of the release first and ends this process a moment later, which must not cost the Services their addresses; and a pool that is made anew, under
// its own name or another, finds them where they were.
const poolGrace = 10 * time.Second

// book is the Planner of this replica, whether it leads or not. It knows which pools went a moment ago.
type book struct {
	mu      sync.Mutex
	planner *ipam.Planner
	began   time.Time
	pools   []*config.Pool // of the last snapshot
	gone    map[string]*vanished
}

// vanished is a pool that is not there any more.
type vanished struct {
	pool  *config.Pool
	since time.Time
}

func newBook() *book { return &book{planner: ipam.NewPlanner(), gone: make(map[string]*vanished)} }

// plan makes a plan; nil before everything has been listed: absence means nothing yet, and an address that seems free may be held. again
// says that the next plan may be another though nothing changes: pools are missing that may yet come.
func (b *book) plan(in *config.Snapshot) (plan *ipam.Plan, again bool) {
	if in == nil || !in.Synced {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.began.IsZero() {
		b.began = now
	}
	b.planner.Unsure = now.Sub(b.began) < poolGrace
	in = b.awaited(in, now)
	return b.planner.Plan(in, now), len(b.gone) > 0 || b.planner.Unsure
}

// awaited returns the snapshot with the pools that went a moment ago; they give nothing any more.
func (b *book) awaited(in *config.Snapshot, now time.Time) *config.Snapshot {
	for _, p := range b.pools {
		if b.gone[p.Name] == nil {
			b.gone[p.Name] = &vanished{vanish(p), now}
		}
	}
	b.pools = in.Pools
	for name, v := range b.gone {
		if now.Sub(v.since) >= poolGrace || superseded(v.pool, in) {
			delete(b.gone, name)
		}
	}
	if len(b.gone) == 0 {
		return in
	}
	out := *in
	out.Pools = slices.Clone(in.Pools)
	for _, name := range slices.Sorted(maps.Keys(b.gone)) {
		out.Pools = append(out.Pools, b.gone[name].pool)
	}
	return &out
}

// vanish returns what is left of a pool that was deleted: those who have its addresses.
func vanish(p *config.Pool) *config.Pool {
	out := *p
	out.Gone, out.Scoped, out.RetainFor = true, false, 0
	return &out
}

// superseded reports whether a pool is back, or was not deleted but left out, or others have its addresses now.
func superseded(p *config.Pool, in *config.Snapshot) bool {
	return slices.ContainsFunc(in.Pools, func(o *config.Pool) bool { return o.Name == p.Name || overlap(o.Ranges, p.Ranges) }) ||
		slices.ContainsFunc(in.Problems, func(x config.Problem) bool { return x.Kind == parse.KindPool && x.Name == p.Name })
}

func overlap(a, b []config.Range) bool {
	for _, x := range a {
		for _, y := range b {
			if x.From.BitLen() == y.From.BitLen() && x.From.Compare(y.To) <= 0 && y.From.Compare(x.To) <= 0 {
				return true
			}
		}
	}
	return false
}
