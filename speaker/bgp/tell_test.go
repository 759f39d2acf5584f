package bgp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

func host(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(n >> 8), byte(n)}), 32)
}

// TestSharedPages: peers that are told the same of a page are told it in the same memory, whether its routes share their lists of peers or not.
func TestSharedPages(t *testing.T) {
	both := []string{"a", "b"}
	route := func(n int, peers ...string) decide.Route { return decide.Route{Prefix: host(n), Peers: peers} }
	for _, tt := range []struct {
		name   string
		page   []decide.Route
		shared bool
		a, b   int // paths
	}{
		{"all", []decide.Route{route(1, both...), route(2, both...), route(3, "a", "b")}, true, 3, 3},
		{"to none of them", []decide.Route{route(1, "c"), route(2, "c")}, false, 0, 0},
		{"to nobody", []decide.Route{route(1), route(2)}, false, 0, 0},
		{"one is for the first only", []decide.Route{route(1, both...), route(2, "a"), route(3, both...)}, false, 3, 2},
		{"the beginning of a list that another shares", []decide.Route{route(1, both...), route(2, both[:1]...)}, false, 2, 1},
	} {
		var s shares
		s.take([][]decide.Route{tt.page})
		a, b := s.paths("a"), s.paths("b")
		if got := [2]int{len(slices.Concat(a...)), len(slices.Concat(b...))}; got != [2]int{tt.a, tt.b} {
			t.Errorf("%s: %v paths, want %d and %d", tt.name, got, tt.a, tt.b)
		}
		if shared := len(a) == 1 && len(b) == 1 && idOf(a[0]) == idOf(b[0]); shared != tt.shared {
			t.Errorf("%s: shared is %v, want %v", tt.name, shared, tt.shared)
		}
	}
}

// changes makes random pages of routes out of others: some stay the same, some are changed, cut, added or gone.
type changes struct{ *rand.Rand }

func (r changes) routes(was [][]decide.Route) (out [][]decide.Route) {
	lists := [][]string{nil, {"a"}, {"b"}, {"a", "b"}, {"a", "b", "c"}}
	var all []decide.Route
	for n := range 120 {
		if r.IntN(3) == 0 {
			continue
		}
		x := decide.Route{Prefix: host(n), Peers: lists[r.IntN(len(lists))]}
		x.Attributes.MED = config.Some(uint32(r.IntN(2)))
		if r.IntN(40) == 0 {
			x.Prefix = netip.PrefixFrom(x.Prefix.Addr(), 26+r.IntN(3)).Masked()
			x.Attributes.Weight = 1
		}
		all = append(all, x)
		for r.IntN(10) == 0 { // another Service of the same address
			all = append(all, x)
		}
	}
	fresh := cutAtRandom(r.Rand, all)
	if len(was) == 0 || r.IntN(10) == 0 {
		return fresh
	}
	for _, page := range was {
		switch r.IntN(12) {
		case 0:
		case 1:
			next := slices.Clone(page)
			next[r.IntN(len(next))].Attributes.MED = config.Some(7)
			out = append(out, next)
		case 2:
			cut := r.IntN(len(page))
			for _, part := range [][]decide.Route{slices.Clone(page[:cut]), slices.Clone(page[cut:])} {
				if len(part) > 0 {
					out = append(out, part)
				}
			}
		default:
			out = append(out, page)
		}
	}
	return out
}

// TestStepByStep changes routes and the session little by little, at random: what was remembered makes no difference to what peers are told,
// to what goes on the wire, nor to what is said of the difference; and what was handed out before is never changed.
func TestStepByStep(t *testing.T) {
	r := changes{rand.New(rand.NewPCG(3, 4))}
	var routes [][]decide.Route
	var s shares
	resolvers, sent := map[string]*Resolver{}, map[string]Table{}
	locals := []Local{
		{Address: netip.MustParseAddr("10.0.0.5"), Families: Families{IPv4: true}},
		{Address: netip.MustParseAddr("10.0.0.6"), Families: Families{IPv4: true}, Internal: true},
	}
	local, draining := locals[0], false
	merging := 0
	for step := range 4000 {
		routes = r.routes(routes)
		if r.IntN(30) == 0 {
			local, draining = locals[r.IntN(2)], r.IntN(2) == 0
		}
		s.take(routes)
		for _, peer := range []string{"a", "b", "c", "d"} {
			paths := s.paths(peer)
			want := slices.Concat(told(peer, slices.Concat(routes...))...)
			if got := slices.Concat(paths...); !slices.Equal(got, want) {
				t.Fatalf("step %d, peer %s (-all at once +step by step):\n%s", step, peer, cmp.Diff(want, got, cmp.Comparer(func(x, y Path) bool { return x == y })))
			}
			if len(routes) > 1 && len(paths) == 1 {
				merging++
			}
			if resolvers[peer] == nil {
				resolvers[peer] = &Resolver{}
			}
			a := Advert{Paths: paths, Draining: draining}
			table, _ := resolvers[peer].Resolve(a, local)
			flat, _ := Advert{Paths: [][]Path{append(want, Path{Prefix: netip.MustParsePrefix("2001:db8::1/128")})}, Draining: draining}.Resolve(local)
			if !slices.Equal(slices.Concat(table...), slices.Concat(flat...)) {
				t.Fatalf("step %d, peer %s: resolved otherwise", step, peer)
			}
			checkDifference(t, sent[peer], table)
			sent[peer] = table
		}
	}
	if merging < 100 {
		t.Errorf("prefixes were in two pages only %d times", merging)
	}
}

// checkDifference fails the test unless the difference of two tables is that of the same two in other pages.
func checkDifference(t *testing.T, sent, want Table) {
	t.Helper()
	flat := func(x Table) Table {
		if all := slices.Concat(x...); len(all) > 0 {
			return Table{all}
		}
		return nil
	}
	announce, withdraw := Diff(sent, want)
	announceFlat, withdrawFlat := Diff(flat(sent), flat(want))
	if diff := cmp.Diff(announceFlat, announce, comparePrefixes, compareValues); diff != "" {
		t.Fatalf("announced (-flat +pages):\n%s", diff)
	}
	if diff := cmp.Diff(withdrawFlat, withdraw, comparePrefixes); diff != "" {
		t.Fatalf("withdrawn (-flat +pages):\n%s", diff)
	}
}

// BenchmarkOneMore works out what four peers are told, and goes on the wire, when one of 10,000 routes changes.
func BenchmarkOneMore(b *testing.B) {
	peers := []string{"a", "b", "c", "d"}
	var flat []decide.Route
	for i := range 10_000 {
		flat = append(flat, decide.Route{Prefix: host(i), Peers: peers, Attributes: config.RouteAttributes{MED: config.Some(5)}})
	}
	for _, size := range []int{50, len(flat)} {
		b.Run(fmt.Sprintf("%d in a page", size), func(b *testing.B) {
			routes := slices.Collect(slices.Chunk(flat, size))
			var s shares
			resolvers, sent := make([]Resolver, len(peers)), make([]Table, len(peers))
			l := Local{Address: netip.MustParseAddr("10.0.0.5"), Families: Families{IPv4: true}}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				at := n % len(routes)
				routes = slices.Clone(routes)
				routes[at] = slices.Clone(routes[at])
				routes[at][0].Attributes.MED = config.Some(uint32(100 + n))
				s.take(routes)
				for i, p := range peers {
					want, _ := resolvers[i].Resolve(Advert{Paths: s.paths(p)}, l)
					if announce, _ := Diff(sent[i], want); n > 1 && len(announce) != 1 {
						b.Fatalf("%d groups", len(announce))
					}
					sent[i] = want
				}
			}
		})
	}
}
