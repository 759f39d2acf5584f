package bgp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

var compareValues = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

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
	advert := Advert{
		Paths:     []Path{{v4, Attributes{LocalPref: 100}}, {v6, Attributes{LocalPref: 100}}},
		Addresses: addrs("10.0.0.5"),
	}
	both := Families{IPv4: true, IPv6: true}
	tests := []struct {
		name     string
		local    Local
		want     map[netip.Prefix]Attributes
		stranded Families
	}{
		{
			"external: no LOCAL_PREF, no way for v6",
			Local{Address: netip.MustParseAddr("10.0.0.5"), Families: both},
			map[netip.Prefix]Attributes{v4: {NextHop: netip.MustParseAddr("10.0.0.5")}},
			Families{IPv6: true},
		},
		{
			"internal",
			Local{Address: netip.MustParseAddr("2001:db8::5"), Families: both, ExtendedNextHop: true, Internal: true},
			map[netip.Prefix]Attributes{
				v4: {NextHop: netip.MustParseAddr("2001:db8::5"), LocalPref: 100},
				v6: {NextHop: netip.MustParseAddr("2001:db8::5"), LocalPref: 100},
			},
			Families{},
		},
		{
			"a family that was not negotiated is no complaint",
			Local{Address: netip.MustParseAddr("10.0.0.5"), Families: Families{IPv4: true}},
			map[netip.Prefix]Attributes{v4: {NextHop: netip.MustParseAddr("10.0.0.5")}},
			Families{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, stranded := advert.Resolve(tt.local)
			if diff := cmp.Diff(tt.want, got, compareValues, comparePrefixes); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
			if stranded != tt.stranded {
				t.Errorf("stranded = %+v, want %+v", stranded, tt.stranded)
			}
		})
	}
}

func TestPathsFor(t *testing.T) {
	routes := []decide.Route{
		{Prefix: netip.MustParsePrefix("192.0.2.7/24"), Peers: []string{"a", "b"}},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Peers: []string{"b"}},
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Peers: []string{"a", "c"}}, // the same once masked
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Peers: []string{"a"}},
	}
	var got []string
	for _, p := range pathsFor("a", routes) {
		got = append(got, p.Prefix.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.0/8", "192.0.2.0/24"}, got); diff != "" {
		t.Errorf("paths for a (-want +got):\n%s", diff)
	}
	if got := pathsFor("nobody", routes); len(got) != 0 {
		t.Errorf("paths for nobody = %v", got)
	}
}

// TestDiff checks on random tables that the difference leads from the one to the other, says nothing that is known already, and
// puts no prefix in two places.
func TestDiff(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := func() map[netip.Prefix]Attributes {
		out := map[netip.Prefix]Attributes{}
		for i := range 40 {
			if r.IntN(2) == 0 {
				continue
			}
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
			if i >= 20 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), 128)
			}
			out[p] = Attributes{NextHop: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(3))}), LocalPref: uint32(r.IntN(2))}
		}
		return out
	}
	sent := table()
	for range 500 {
		want := table()
		peer := map[netip.Prefix]Attributes{}
		for p, a := range sent {
			peer[p] = a
		}
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
		for _, p := range withdraw {
			if _, ok := want[p]; ok {
				t.Fatalf("%s withdrawn though wanted", p)
			}
			delete(peer, p)
		}
		if diff := cmp.Diff(want, peer, compareValues, comparePrefixes); diff != "" {
			t.Fatalf("the peer's table afterwards (-want +got):\n%s", diff)
		}
		sent = want
	}
	if announce, withdraw := Diff(sent, sent); announce != nil || withdraw != nil {
		t.Errorf("difference of equal tables: %v, %v", announce, withdraw)
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
