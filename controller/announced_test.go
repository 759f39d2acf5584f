package controller

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// TestJudge puts together what three nodes report about Services of all kinds.
func TestJudge(t *testing.T) {
	start := time.Unix(1000, 0)
	all := config.All[string]()
	node := func(name string) *config.Node { return &config.Node{Name: name, Ready: true} }
	established := config.Session{Peer: "tor", State: "Established", Families: []config.Family{config.IPv4}}
	sp := func(name string, s config.Session, holds ...config.L2Holding) *config.Speaker {
		out := speaker(name, holds...)
		out.Interfaces[0].Subnets = append(out.Interfaces[0].Subnets, netip.MustParsePrefix("2001:db8::/64"))
		out.Sessions = []config.Session{s}
		return out
	}
	twoPeers := func(s *config.Speaker) *config.Speaker {
		s.Sessions = append(s.Sessions, config.Session{Peer: "tor6", State: "Established", Families: []config.Family{config.IPv6}})
		return s
	}
	base := config.Snapshot{
		Synced: true,
		Pools: []*config.Pool{
			pool("lan", "192.0.2.0", "192.0.2.9"), pool("lan6", "2001:db8::", "2001:db8::9"), pool("routed", "198.51.100.0", "198.51.100.9"),
			pool("routed6", "2001:db8:f::", "2001:db8:f::9"), pool("dark", "203.0.113.0", "203.0.113.9"),
		},
		L2Advertisements: []*config.L2Advertisement{{Name: "l2", Pools: config.Only("lan", "lan6"), Services: config.All[config.Key](), Nodes: all}},
		BGPAdvertisements: []*config.BGPAdvertisement{
			{Name: "bgp", Pools: config.Only("routed", "lan6"), Services: config.All[config.Key](), Nodes: all, Peers: config.Only("tor")},
			{Name: "bgp6", Pools: config.Only("routed6"), Services: config.All[config.Key](), Nodes: all, Peers: config.Only("tor6")},
		},
		Peers: []*config.Peer{{Name: "tor", Nodes: all, Address: netip.MustParseAddr("192.0.2.200"), Families: []config.Family{config.IPv4, config.IPv6}}, {Name: "tor6", Nodes: all, Address: netip.MustParseAddr("2001:db8::200"), Families: []config.Family{config.IPv6}}},
		Nodes: []*config.Node{node("n1"), node("n2"), node("n3"), {Name: "dead"}},
	}
	const foreign = "192.0.2.1 is in use by a station with the MAC address 02:00:00:00:00:ff"
	heard := func(s *config.Speaker) *config.Speaker { s.Alive = 2; return s }
	for _, c := range []struct {
		name     string
		holds    []string
		local    map[string]int // ready endpoints of a Service with the policy Local; nil: Cluster, ready on n1
		speakers []*config.Speaker
		want     verdict
	}{
		{
			"ARP",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{sp("n1", established), sp("n2", established, holding("192.0.2.1", start))},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "ARP by n2 on eth0"}},
		},
		{
			"the report of a dead node does not count",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{sp("dead", established, holding("192.0.2.1", start.Add(time.Hour))), sp("n2", established, holding("192.0.2.1", start))},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "ARP by n2 on eth0"}},
		},
		{
			"a node that is not Ready, whose speaker lives",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{heard(sp("dead", established, holding("192.0.2.1", start))), heard(sp("n2", established))},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "ARP by dead on eth0"}},
		},
		{
			"NDP, and BGP without the family",
			[]string{"2001:db8::1"},
			nil,
			[]*config.Speaker{sp("n1", established, holding("2001:db8::1", start))},
			verdict{condition: config.Condition{
				Status: "True", Reason: "Announced",
				Message: "NDP by n1 on eth0; BGP: no session is up: tor from n1 (IPv6 was not agreed on)",
			}},
		},
		{
			"BGP by several",
			[]string{"198.51.100.1"},
			nil,
			[]*config.Speaker{sp("n1", established), sp("n2", established), sp("n3", config.Session{Peer: "tor", State: "Active"})},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "BGP by 2 nodes to 1 peer"}},
		},
		{
			"BGP to one peer for each family",
			[]string{"198.51.100.1", "2001:db8:f::1"},
			nil,
			[]*config.Speaker{twoPeers(sp("n1", established)), twoPeers(sp("n2", established))},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "BGP by 2 nodes to 2 peers"}},
		},
		{
			"BGP, policy Local",
			[]string{"198.51.100.1"},
			map[string]int{"n2": 3},
			[]*config.Speaker{sp("n1", established), sp("n2", established)},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "BGP by 1 node to 1 peer"}},
		},
		{
			"peers down",
			[]string{"198.51.100.1"},
			nil,
			[]*config.Speaker{sp("n1", config.Session{Peer: "tor", State: "Active", LastError: "connection refused"}), sp("n2", config.Session{Peer: "other"})},
			verdict{pending: true, condition: config.Condition{
				Status: "False", Reason: "PeersDown",
				Message: "BGP: no session is up: tor from n1 (Active: connection refused), tor from n2 (not reported yet)",
			}},
		},
		{
			"not covered",
			[]string{"203.0.113.1"},
			nil,
			[]*config.Speaker{sp("n1", established)},
			verdict{condition: config.Condition{Status: "False", Reason: "NoAdvertisement"}},
		},
		{
			"one of two addresses",
			[]string{"192.0.2.1", "203.0.113.1"},
			nil,
			[]*config.Speaker{sp("n1", established, holding("192.0.2.1", start))},
			verdict{condition: config.Condition{Status: "False", Reason: "NoAdvertisement"}},
		},
		{
			"nobody has begun",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{sp("n1", established)},
			verdict{pending: true, condition: config.Condition{Status: "False", Reason: "NoEligibleNode", Message: "L2: no speaker answers yet; n1 should"}},
		},
		{
			"somebody else claims it",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{sp("n1", established), disputed(sp("n2", established, holding("192.0.2.1", start)), "192.0.2.1", start)},
			verdict{conflicts: []string{foreign}, condition: config.Condition{
				Status: "False", Reason: "AddressConflict",
				Message: "L2: 192.0.2.1 is in use by a station with the MAC address 02:00:00:00:00:ff, heard by n2 on eth0; n2 answers for it, too",
			}},
		},
		{
			"somebody else had it first",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{disputed(sp("n1", established), "192.0.2.1", start), disputed(sp("n2", established), "192.0.2.1", start.Add(time.Second))},
			verdict{conflicts: []string{foreign}, condition: config.Condition{
				Status: "False", Reason: "AddressConflict",
				Message: "L2: 192.0.2.1 is in use by a station with the MAC address 02:00:00:00:00:ff, heard by n1 on eth0; no node answers for it until it is free",
			}},
		},
		{
			"a conflict about another address",
			[]string{"192.0.2.1"},
			nil,
			[]*config.Speaker{disputed(sp("n2", established, holding("192.0.2.1", start)), "192.0.2.2", start)},
			verdict{condition: config.Condition{Status: "True", Reason: "Announced", Message: "ARP by n2 on eth0"}},
		},
		{
			"no speaker at all",
			[]string{"192.0.2.1"},
			nil, nil,
			verdict{condition: config.Condition{Status: "False", Reason: "NoEligibleNode"}},
		},
		{
			"no endpoint",
			[]string{"192.0.2.1"},
			map[string]int{},
			[]*config.Speaker{sp("n1", established)},
			verdict{condition: config.Condition{Status: "False", Reason: "NoReadyEndpoints", Message: "L2: the Service has no ready endpoint"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			svc := service("web")
			svc.Ingress = addrs(c.holds...)
			svc.Endpoints.Ready = map[string]int{"n1": 1}
			if c.local != nil {
				svc.TrafficPolicy, svc.Endpoints.Ready = config.Local, c.local
			}
			in := base
			in.Services, in.Speakers = []*config.Service{&svc}, c.speakers
			got := see(decide.Facts{Config: &in}).judge(&svc)
			if c.want.condition.Message == "" && got.condition.Message != "" {
				got.condition.Message = "" // the words are those of decide
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(verdict{}), cmpopts.IgnoreFields(verdict{}, "owners")); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// disputed lets a speaker report a foreign user of an address.
func disputed(s *config.Speaker, a string, since time.Time) *config.Speaker {
	s.Conflicts = append(s.Conflicts, config.L2Conflict{Address: netip.MustParseAddr(a), Interface: "eth0", MAC: "02:00:00:00:00:ff", Since: since})
	return s
}

func TestMoves(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	was := map[netip.Addr]string{a: "n1", b: "n1"}
	for _, c := range []struct {
		is   map[netip.Addr]string
		want []string
	}{
		{was, nil},
		{map[netip.Addr]string{a: "n2", b: "n1"}, []string{"192.0.2.1 moved from n1 to n2"}},
		{map[netip.Addr]string{b: "n3"}, []string{"192.0.2.2 moved from n1 to n3"}},
		{nil, nil},
	} {
		if diff := cmp.Diff(c.want, moves(was, c.is)); diff != "" {
			t.Errorf("%v: %s", c.is, diff)
		}
	}
}
