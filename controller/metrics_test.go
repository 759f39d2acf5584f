package controller

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/controller/ipam"
)

// measured are the names whose series come and go.
var measured = []string{
	"herald_allocations_total", "herald_announced_services", "herald_leader", "herald_nodes", "herald_pending_writes", "herald_pool_addresses", "herald_services",
}

func reigning() *reign { return &reign{desk: newDesk(1, 1, slog.New(slog.DiscardHandler))} }

func expect(t *testing.T, m *Metrics, want string) {
	t.Helper()
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), measured...); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	m := NewMetrics()
	const standby = `
# HELP herald_leader Whether this replica leads.
# TYPE herald_leader gauge
herald_leader 0
`
	expect(t, m, standby)

	web, old, going := service("web"), service("old"), service("going")
	old.Ingress, old.Allocated = addrs("192.0.2.1"), config.Condition{Status: "True", Reason: "Allocated"}
	old.Announced = config.Condition{Status: "False", Reason: "NoEligibleNode"}
	going.Deleting = true
	six := pool("b", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff")
	in := &config.Snapshot{
		Services: []*config.Service{&going, &old, &web}, Pools: []*config.Pool{pool("a", "192.0.2.0", "192.0.2.2"), six},
		Reservations: []*config.Reservation{{Name: "kept", Addresses: addrs("192.0.2.2"), Service: key("other")}},
		Nodes: []*config.Node{
			{Name: "n1", Ready: true},
			{Name: "n2", Ready: true},
			{Name: "n3", Ready: true, ExcludeLB: true},
			{Name: "n4", Ready: true},
			{Name: "n5"},
		},
		Speakers:         []*config.Speaker{{Node: "n1", Alive: 1}, {Node: "n4", Stopped: true}},
		L2Advertisements: []*config.L2Advertisement{{Name: "all", Nodes: config.All[string]()}},
	}
	for _, s := range in.Services {
		s.Families = []config.Family{config.IPv4}
	}
	plan := ipam.Compute(in, time.Now())
	r := reigning()
	r.desk.set(announcing, []*task{{key("web"), nil}})
	m.lead(r)
	m.publish(in, plan)
	for _, o := range plan.Services {
		if o.Service == &web {
			m.wrote(o, time.Second)
		}
	}
	expect(t, m, `
# HELP herald_allocations_total Addresses assigned, by pool, and assignments refused (pool is empty), by reason.
# TYPE herald_allocations_total counter
herald_allocations_total{pool="a",result="assigned"} 1
herald_allocations_total{pool="b",result="assigned"} 0
# HELP herald_announced_services Services that have an address, by the reason of their Announced condition.
# TYPE herald_announced_services gauge
herald_announced_services{state="NoEligibleNode"} 1
# HELP herald_leader Whether this replica leads.
# TYPE herald_leader gauge
herald_leader 1
# HELP herald_nodes Nodes, by what is known of their speaker.
# TYPE herald_nodes gauge
herald_nodes{state="excluded"} 2
herald_nodes{state="live"} 1
herald_nodes{state="missing"} 1
herald_nodes{state="stopped"} 1
# HELP herald_pending_writes Writes to Services that are due and not done, by class.
# TYPE herald_pending_writes gauge
herald_pending_writes{class="announce"} 1
herald_pending_writes{class="assign"} 0
herald_pending_writes{class="keep"} 0
# HELP herald_pool_addresses Addresses of a pool, by family and state.
# TYPE herald_pool_addresses gauge
herald_pool_addresses{family="ipv4",pool="a",state="assigned"} 2
herald_pool_addresses{family="ipv4",pool="a",state="available"} 0
herald_pool_addresses{family="ipv4",pool="a",state="reserved"} 1
herald_pool_addresses{family="ipv4",pool="a",state="total"} 3
herald_pool_addresses{family="ipv6",pool="b",state="assigned"} 0
herald_pool_addresses{family="ipv6",pool="b",state="available"} 9.223372036854776e+18
herald_pool_addresses{family="ipv6",pool="b",state="reserved"} 0
herald_pool_addresses{family="ipv6",pool="b",state="total"} 9.223372036854776e+18
# HELP herald_services Services handled, by the reason of their Allocated condition.
# TYPE herald_services gauge
herald_services{state="Allocated"} 2
herald_services{state="Deleting"} 1
`)
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}

	m.forget()
	expect(t, m, standby+`
# HELP herald_allocations_total Addresses assigned, by pool, and assignments refused (pool is empty), by reason.
# TYPE herald_allocations_total counter
herald_allocations_total{pool="a",result="assigned"} 1
herald_allocations_total{pool="b",result="assigned"} 0
`)
}

// TestMetricsOfGoneThings checks that nothing is left of pools and Services, also when a write for one that is gone comes late.
func TestMetricsOfGoneThings(t *testing.T) {
	m := NewMetrics()
	m.lead(reigning())
	web := service("web")
	web.Families = []config.Family{config.IPv4}
	full := &config.Snapshot{Services: []*config.Service{&web}, Pools: []*config.Pool{pool("a", "192.0.2.0", "192.0.2.2")}}
	plan := ipam.Compute(full, time.Now())
	m.publish(full, plan)
	empty := &config.Snapshot{}
	m.publish(empty, ipam.Compute(empty, time.Now()))
	m.wrote(plan.Services[0], time.Second)
	m.publish(empty, ipam.Compute(empty, time.Now()))
	for _, name := range []string{"herald_allocations_total", "herald_pool_addresses", "herald_services", "herald_announced_services"} {
		if n := testutil.CollectAndCount(m, name); n != 0 {
			t.Errorf("%d series of %s are left", n, name)
		}
	}
}

// TestMetricsDoNotGrow checks that 10,000 Services have no more series than a few that are in as many states.
func TestMetricsDoNotGrow(t *testing.T) {
	series := func(services int) int {
		m := NewMetrics()
		m.lead(reigning())
		in := &config.Snapshot{Pools: []*config.Pool{pool("a", "10.0.0.0", "10.0.255.255"), pool("b", "10.1.0.0", "10.1.255.255")}}
		for i := range services {
			s := service(fmt.Sprintf("s%05d", i))
			s.Families = []config.Family{config.IPv4}
			switch i % 3 {
			case 0:
				s.Ingress, s.Allocated = []netip.Addr{ip4(i)}, config.Condition{Status: "True", Reason: "Allocated"}
				s.Announced = config.Condition{Status: "True", Reason: "Announced"}
			case 1:
				s.Request.Pools = []string{"none"}
			}
			in.Services = append(in.Services, &s)
		}
		plan := ipam.Compute(in, time.Now())
		m.publish(in, plan)
		for _, o := range plan.Services {
			m.wrote(o, time.Second)
		}
		return testutil.CollectAndCount(m)
	}
	if few, many := series(3), series(10_000); few != many {
		t.Errorf("%d series with 10,000 Services, %d with 3", many, few)
	}
}

func ip4(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// TestCountersDoNotGoBack lets pools and Services come and go, and leadership, too: what is counted of things that stay only grows.
func TestCountersDoNotGoBack(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		m, planner := NewMetrics(), ipam.NewPlanner()
		last := map[string]float64{}
		for range 40 {
			in := &config.Snapshot{}
			for i := range 4 {
				if r.IntN(6) > 0 {
					in.Pools = append(in.Pools, pool(fmt.Sprint("p", i), fmt.Sprintf("192.0.%d.0", i), fmt.Sprintf("192.0.%d.3", i)))
				}
			}
			for i := range r.IntN(24) {
				s := service(fmt.Sprintf("s%02d", i))
				s.UID, s.Families = fmt.Sprint(r.Uint64()), []config.Family{config.IPv4}
				in.Services = append(in.Services, &s)
			}
			plan := planner.Plan(in, time.Unix(1000, 0))
			if r.IntN(10) == 0 {
				m.forget()
			}
			m.lead(reigning())
			m.publish(in, plan)
			for _, o := range plan.Services {
				m.wrote(o, time.Millisecond)
			}
			now := counters(t, m)
			for name, n := range last {
				is, ok := now[name]
				pool := name[strings.LastIndexByte(name, ' ')+1:]
				stays := slices.ContainsFunc(in.Pools, func(p *config.Pool) bool { return p.Name == pool }) || !strings.HasPrefix(pool, "p")
				if ok && is < n && stays || stays && !ok {
					t.Fatalf("seed %d: %s went from %v to %v", seed, name, n, is)
				}
			}
			last = now
		}
	}
}

// counters reads all counters, by name and labels; the pool is the last of these.
func counters(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, x := range f.Metric {
			name := f.GetName()
			for _, l := range slices.Backward(x.Label) { // they are sorted by name
				name += " " + l.GetValue()
			}
			switch {
			case x.Counter != nil:
				out[name] = x.Counter.GetValue()
			case x.Histogram != nil:
				out[name] = float64(x.Histogram.GetSampleCount())
			}
		}
	}
	return out
}
