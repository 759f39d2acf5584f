package decide

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// poolIndex finds the pools of an address. Pools that overlap are refused before they come here; should two do so all the same, both count.
type poolIndex struct {
	spans []span       // sorted by first address
	reach []netip.Addr // by span: the highest last address of the spans up to it
}

type span struct {
	config.Range
	pool int32
}

func newPoolIndex(pools []*config.Pool) poolIndex {
	var x poolIndex
	for i, p := range pools {
		for _, r := range p.Ranges {
			x.spans = append(x.spans, span{r, int32(i)})
		}
	}
	slices.SortFunc(x.spans, func(a, b span) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.pool, b.pool)) })
	for i, s := range x.spans {
		top := s.To
		if i > 0 && x.reach[i-1].Compare(top) > 0 {
			top = x.reach[i-1]
		}
		x.reach = append(x.reach, top)
	}
	return x
}

// find appends the pools that contain the address.
func (x poolIndex) find(a netip.Addr, to []int32) []int32 {
	i, _ := slices.BinarySearchFunc(x.spans, a, func(s span, a netip.Addr) int {
		if s.From.Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	for i--; i >= 0 && x.reach[i].Compare(a) >= 0; i-- {
		if x.spans[i].Contains(a) && !slices.Contains(to, x.spans[i].pool) {
			to = append(to, x.spans[i].pool)
		}
	}
	return to
}

// subnetTable numbers the subnets of all members, to tell which addresses are alike.
type subnetTable struct {
	ids     map[netip.Prefix]int32
	v4, v6  []int // prefix lengths in use, in order of appearance
	scratch []int32
}

func (t *subnetTable) add(subnets []netip.Prefix) {
	if t.ids == nil {
		t.ids = map[netip.Prefix]int32{}
	}
	for _, p := range subnets {
		p = p.Masked()
		if _, ok := t.ids[p]; ok || !p.IsValid() {
			continue
		}
		t.ids[p] = int32(len(t.ids))
		lengths := &t.v6
		if p.Addr().Is4() {
			lengths = &t.v4
		}
		if !slices.Contains(*lengths, p.Bits()) {
			*lengths = append(*lengths, p.Bits())
		}
	}
}

// appendKey appends the numbers of the subnets that contain the address.
func (t *subnetTable) appendKey(key []byte, a netip.Addr) []byte {
	lengths := t.v6
	if a.Is4() {
		lengths = t.v4
	}
	t.scratch = t.scratch[:0]
	for _, n := range lengths {
		p, err := a.Prefix(n)
		if err != nil {
			continue // the length fits the family by construction
		}
		if id, ok := t.ids[p]; ok {
			t.scratch = append(t.scratch, id)
		}
	}
	return appendIDs(key, t.scratch)
}
