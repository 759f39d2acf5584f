// Package ipam assigns addresses from pools to Services. It is pure: a snapshot in, a plan out, no clock, no I/O, no map order. The ledger
// of what is assigned is the status of the Services themselves, so a restart forgets nothing.
//
// A plan is made in three passes over the Services, each from the oldest to the youngest:
//
//  1. What a Service's status holds and may keep, it keeps. So nothing valid ever moves, and of two that hold one address the older stays.
//  2. What an earlier plan gave and the API server does not show yet stands, so that a plan made meanwhile does not choose anew.
//  3. What is missing is assigned: first the addresses asked for by name, then any free ones.
//
// An address that a Service must give up is not given to another one by the same plan, but once the status no longer shows it.
//
// Neither time nor memory depend on the size of a pool: the search for a free address walks over addresses in use only.
package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// Plan says what each Service should hold, and how full the pools are when it does.
type Plan struct {
	Services []Outcome                    // sorted by key
	Pools    map[string]config.PoolStatus // every pool in force, by name
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
	Addr netip.Addr
	Why  string // for a person
}

// Memory is what one plan hands to the next. It makes nothing true that is not in the snapshot: a plan made with an empty Memory is
// right too, it may only choose other free addresses. Never changed after it was returned.
type Memory struct {
	given map[string][]netip.Addr // by UID: addresses given that the status did not show yet
	used  map[netip.Addr]int32    // every address somebody held
	freed []netip.Addr            // given back, the longest ago first
}

// maxFreed bounds how many freed addresses are remembered, to be given out last.
const maxFreed = 1 << 16

// Compute makes the plan for a snapshot. The Memory is that of the plan made before, or empty.
func Compute(in *config.Snapshot, last Memory) (Plan, Memory) {
	p := newPlanner(in, last)
	p.adopt()
	p.remember()
	p.assign()
	return p.plan(), p.memory()
}

// planner is the state of one computation.
type planner struct {
	pools  []*pool // by name
	byName map[string]*pool
	index  []span // the ranges of all pools, sorted
	nodes  map[netip.Addr]string
	unsure string // a pool that exists but is left out, so that an address in no pool may be its; "" = there is none
	claims []*claim
	ledger ledger
	last   Memory
	recent map[netip.Addr]struct{} // last.freed
	walks  map[walkKey]refusal     // refusals of automatic assignment that hold for all
}

// claim is one Service in the course of a plan.
type claim struct {
	id       int32 // index in planner.claims, which is by age
	svc      *config.Service
	families []config.Family // what it wants
	invalid  refusal         // the request cannot be understood or met at all
	have     [2]held         // by familyIndex
	refused  [2]refusal      // by familyIndex: why an address is missing
	released []Release
	ours     bool // the status holds an address of one of the pools
}

// held is an address with the pool it comes from; a nil pool is one that is left out for the time being.
type held struct {
	addr netip.Addr
	pool *pool
}

func newPlanner(in *config.Snapshot, last Memory) *planner {
	p := &planner{
		byName: make(map[string]*pool, len(in.Pools)),
		nodes:  make(map[netip.Addr]string, 2*len(in.Nodes)),
		claims: make([]*claim, len(in.Services)),
		ledger: newLedger(len(in.Services)),
		last:   last,
		recent: make(map[netip.Addr]struct{}, len(last.freed)),
		walks:  make(map[walkKey]refusal),
	}
	for _, a := range last.freed {
		p.recent[a] = struct{}{}
	}
	for _, n := range in.Nodes {
		for _, a := range n.Addresses {
			if other, ok := p.nodes[a]; !ok || n.Name < other {
				p.nodes[a] = n.Name
			}
		}
	}
	p.addPools(in.Pools)
	for _, problem := range in.Problems {
		if problem.Kind == "IPAddressPool" && !problem.Warning && !problem.LastGood && p.byName[problem.Name] == nil {
			p.unsure = problem.Name
		}
	}
	services := slices.Clone(in.Services)
	slices.SortFunc(services, older)
	backing := make([]claim, len(services))
	for i, s := range services {
		backing[i] = claim{id: int32(i), svc: s, families: wanted(s)}
		backing[i].invalid = contradiction(&backing[i])
		p.claims[i] = &backing[i]
	}
	return p
}

// older orders Services by seniority: creation, then key.
func older(a, b *config.Service) int {
	return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key), strings.Compare(a.UID, b.UID))
}

// wanted returns the families a Service wants an address of.
func wanted(s *config.Service) []config.Family {
	if s.FamilyPolicy == config.SingleStack && len(s.Families) > 1 {
		return s.Families[:1]
	}
	return s.Families
}

// familyIndex is the place of a family in per-family arrays.
func familyIndex(f config.Family) int {
	if f == config.IPv4 {
		return 0
	}
	return 1
}

// plan puts the outcomes together.
func (p *planner) plan() Plan {
	out := Plan{Services: make([]Outcome, len(p.claims)), Pools: make(map[string]config.PoolStatus, len(p.pools))}
	for i, c := range p.claims {
		out.Services[i] = c.outcome()
	}
	slices.SortFunc(out.Services, func(a, b Outcome) int { return a.Service.Key.Compare(b.Service.Key) })
	for _, pool := range p.pools {
		out.Pools[pool.Name] = pool.status()
	}
	return out
}

// memory returns what the next plan should know.
func (p *planner) memory() Memory {
	m := Memory{given: make(map[string][]netip.Addr), used: p.ledger.holders}
	for _, c := range p.claims {
		for _, h := range c.have {
			if h.addr.IsValid() && !slices.Contains(c.svc.Ingress, h.addr) {
				m.given[c.svc.UID] = append(m.given[c.svc.UID], h.addr)
			}
		}
	}
	m.freed = p.freed()
	return m
}

// freed returns the addresses to give out last: those freed before that are still free and in a pool, then those freed since.
func (p *planner) freed() []netip.Addr {
	var gone []netip.Addr
	for a := range p.last.used {
		if _, ok := p.ledger.holders[a]; !ok {
			gone = append(gone, a)
		}
	}
	slices.SortFunc(gone, netip.Addr.Compare)
	var out []netip.Addr
	for _, a := range slices.Concat(p.last.freed, gone) {
		if _, ok := p.ledger.holders[a]; !ok && p.poolOf(a) != nil {
			out = append(out, a)
		}
	}
	return out[max(0, len(out)-maxFreed):]
}
