package bgp

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// TestAlike: two peers are told the same if no route goes to one of them only, whether routes share their lists of peers or not.
func TestAlike(t *testing.T) {
	both, first := []string{"a", "b"}, []string{"a"}
	route := func(n byte, peers []string) decide.Route {
		return decide.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 32), Peers: peers}
	}
	for _, tt := range []struct {
		name   string
		routes []decide.Route
		want   bool
	}{
		{"nothing", nil, true},
		{"all", []decide.Route{route(1, both), route(2, both), route(3, []string{"a", "b", "c"})}, true},
		{"to none of them", []decide.Route{route(1, both), route(2, []string{"c"}), route(3, nil)}, true},
		{"one is for the first only", []decide.Route{route(1, both), route(2, first), route(3, both)}, false},
		{"the beginning of a list that another shares", []decide.Route{route(1, both), route(2, both[:1])}, false},
	} {
		if got := alike("a", "b", tt.routes); got != tt.want {
			t.Errorf("%s: alike %v, want %v", tt.name, got, tt.want)
		}
		if diff := cmp.Diff(pathsFor("a", tt.routes), pathsFor("b", tt.routes), cmp.Comparer(func(x, y Path) bool { return x == y })); (diff == "") != tt.want {
			t.Errorf("%s: what the two are told differs otherwise:\n%s", tt.name, diff)
		}
	}
}

// BenchmarkTell works out what four peers are told of 10,000 routes.
func BenchmarkTell(b *testing.B) {
	peers := []string{"a", "b", "c", "d"}
	var routes []decide.Route
	for i := range 10_000 {
		routes = append(routes, decide.Route{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i >> 8), byte(i)}), 32), Peers: peers,
			Attributes: config.RouteAttributes{MED: config.Some(5)},
		})
	}
	for _, sharing := range []bool{false, true} {
		b.Run(fmt.Sprintf("sharing=%v", sharing), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				last := ""
				for _, p := range peers {
					if !sharing || last == "" || !alike(last, p, routes) {
						last = p
						pathsFor(p, routes)
					}
				}
			}
		})
	}
}
