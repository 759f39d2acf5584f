package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

var (
	compareValues   = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestNextHop(t *testing.T) {
	nics := []NIC{
		{Name: "eth0", Addrs: addrs("10.0.0.5", "2001:db8::5", "2001:db8::6", "fe80::5")},
		{Name: "eth1", Addrs: addrs("10.1.0.5", "fe80::1:5")},
		{Name: "eth2", Addrs: addrs("2001:db8:2::5", "fe80::2:5")},
	}
	node := addrs("10.0.0.5", "2001:db8::6")
	tests := []struct {
		name     string
		local    string
		family   config.Family
		extended bool
		node     []netip.Addr
		want     string
	}{
		{"own family v4", "10.0.0.5", config.IPv4, false, node, "10.0.0.5"},
		{"own family v6", "2001:db8::5", config.IPv6, false, node, "2001:db8::5"},
		{"v6 over v4: the address of the same interface that Kubernetes knows", "10.0.0.5", config.IPv6, false, node, "2001:db8::6"},
		{"v6 over v4: any global address of the same interface", "10.0.0.5", config.IPv6, false, addrs("10.0.0.5"), "2001:db8::5"},
		{"v6 over v4: interface without v6", "10.1.0.5", config.IPv6, false, node, "2001:db8::6"},
		{"v6 over v4: nothing", "10.1.0.5", config.IPv6, false, addrs("10.0.0.5"), "invalid IP"},
		{"v4 over v6, RFC 8950", "2001:db8::5", config.IPv4, true, node, "2001:db8::5"},
		{"v4 over v6, plain", "2001:db8::5", config.IPv4, false, node, "10.0.0.5"},
		{"v4 over v6, plain, interface without v4", "2001:db8:2::5", config.IPv4, false, node, "10.0.0.5"},
		{"v4 over v6, plain, nothing", "2001:db8:2::5", config.IPv4, false, nil, "invalid IP"},
		{"link-local session takes the global address", "fe80::5", config.IPv6, false, node, "2001:db8::6"},
		{"link-local session with zone", "fe80::5%eth0", config.IPv6, false, node, "2001:db8::6"},
		{"link-local session with nothing else", "fe80::1:5", config.IPv6, false, nil, "fe80::1:5"},
		{"v4 over link-local, RFC 8950", "fe80::1:5", config.IPv4, true, nil, "10.1.0.5"},
		{"mapped", "::ffff:10.0.0.5", config.IPv4, false, node, "10.0.0.5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := Local{Address: netip.MustParseAddr(tt.local), NICs: nics, ExtendedNextHop: tt.extended}
			if got := l.nextHop(tt.family, tt.node).String(); got != tt.want {
				t.Errorf("next hop = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8:1::1/128")
	own4, own6 := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")
	both := Families{IPv4: true, IPv6: true}
	ours := config.CommunitiesOf(config.Standard(7))
	drained := config.CommunitiesOf(config.Standard(7), config.Standard(config.GracefulShutdown))
	rich := config.RouteAttributes{Communities: ours, LocalPref: config.Some(200), MED: config.Some(0), Prepend: 2, Weight: 3}
	plain := [][]Path{{{Prefix: v4}, {Prefix: v6}}}
	external := Local{Address: own4, Families: both}
	internal := Local{Address: own6, Families: both, ExtendedNextHop: true, Internal: true}
	tests := []struct {
		name   string
		advert Advert
		local  Local
		want   Table
		left   Left
	}{
		{
			"external: no LOCAL_PREF, no way for v6",
			Advert{Paths: plain},
			external,
			Table{{{v4, Attributes{NextHop: own4}}}},
			Left{Stranded: Families{IPv6: true}},
		},
		{
			"internal",
			Advert{Paths: plain},
			internal,
			Table{{{v4, Attributes{NextHop: own6, LocalPref: 100}}, {v6, Attributes{NextHop: own6, LocalPref: 100}}}},
			Left{},
		},
		{
			"a family that was not negotiated is no complaint",
			Advert{Paths: plain},
			Local{Address: own4, Families: Families{IPv4: true}},
			Table{{{v4, Attributes{NextHop: own4}}}},
			Left{},
		},
		{
			"external with everything",
			Advert{Paths: [][]Path{{{v4, rich}}}},
			external,
			Table{{{v4, Attributes{NextHop: own4, MED: config.Some(0), Prepend: 2, Weight: 3, Communities: ours}}}},
			Left{},
		},
		{
			"internal with everything",
			Advert{Paths: [][]Path{{{v4, rich}}}},
			internal,
			Table{{{v4, Attributes{NextHop: own6, LocalPref: 200, MED: config.Some(0), Weight: 3, Communities: ours}}}},
			Left{},
		},
		{
			"LOCAL_PREF 0 is not the default",
			Advert{Paths: [][]Path{{{v4, config.RouteAttributes{LocalPref: config.Some(0)}}}}},
			internal,
			Table{{{v4, Attributes{NextHop: own6}}}},
			Left{},
		},
		{
			"draining, external",
			Advert{Paths: [][]Path{{{v4, rich}}}, Draining: true},
			external,
			Table{{{v4, Attributes{NextHop: own4, MED: config.Some(0), Prepend: 2, Weight: 3, Communities: drained}}}},
			Left{},
		},
		{
			"draining, internal",
			Advert{Paths: [][]Path{{{v4, rich}}}, Draining: true},
			internal,
			Table{{{v4, Attributes{NextHop: own6, MED: config.Some(0), Weight: 3, Communities: drained}}}},
			Left{},
		},
		{
			"as many communities as fit",
			Advert{Paths: [][]Path{{{v4, config.RouteAttributes{Communities: many(316)}}}}},
			external,
			Table{{{v4, Attributes{NextHop: own4, Communities: many(316)}}}},
			Left{},
		},
		{
			"one too many",
			Advert{Paths: [][]Path{{{v4, config.RouteAttributes{Communities: many(317)}}}}},
			external,
			Table{},
			Left{Oversized: 1},
		},
		{
			"unnumbered: the link-local address, for both families",
			Advert{Paths: plain},
			Local{
				Address: netip.MustParseAddr("fe80::5%eth0"), Families: both, ExtendedNextHop: true, Unnumbered: true,
				NICs: []NIC{{Name: "eth0", Addrs: addrs("fe80::5", "2001:db8::5")}},
			},
			Table{{{v4, Attributes{NextHop: netip.MustParseAddr("fe80::5")}}, {v6, Attributes{NextHop: netip.MustParseAddr("fe80::5")}}}},
			Left{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, left := tt.advert.Resolve(tt.local)
			if diff := cmp.Diff(tt.want, got, compareValues, comparePrefixes); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
			if left != tt.left {
				t.Errorf("left = %+v, want %+v", left, tt.left)
			}
		})
	}
}

// many returns n large communities.
func many(n int) config.Communities {
	var list []config.Community
	for i := range n {
		list = append(list, config.Large(1, 2, uint32(i)))
	}
	return config.CommunitiesOf(list...)
}

// told returns what a peer is told of routes that come in one page.
func told(peer string, routes []decide.Route) [][]Path {
	var s shares
	s.take([][]decide.Route{routes})
	return s.paths(peer)
}

func TestPathsFor(t *testing.T) {
	red, blue := config.CommunitiesOf(config.Standard(1)), config.CommunitiesOf(config.Standard(2))
	routes := []decide.Route{
		{Prefix: netip.MustParsePrefix("192.0.2.7/24"), Peers: []string{"a", "b"}, Attributes: config.RouteAttributes{Communities: red, Weight: 2}},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Peers: []string{"b"}},
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Peers: []string{"a", "c"}, Attributes: config.RouteAttributes{Communities: blue, Weight: 3}}, // the same once masked
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Peers: []string{"a"}},
		{Prefix: netip.MustParsePrefix("192.0.2.0/32"), Peers: []string{"a"}},
	}
	show := func(peer string) (out []string) {
		for _, p := range slices.Concat(told(peer, routes)...) {
			out = append(out, fmt.Sprintf("%s communities [%s] weight %d", p.Prefix, p.Communities, p.Weight))
		}
		return out
	}
	for peer, want := range map[string][]string{
		"a": {
			"10.0.0.0/8 communities [] weight 0",
			"192.0.2.0/24 communities [0:1 0:2] weight 5",
			"192.0.2.0/32 communities [] weight 0",
		},
		"b":      {"192.0.2.0/24 communities [0:1] weight 2", "2001:db8::/32 communities [] weight 0"},
		"c":      {"192.0.2.0/24 communities [0:2] weight 3"},
		"nobody": nil,
	} {
		if diff := cmp.Diff(want, show(peer)); diff != "" {
			t.Errorf("paths for %s (-want +got):\n%s", peer, diff)
		}
	}
}

// TestAggregate lets Services of one aggregate come and go: the route is there as long as one of them is, with what those that are there
// say of it.
func TestAggregate(t *testing.T) {
	var routes []decide.Route
	for i := range 3 {
		routes = append(routes, decide.Route{
			Prefix: netip.MustParsePrefix("192.0.2.0/24"), Peers: []string{"a"},
			Attributes: config.RouteAttributes{Weight: 1, Communities: config.CommunitiesOf(config.Standard(uint32(i)))},
		})
	}
	for left := 3; left >= 0; left-- {
		paths := slices.Concat(told("a", routes[:left])...)
		switch {
		case left == 0 && len(paths) == 0:
		case left > 0 && len(paths) == 1 && paths[0].Weight == uint32(left) && paths[0].Communities.Len() == left:
		default:
			t.Errorf("%d Services: %+v", left, paths)
		}
	}
}

func TestRouterID(t *testing.T) {
	tests := []struct {
		node      string
		addresses []netip.Addr
		want      string
	}{
		{"a", addrs("10.0.0.5", "10.0.0.6", "2001:db8::1"), "10.0.0.5"},
		{"a", addrs("127.0.0.1", "169.254.0.1", "192.0.2.9"), "192.0.2.9"},
		{"node-1", nil, RouterID("node-1", addrs("2001:db8::1")).String()},
	}
	for _, tt := range tests {
		if got := RouterID(tt.node, tt.addresses).String(); got != tt.want {
			t.Errorf("RouterID(%q, %v) = %s, want %s", tt.node, tt.addresses, got, tt.want)
		}
	}
	seen := map[netip.Addr]bool{}
	for i := range 5000 {
		id := RouterID("node-"+netip.AddrFrom4([4]byte{0, 0, byte(i >> 8), byte(i)}).String(), nil)
		first := id.As4()[0]
		if first == 0 || first == 127 || first > 223 {
			t.Fatalf("identifier %s is not an ordinary unicast address", id)
		}
		if seen[id] {
			t.Fatalf("identifier %s twice among 5000 names", id)
		}
		seen[id] = true
	}
	if got, want := RouterID("node-1", nil).String(), RouterID("node-1", addrs("fd00::1")).String(); got != want {
		t.Errorf("not stable: %s, %s", got, want)
	}
}

func TestFamilies(t *testing.T) {
	for _, list := range [][]config.Family{nil, {config.IPv4}, {config.IPv6}, {config.IPv4, config.IPv6}} {
		if got := FamiliesOf(list).List(); !slices.Equal(got, list) {
			t.Errorf("FamiliesOf(%v).List() = %v", list, got)
		}
	}
}
