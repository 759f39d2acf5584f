package decide

import (
	"fmt"
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
