package decide

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/heraldlb/herald/config"
)

func BenchmarkDecide(b *testing.B) {
	for _, c := range []struct{ nodes, addresses int }{{3, 2000}, {100, 10000}, {500, 10000}} {
		fresh := plain(c.nodes, c.addresses)
		fresh.Node = "node-001"
		settled := settle(fresh)
		local := settled
		snapshot := *settled.Config
		local.Config = &snapshot
		local.Config.Services = nil
		for i, s := range settled.Config.Services {
			s := *s
			s.TrafficPolicy = config.Local
			s.Endpoints.Ready = map[string]int{}
			for k := range 5 {
				s.Endpoints.Ready[fmt.Sprintf("node-%03d", (i+k*7)%c.nodes)] = 1
			}
			local.Config.Services = append(local.Config.Services, &s)
		}
		for name, f := range map[string]Facts{"fresh": fresh, "settled": settled, "local": local} {
			b.Run(fmt.Sprintf("%dn/%da/%s", c.nodes, c.addresses, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Decide(f)
				}
			})
		}
		b.Run(fmt.Sprintf("%dn/%da/explain", c.nodes, c.addresses), func(b *testing.B) {
			for b.Loop() {
				x := NewExplainer(settled)
				for _, s := range settled.Config.Services {
					x.Service(s.Key)
				}
			}
		})
	}
}

// BenchmarkDecider measures one small change at a time.
func BenchmarkDecider(b *testing.B) {
	for _, c := range []struct{ nodes, addresses int }{{5, 10000}, {500, 10000}} {
		f := settle(plain(c.nodes, c.addresses))
		f.Node = "node-001"
		for name, change := range map[string]func(f *Facts, i int){
			"nothing":   func(*Facts, int) {},
			"service":   changeOneService,
			"claim":     changeOneClaim,
			"selection": changeSelected,
			"node":      changeOneNode,
		} {
			b.Run(fmt.Sprintf("%dn/%da/%s", c.nodes, c.addresses, name), func(b *testing.B) {
				b.ReportAllocs()
				d, f, i := NewDecider(), f, 0
				d.Decide(f)
				for b.Loop() {
					b.StopTimer()
					change(&f, i)
					i++
					b.StartTimer()
					d.Decide(f)
				}
			})
		}
	}
}

// edit gives the facts a snapshot of their own, with lists of their own.
func edit(f *Facts) *config.Snapshot {
	snapshot := *f.Config
	f.Config = &snapshot
	snapshot.Services = slices.Clone(snapshot.Services)
	snapshot.Nodes = slices.Clone(snapshot.Nodes)
	snapshot.L2Advertisements = slices.Clone(snapshot.L2Advertisements)
	return &snapshot
}

func changeOneService(f *Facts, i int) {
	c := edit(f)
	at := i * 7919 % len(c.Services)
	s := *c.Services[at]
	s.Endpoints.Ready = map[string]int{"node-000": 1 + i}
	c.Services[at] = &s
}

func changeOneClaim(f *Facts, i int) {
	f.Members = slices.Clone(f.Members)
	m := &f.Members[i%len(f.Members)]
	m.Claims = maps.Clone(m.Claims)
	for a, c := range m.Claims {
		c.Counter++
		m.Claims[a] = c
		break
	}
}

// changeSelected takes one Service out of what the advertisement selects, as a label does.
func changeSelected(f *Facts, i int) {
	c := edit(f)
	keys := make([]config.Key, 0, len(c.Services))
	for n, s := range c.Services {
		if n != i%len(c.Services) {
			keys = append(keys, s.Key)
		}
	}
	adv := *c.L2Advertisements[0]
	adv.Services = config.Only(keys...)
	c.L2Advertisements[0] = &adv
}

func changeOneNode(f *Facts, i int) {
	c := edit(f)
	n := *c.Nodes[0]
	n.Drain = i%2 == 0
	c.Nodes[0] = &n
}
