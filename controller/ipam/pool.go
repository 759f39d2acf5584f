package ipam

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// pool is a pool in the course of a plan.
type pool struct {
	*config.Pool
	total    [2]int64 // by familyIndex, saturating
	assigned [2]int64
	barred   [2]int64 // addresses never given out although they are in a range: those of nodes
	search   [2]search
}

// search remembers how far the search for a free address has come. Within one plan addresses are only ever taken, so it never needs to
// go back: all plans together walk each address in use once.
type search struct {
	started bool
	next    netip.Addr   // where to go on; invalid when the ranges are through
	at      int          // the range next is in
	freed   []netip.Addr // then these, recently given back, the longest ago first
	sorted  bool         // freed is filled
}

// span is a range with its pool.
type span struct {
	config.Range
	pool *pool
}

func (p *planner) addPools(pools []*config.Pool) {
	sorted := slices.Clone(pools)
	slices.SortFunc(sorted, func(a, b *config.Pool) int { return strings.Compare(a.Name, b.Name) })
	for _, in := range sorted {
		out := &pool{Pool: in}
		for _, r := range in.Ranges {
			f := familyIndex(config.FamilyOf(r.From))
			out.total[f] = saturatingAdd(out.total[f], size(r))
			p.index = append(p.index, span{r, out})
		}
		p.pools = append(p.pools, out)
		p.byName[in.Name] = out
	}
	slices.SortStableFunc(p.index, func(a, b span) int { return a.From.Compare(b.From) })
	for a := range p.nodes {
		if in := p.poolOf(a); in != nil {
			in.barred[familyIndex(config.FamilyOf(a))]++
		}
	}
}

// poolOf returns the pool that contains the address, or nil. Pools in force do not overlap.
func (p *planner) poolOf(a netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(p.index, a, func(s span, a netip.Addr) int { return s.From.Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !p.index[i].Contains(a) {
		return nil
	}
	return p.index[i].pool
}

// find returns a free address of the pool. It takes nothing: asked again, it returns the same address unless that was taken meanwhile.
func (p *planner) find(in *pool, f config.Family) (netip.Addr, bool) {
	s := &in.search[familyIndex(f)]
	if !s.started {
		s.started = true
		s.at = -1
		s.advance(in, f)
	}
	for s.next.IsValid() {
		if p.fresh(s.next) {
			return s.next, true
		}
		if s.next == in.Ranges[s.at].To {
			s.advance(in, f)
		} else {
			s.next = s.next.Next()
		}
	}
	return p.findFreed(in, s, f)
}

// advance goes to the begin of the next range of the family.
func (s *search) advance(in *pool, f config.Family) {
	for s.at++; s.at < len(in.Ranges); s.at++ {
		if from := in.Ranges[s.at].From; config.FamilyOf(from) == f {
			s.next = from
			return
		}
	}
	s.next = netip.Addr{}
}

// findFreed returns the address of the pool that was given back the longest ago.
func (p *planner) findFreed(in *pool, s *search, f config.Family) (netip.Addr, bool) {
	if !s.sorted {
		s.sorted = true
		for _, a := range p.last.freed {
			if config.FamilyOf(a) == f && in.Contains(a) {
				s.freed = append(s.freed, a)
			}
		}
	}
	for len(s.freed) > 0 {
		if a := s.freed[0]; p.usable(a) {
			return a, true
		}
		s.freed = s.freed[1:]
	}
	return netip.Addr{}, false
}

// fresh reports whether the address may be given to a Service that asks for none in particular, before any that was given back.
func (p *planner) fresh(a netip.Addr) bool {
	_, freed := p.recent[a]
	return !freed && p.usable(a)
}

// usable reports whether the address may be given to anybody.
func (p *planner) usable(a netip.Addr) bool {
	_, node := p.nodes[a]
	return !node && p.ledger.free(a)
}

func (p *pool) status() config.PoolStatus {
	return config.PoolStatus{IPv4: p.counts(0), IPv6: p.counts(1)}
}

func (p *pool) counts(f int) config.PoolCounts {
	return config.PoolCounts{
		Total:     p.total[f],
		Assigned:  p.assigned[f],
		Available: max(0, p.total[f]-p.assigned[f]-p.barred[f]),
	}
}

// size returns the number of addresses in a range, saturating at math.MaxInt64.
func size(r config.Range) int64 {
	from, to := r.From.As16(), r.To.As16()
	fromHigh, fromLow := halves(from)
	toHigh, toLow := halves(to)
	low, borrow := bits.Sub64(toLow, fromLow, 0)
	high, _ := bits.Sub64(toHigh, fromHigh, borrow)
	if high != 0 || low >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low) + 1
}

func halves(a [16]byte) (high, low uint64) {
	for i := range 8 {
		high = high<<8 | uint64(a[i])
		low = low<<8 | uint64(a[i+8])
	}
	return high, low
}

func saturatingAdd(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
