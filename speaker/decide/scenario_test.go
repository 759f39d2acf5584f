package decide

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
)

// scenario makes random facts with every feature of the language in them.
type scenario struct{ *rand.Rand }

func newScenario(seed uint64) scenario { return scenario{rand.New(rand.NewPCG(seed, 7))} }

func (r scenario) chance(percent int) bool { return r.IntN(100) < percent }

func (r scenario) facts() Facts {
	c := &config.Snapshot{Synced: true}
	f := Facts{Config: c, Claims: Memory{}, IgnoreExcludeLB: r.chance(20), DrainOnCordon: r.chance(50), Now: epoch, Since: map[string]time.Time{}}
	nodes := 1 + r.IntN(8)
	for i := range nodes {
		name := fmt.Sprintf("node-%d", i)
		if !r.chance(5) {
			c.Nodes = append(c.Nodes, r.node(name))
		}
		if r.chance(80) {
			f.Since[name] = epoch.Add(-time.Duration(r.IntN(100)) * time.Second)
		}
		if !r.chance(10) {
			f.Members = append(f.Members, r.member(name, i))
		}
	}
	for i := range 3 {
		base := netip.AddrFrom4([4]byte{192, 0, byte(i), 100})
		c.Pools = append(c.Pools, &config.Pool{
			Name:   fmt.Sprintf("pool-%d", i),
			Ranges: []config.Range{{From: base, To: netip.AddrFrom4([4]byte{192, 0, byte(i), 131})}},
		})
	}
	for i := range r.IntN(4) {
		c.L2Advertisements = append(c.L2Advertisements, &config.L2Advertisement{
			Name: fmt.Sprintf("l2-%d", i), Pools: r.some("pool", 3),
			Nodes: r.some("node", nodes), Services: r.services(), Interfaces: [][]string{nil, {"eth*"}, {"eth1"}, {"eth0", "bond*"}}[r.IntN(4)],
			Preferred: r.preferred(nodes), FailbackDelay: r.failback(), RefreshInterval: time.Duration(r.IntN(3)) * time.Minute,
		})
	}
	for i := range r.IntN(3) {
		c.Peers = append(c.Peers, &config.Peer{
			Name: fmt.Sprintf("peer-%d", i), Nodes: r.some("node", nodes),
			Families: []config.Family{config.IPv4},
		})
		c.BGPAdvertisements = append(c.BGPAdvertisements, &config.BGPAdvertisement{
			Name: fmt.Sprintf("bgp-%d", i), Pools: r.some("pool", 3),
			Nodes: r.some("node", nodes), Services: r.services(), Peers: r.some("peer", 3),
			AggregationLength: []int{0, 24, 32}[r.IntN(3)], WeightByEndpoints: r.chance(50),
		})
	}
	for i := range r.IntN(40) {
		c.Services = append(c.Services, r.service(i, nodes))
	}
	r.claims(&f)
	f.Expected = len(f.Members) + r.IntN(3)
	return f
}

// epoch is when all scenarios take place.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (r scenario) node(name string) *config.Node {
	return &config.Node{
		Name: name, NetworkUnavailable: r.chance(5), ExcludeLB: r.chance(5), Drain: r.chance(5),
		OutOfService: r.chance(3), Unschedulable: r.chance(10),
	}
}

func (r scenario) preferred(nodes int) []config.Preference {
	var out []config.Preference
	for range r.IntN(3) {
		out = append(out, config.Preference{Weight: 1 + r.IntN(3), Nodes: r.some("node", nodes)})
	}
	return out
}

func (r scenario) failback() *time.Duration {
	if r.chance(70) {
		return nil
	}
	d := time.Duration(r.IntN(100)) * time.Second
	return &d
}

func (r scenario) member(name string, i int) Member {
	m := Member{Node: name, Claims: map[netip.Addr]Claim{}}
	switch {
	case r.chance(5):
		m.State = Draining
	case r.chance(5):
		m.State = Restarting
	}
	for k := range 3 {
		ifi := config.Interface{Name: []string{"eth0", "eth1", "bond0"}[k], Up: !r.chance(10), MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i, k)}
		if r.chance(70) {
			ifi.Subnets = append(ifi.Subnets, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(k), byte(10 + i)}), 24))
		}
		if r.chance(70) {
			m.Interfaces = append(m.Interfaces, ifi)
		}
	}
	return m
}

func (r scenario) some(kind string, n int) config.Selection[string] {
	if r.chance(60) {
		return config.All[string]()
	}
	var names []string
	for i := range n {
		if r.chance(60) {
			names = append(names, fmt.Sprintf("%s-%d", kind, i))
		}
	}
	return config.Only(names...)
}

func (r scenario) services() config.Selection[config.Key] {
	if r.chance(60) {
		return config.All[config.Key]()
	}
	var keys []config.Key
	for i := range 40 {
		if r.chance(60) {
			keys = append(keys, config.Key{Namespace: "ns", Name: fmt.Sprintf("s%02d", i)})
		}
	}
	return config.Only(keys...)
}

func (r scenario) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(4)), byte(100 + r.IntN(16))})
}

func (r scenario) service(i, nodes int) *config.Service {
	s := &config.Service{Key: config.Key{Namespace: "ns", Name: fmt.Sprintf("s%02d", i)}}
	for range r.IntN(3) {
		s.Ingress = append(s.Ingress, r.addr())
	}
	if r.chance(40) {
		s.TrafficPolicy = config.Local
	}
	if r.chance(15) {
		s.Move = config.Move{
			From: fmt.Sprintf("node-%d", r.IntN(8)), To: fmt.Sprintf("node-%d", r.IntN(8)), Until: epoch.Add(time.Duration(r.IntN(120)-20) * time.Second),
		}
	}
	s.Endpoints.Ready, s.Endpoints.Serving = map[string]int{}, map[string]int{}
	for i := range nodes {
		if r.chance(30) {
			s.Endpoints.Ready[fmt.Sprintf("node-%d", i)] = 1
		}
		if r.chance(20) {
			s.Endpoints.Serving[fmt.Sprintf("node-%d", i)] = 1
		}
	}
	return s
}

func (r scenario) claims(f *Facts) {
	for range r.IntN(60) {
		if len(f.Members) == 0 {
			return
		}
		f.Members[r.IntN(len(f.Members))].Claims[r.addr()] = r.claim()
	}
	for range r.IntN(30) {
		f.Claims[r.addr()] = uint64(1 + r.IntN(5))
	}
}

func (r scenario) claim() Claim {
	c := Claim{Counter: uint64(1 + r.IntN(3)), Majority: r.chance(50)}
	if r.chance(15) {
		c.To = fmt.Sprintf("node-%d", r.IntN(8))
	}
	return c
}
