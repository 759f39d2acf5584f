// Package ipam assigns addresses from pools to Services. It is pure: a snapshot and the time in, a plan out, no clock, no I/O, no map order.
// The ledger of what is assigned is the status of the Services themselves, with the IPReservations, so a restart forgets nothing that counts.
//
// A plan comes about in three passes over the Services, each from the oldest to the youngest:
//
//  1. What a Service's status holds and may keep, it keeps. So nothing valid ever moves, and of two that cannot hold one address together
//     the older stays, unless it was the older that stopped fitting the other.
//  2. What an earlier plan gave and the status does not show (yet) stands, so that a plan made meanwhile does not choose anew.
//  3. What is missing is assigned: first the addresses asked for by name, then any free ones. Then it is said of each Service that still
//     lacks an address what stands in the way, as things are at the end of the plan, so that an equal snapshot gives an equal plan.
//
// An address that a Service must give up is not given to another one before the status no longer shows it. An address that comes free is
// given out last, after all that were never used and those that came free before.
//
// A Planner remembers its last plan and does again only what a change can reach: the Services that changed, those they share addresses with,
// and those that wait for something that came free. When the pools, the nodes or the addresses of others change
// it begins anew. Neither time nor memory depend on the
// size of a pool.
package ipam

import (
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
)

// Plan says what each Service should hold, and how full the pools are when it does. It is never changed after it was returned.
type Plan struct {
	Services []*Outcome                   // sorted by key; an outcome that is still the same is the same pointer as in the plan before
	Due      []*Outcome                   // those whose status must be written: the oldest Service first, Services that ask for addresses by name before others
	Pools    map[string]config.PoolStatus // every pool in force, by name
	Retain   []Retention                  // to be kept as IPReservations; repeated until the snapshot shows them
	Discard  []*config.Reservation        // kept earlier, and not needed any more
}

// Outcome is what one Service should hold, and why.
type Outcome struct {
	Service   *config.Service // as it was read
	Addresses []netip.Addr    // in the order of the Service's families
	Pools     []string        // of each address; "" for an address whose pool is left out for the time being
	Keep      bool            // leave the addresses in the status as they are, whatever they are
	Allocated config.Condition
	Released  []Release // what the status holds and must give up
	Changed   bool      // the status must be written
}

// Release is an address that a Service must give up.
type Release struct {
	Addr  netip.Addr
	Why   string // for a person
	Asked bool   // the user asked for it
}

// Retention keeps the addresses of a Service that went, for one of the same name.
type Retention struct {
	Service   config.Key
	Addresses []netip.Addr // IPv4 first
	Until     time.Time
}

// maxFreed bounds how many freed addresses of a pool and family are remembered, to be given out last.
const maxFreed = 1 << 16

// Compute makes the plan for a snapshot, without any memory. The Services need not be sorted.
func Compute(in *config.Snapshot, now time.Time) *Plan {
	sorted := *in
	sorted.Services = slices.SortedFunc(slices.Values(in.Services), func(a, b *config.Service) int { return a.Key.Compare(b.Key) })
	return NewPlanner().Plan(&sorted, now)
}

// Planner makes one plan after another. What it remembers makes nothing true that is not in the snapshot: a new Planner is right too, it
// may only choose other free addresses. It belongs to one goroutine.
type Planner struct {
	// Unsure says that pools may exist which the snapshots do not show: a Service keeps an address that is in none of them.
	Unsure bool

	limit int // of freed addresses

	// The input of the last plan.
	services     []*config.Service
	inputPools   []*config.Pool
	nodes        []*config.Node
	foreign      []config.Foreign
	reservations []*config.Reservation
	unsure       bool // a pool may exist that is not in force, so that an address in no pool may be its

	claims   map[config.Key]*claim
	outcomes []*Outcome // in the order of services
	pending  []*claim   // lack an address; by seniority
	due      []*claim   // have an outcome to be written; by seniority
	pools    []*pool    // by name
	byName   map[string]*pool
	index    []span // the ranges of all pools, sorted
	slots    map[netip.Addr]*slot
	sharers  map[string][]netip.Addr     // by sharing key: addresses held with it, sorted
	quotas   bool                        // some pool has one
	keeping  bool                        // some pool keeps addresses of Services that go
	booked   map[netip.Addr]*booking     // reservations in force, by address
	reserved map[config.Key][]netip.Addr // the same by Service, sorted
	retained map[config.Key]*Retention
	seq      uint64 // of freed addresses

	change *change // in the course of a plan
}

// NewPlanner returns a Planner that remembers nothing.
func NewPlanner() *Planner {
	return &Planner{
		limit: maxFreed, claims: make(map[config.Key]*claim), byName: make(map[string]*pool), slots: make(map[netip.Addr]*slot),
		sharers: make(map[string][]netip.Addr), reserved: make(map[config.Key][]netip.Addr), retained: make(map[config.Key]*Retention),
	}
}

// Plan makes the next plan. The Services of the snapshot must be sorted by key, and a value that is the same pointer as in the last snapshot
// must be unchanged. The time only matters for Retention.Until.
func (p *Planner) Plan(in *config.Snapshot, now time.Time) *Plan {
	p.change = newChange(now)
	fresh := p.compareConfig(in)
	p.compareServices(in.Services)
	if fresh {
		p.rebuild(in)
	} else {
		p.spread()
		p.retract()
	}
	p.compareReservations(in.Reservations, fresh)
	p.adopt()
	p.remember()
	p.settle(fresh)
	p.assign(fresh)
	p.explain()
	return p.plan(in)
}

// plan puts the results together.
func (p *Planner) plan(in *config.Snapshot) *Plan {
	out := &Plan{
		Services: p.outcomes, Due: make([]*Outcome, len(p.due)), Pools: make(map[string]config.PoolStatus, len(p.pools)),
		Retain: p.retentions(), Discard: p.discards(in.Reservations),
	}
	for i, c := range p.due {
		out.Due[i] = c.outcome
	}
	for _, pool := range p.pools {
		out.Pools[pool.Name] = pool.status()
	}
	p.change = nil
	return out
}
