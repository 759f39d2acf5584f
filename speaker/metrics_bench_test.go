package speaker

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// BenchmarkScrape reads the metrics of a node that announces 10,000 addresses by BGP and a fifth of them by ARP.
func BenchmarkScrape(b *testing.B) {
	n := full()
	desired := decide.Desired{}
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		var page []decide.Verdict
		for _, by := range []decide.Protocol{decide.L2, decide.BGP} {
			page = append(page, verdict(fmt.Sprint("s", i), a.String(), by, by == decide.BGP || i%5 == 0))
		}
		desired.Verdicts = append(desired.Verdicts, page)
		if i%5 == 0 {
			n.held = append(n.held, config.L2Holding{Address: a, Interface: "eth0"})
		}
		desired.Routes = append(desired.Routes, []decide.Route{{Prefix: netip.PrefixFrom(a, 32), Peers: []string{"r1"}}})
	}
	for _, announcements := range []bool{true, false} {
		b.Run(fmt.Sprintf("announcements=%t", announcements), func(b *testing.B) {
			m := n.metrics(announcements)
			m.take(desired)
			registry := prometheus.NewRegistry()
			registry.MustRegister(m)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := registry.Gather(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
