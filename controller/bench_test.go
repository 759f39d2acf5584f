package controller

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/controller/ipam"
)

// still is a Source that does not change.
type still struct{ snap *config.Snapshot }

func (s *still) Snapshot() *config.Snapshot { return s.snap }
func (s *still) Changed() <-chan struct{}   { return nil }

// settledCluster has n Services with addresses of one pool, which three nodes announce, and nothing to be done.
func settledCluster(b *testing.B, n int) *still {
	b.Helper()
	p := pool("lan", "10.0.0.0", "10.0.255.255")
	snap := &config.Snapshot{Synced: true, Pools: []*config.Pool{p}, L2Advertisements: []*config.L2Advertisement{{
		Name: "l2", Pools: config.Only("lan"), Services: config.All[config.Key](), Nodes: config.All[string](),
	}}}
	a := netip.MustParseAddr("10.0.0.1")
	holds := make([][]config.L2Holding, 3)
	for i := range n {
		s := service(fmt.Sprintf("s%05d", i))
		s.UID, s.Created, s.Families, s.Ingress = s.Name, time.Unix(int64(i), 0), []config.Family{config.IPv4}, []netip.Addr{a}
		s.Endpoints.Ready = map[string]int{"n0": 1}
		s.Allocated = config.Condition{Status: "True", Reason: "Allocated", Message: a.String() + " from pool lan"}
		node := i % 3
		s.Announced = config.Condition{Status: "True", Reason: "Announced", Message: fmt.Sprintf("ARP by n%d on eth0", node)}
		holds[node] = append(holds[node], holding(a.String(), time.Unix(5, 0)))
		snap.Services = append(snap.Services, &s)
		a = a.Next()
	}
	for i, h := range holds {
		name := fmt.Sprintf("n%d", i)
		snap.Nodes = append(snap.Nodes, &config.Node{Name: name, Ready: true})
		sp := speaker(name, h...)
		sp.Interfaces[0].Subnets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}
		snap.Speakers = append(snap.Speakers, sp)
	}
	return &still{snap}
}

// BenchmarkRound is one look at all Announced conditions, of which none is to be written.
func BenchmarkRound(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			opt := Options{Source: settledCluster(b, n), Log: slog.New(slog.DiscardHandler)}
			d := newDesk(1, 1, opt.Log)
			a := newAnnouncer(opt, d)
			for b.Loop() {
				a.round(time.Unix(10, 0))
			}
			if due := d.waiting(announcing); due > 0 {
				b.Fatalf("%d conditions differ: %+v", due, d.ready[announcing][0].key)
			}
		})
	}
}

// BenchmarkPlanOneMore is what one more Service costs the leader, but for the snapshot and the write.
func BenchmarkPlanOneMore(b *testing.B) {
	for _, n := range []int{10, 10000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			with := settledCluster(b, n)
			without := *with.snap
			without.Services = without.Services[:n-1]
			last := *with.snap.Services[n-1]
			last.Ingress, last.Allocated, last.Announced = nil, config.Condition{}, config.Condition{}
			more := *with.snap
			more.Services = append(without.Services[:n-1:n-1], &last)
			t := newTerm(Options{Source: with, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics()}, newBook())
			step := func(in *config.Snapshot) *ipam.Plan {
				plan, _ := t.book.plan(in)
				put, drop := t.differences(plan.Due, time.Unix(10, 0))
				t.desk.update(put, drop)
				t.desk.set(keeping, t.keep(in, plan))
				return plan
			}
			for b.Loop() {
				if plan := step(&more); len(plan.Due) != 1 {
					b.Fatalf("%d are due", len(plan.Due))
				}
				step(&without)
			}
		})
	}
}
