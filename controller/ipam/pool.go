package ipam

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/config"
)

// pool is a pool with what is taken of it.
type pool struct {
	*config.Pool
	spaces [2]space // by familyIndex
}

// space is the addresses of one family in a pool.
type space struct {
	family config.Family
	total  int64 // that may be given out, saturating
	odd    int64 // that are assigned although they may not be given out (any more)
	count  [classes]int64
	held   map[string]int // by namespace: different addresses held; with a quota only
	fresh  fresh          // never given out, or so long ago that it is forgotten
	freed  queue          // came free
}

// span is a range with its pool.
type span struct {
	config.Range
	pool *pool
}

// buildPools makes the pools of a snapshot, empty, and notes the addresses of others. Which addresses are free is found out by settle.
func (p *Planner) buildPools(in *config.Snapshot) {
	sorted := slices.Clone(in.Pools)
	slices.SortFunc(sorted, func(a, b *config.Pool) int { return strings.Compare(a.Name, b.Name) })
	p.pools, p.index, p.quotas, p.keeping = nil, nil, false, false
	clear(p.byName)
	for _, in := range sorted {
		out := &pool{Pool: in}
		p.quotas = p.quotas || in.NamespaceQuota > 0
		p.keeping = p.keeping || in.RetainFor > 0
		out.spaces[0].family, out.spaces[1].family = config.IPv4, config.IPv6
		for i := range out.spaces {
			out.spaces[i].held = make(map[string]int)
		}
		for _, r := range in.Ranges {
			p.index = append(p.index, span{r, out})
		}
		for _, r := range config.Subtract(in.Ranges, in.Excluded) {
			s := &out.spaces[familyIndex(config.FamilyOf(r.From))]
			s.total = saturatingAdd(s.total, size(r))
			if in.AvoidBuggy && s.family == config.IPv4 {
				s.total -= buggyIn(r)
			}
		}
		p.pools = append(p.pools, out)
		p.byName[in.Name] = out
	}
	slices.SortStableFunc(p.index, func(a, b span) int { return a.From.Compare(b.From) })
	p.markOthers(in)
}

// markOthers notes the addresses of pools that nodes and others have.
func (p *Planner) markOthers(in *config.Snapshot) {
	for _, n := range in.Nodes {
		for _, a := range n.Addresses {
			if p.poolOf(a) == nil {
				continue
			}
			if s := p.at(a); s.node == "" || n.Name < s.node {
				p.touch(s)
				s.node = n.Name
			}
		}
	}
	for _, f := range in.Foreign {
		if p.poolOf(f.Addr) == nil {
			continue
		}
		if s := p.at(f.Addr); s.foreign == "" || f.Owner < s.foreign {
			p.touch(s)
			s.foreign = f.Owner
		}
	}
}

// poolOf returns the pool that contains the address, or nil. Pools in force do not overlap.
func (p *Planner) poolOf(a netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(p.index, a, func(s span, a netip.Addr) int { return s.From.Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !p.index[i].Contains(a) {
		return nil
	}
	return p.index[i].pool
}

// excludes reports whether an address of the pool is excluded.
func (p *pool) excludes(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(p.Excluded, a, func(r config.Range, a netip.Addr) int { return r.From.Compare(a) })
	return found || i > 0 && p.Excluded[i-1].Contains(a)
}

// gives reports whether an address of the pool may be given out at all.
func (p *pool) gives(a netip.Addr) bool {
	return !p.excludes(a) && (!p.AvoidBuggy || !buggy(a))
}

// buggy reports whether an address is one that old devices take for that of a network or for a broadcast.
func buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}

// buggyIn counts such addresses in a range of IPv4.
func buggyIn(r config.Range) int64 {
	upTo := func(a netip.Addr, more int64) int64 { // in the addresses below
		b := a.As4()
		n := (int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])) + more
		return n/256*2 + min(n%256, 1)
	}
	return upTo(r.To, 1) - upTo(r.From, 0)
}

// next returns the address to give out next. It takes nothing.
func (s *space) next(p *pool) (netip.Addr, bool) {
	if a, ok := s.fresh.first(p); ok {
		return a, true
	}
	return s.freed.first()
}

// exhausted reports whether there is nothing left to give out.
func (s *space) exhausted(p *pool) bool {
	_, ok := s.next(p)
	return !ok
}

// note is what a space says of itself when it has nothing left to give out.
type note struct {
	exhausted bool
	total     int64
	kinds     [classes]bool
}

func (s *space) note(p *pool) note {
	if !s.exhausted(p) {
		return note{}
	}
	n := note{exhausted: true, total: saturatingAdd(s.total, s.odd)}
	for c := range classes {
		n.kinds[c] = s.count[c] > 0
	}
	return n
}

// text says what became of all the addresses: 4 of 4 IPv4 assigned.
func (n note) text(f config.Family) string {
	var what []string
	for c, word := range map[class]string{assigned: "assigned", reserved: "reserved", barred: "held by nodes", elsewhere: "held by others"} {
		if n.kinds[c] {
			what = append(what, word)
		}
	}
	slices.Sort(what)
	if len(what) == 0 {
		return "no " + f.String() + " addresses left"
	}
	total := strconv.FormatInt(n.total, 10)
	return total + " of " + total + " " + f.String() + " " + strings.Join(what, " or ")
}

func (p *pool) status() config.PoolStatus {
	return config.PoolStatus{IPv4: p.spaces[0].status(), IPv6: p.spaces[1].status()}
}

func (s *space) status() config.PoolCounts {
	total := saturatingAdd(s.total, s.odd)
	return config.PoolCounts{
		Total: total, Assigned: s.count[assigned], Reserved: s.count[reserved],
		Available: total - s.count[assigned] - s.count[reserved] - s.count[barred] - s.count[elsewhere],
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
