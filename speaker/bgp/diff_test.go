package bgp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

// cutAtRandom cuts a list into pages, none of them empty.
func cutAtRandom[T any](r *rand.Rand, list []T) (pages [][]T) {
	for len(list) > 0 {
		n := 1 + r.IntN(min(9, len(list)))
		pages, list = append(pages, list[:n:n]), list[n:]
	}
	return pages
}

// TestDiff checks on random tables that the difference leads from the one to the other, says nothing that is known already, and
// puts no prefix in two places.
func TestDiff(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := func() Table {
		var out []Entry
		for i := range 40 {
			if r.IntN(2) == 0 {
				continue
			}
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
			if i >= 20 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), 128)
			}
			out = append(out, Entry{p, Attributes{
				NextHop: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(3))}), Communities: config.CommunitiesOf(config.Standard(uint32(r.IntN(2)))),
			}})
		}
		return cutAtRandom(r, out)
	}
	index := func(t Table) map[netip.Prefix]Attributes {
		out := map[netip.Prefix]Attributes{}
		for _, e := range slices.Concat(t...) {
			out[e.Prefix] = e.Attributes
		}
		return out
	}
	sent := table()
	for range 500 {
		want := table()
		peer := index(sent)
		announce, withdraw := Diff(sent, want)
		for _, g := range announce {
			for i, p := range g.Prefixes {
				if old, ok := peer[p]; ok && old == g.Attributes {
					t.Fatalf("%s announced though the peer knows it", p)
				}
				if p.Addr().Is4() != g.Prefixes[0].Addr().Is4() {
					t.Fatalf("families mixed in one group: %v", g.Prefixes)
				}
				if i > 0 && comparePrefix(g.Prefixes[i-1], p) >= 0 {
					t.Fatalf("group not sorted: %v", g.Prefixes)
				}
				peer[p] = g.Attributes
			}
		}
		for i, p := range withdraw {
			if _, ok := index(want)[p]; ok {
				t.Fatalf("%s withdrawn though wanted", p)
			}
			if i > 0 && comparePrefix(withdraw[i-1], p) >= 0 {
				t.Fatalf("withdrawals not sorted: %v", withdraw)
			}
			delete(peer, p)
		}
		if diff := cmp.Diff(index(want), peer, compareValues, comparePrefixes); diff != "" {
			t.Fatalf("the peer's table afterwards (-want +got):\n%s", diff)
		}
		sent = want
	}
	if announce, withdraw := Diff(sent, sent); announce != nil || withdraw != nil {
		t.Errorf("difference of equal tables: %v, %v", announce, withdraw)
	}
}
