package whole

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/e2e/scene"
)

const (
	runsEnv = "HERALD_BENCH_RUNS"
	// spread is the number of addresses that 200 new connections per second and 32 streams go to.
	spread = 8
)

// under is the load on each of the addresses. A connection has to come about before a SYN that is lost would be sent again.
func under() scene.Load {
	return scene.Load{Every: spread * time.Second / 200, Limit: 900 * time.Millisecond, Streams: 32 / spread}
}

// TestPlanned upgrades all speakers, and drains nodes, under load that comes through a router.
func TestPlanned(t *testing.T) {
	s := open(t, 3)
	ips := s.services()
	times := figures.Number(t, runsEnv, 5)
	upgrade, drain := &planned{}, &planned{}
	for i := range times {
		s.pass(upgrade, ips, func() {
			values := fmt.Sprintf("speaker: {podAnnotations: {bench: %q}}", time.Now().Format(time.RFC3339Nano))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s.must(s.HelmUpgrade(ctx, s.Release, s.Namespace, values))
			s.must(s.WaitSpeakers(ctx))
			time.Sleep(2 * calm)
		})
		s.pass(drain, ips, func() {
			node := s.Nodes[i%len(s.Nodes)].Name
			s.taint(node, "heraldlb.io/drain=bench:NoSchedule")
			s.reached(ips, slices.DeleteFunc(s.names(), func(n string) bool { return n == node })...)
			time.Sleep(5 * time.Second) // its routes are gone
			s.taint(node, "heraldlb.io/drain-")
			s.reached(ips, s.names()...)
			time.Sleep(2 * calm)
		})
	}
	upgrade.add(&s.report, "Helm upgrade of all 3 speakers")
	drain.add(&s.report, "drain of a node, and its end")
	if upgrade.deleted > 0 {
		t.Errorf("the router deleted %d routes while speakers were upgraded", upgrade.deleted)
	}
}

// planned is what was seen of changes that nobody is to notice.
type planned struct {
	times, made, failed, streams, broken, deleted int
	slowest                                       time.Duration
}

func (p *planned) add(r *figures.Report, what string) {
	r.Add("0", fmt.Sprint(p.failed), "%s: of %d new connections, 200/s, failed; %d times", what, p.made, p.times)
	r.Add("", figures.Text(p.slowest), "%s: the slowest of them", what)
	r.Add("", fmt.Sprint(p.broken), "%s: of %d streams, broken", what, p.streams)
	r.Add("0", fmt.Sprint(p.deleted), "%s: routes deleted at the router", what)
}

func (s *stage) pass(p *planned, ips []netip.Addr, do func()) {
	s.t.Helper()
	seen, err := s.Pass(s.t.Context(), ips, under(), do)
	s.must(err)
	for _, a := range seen.Attempts {
		if a.Err != nil {
			s.t.Logf("%s: a connection failed: %v", a.Begin.Format("15:04:05.000"), a.Err)
		}
	}
	p.times++
	p.made += len(seen.Attempts)
	p.failed += seen.Attempts.Failed()
	p.streams += len(seen.Streams)
	p.broken += seen.Streams.Broken()
	p.deleted += len(seen.Deleted())
	p.slowest = max(p.slowest, seen.Slowest())
}

// services makes Services in front of the web servers, half of them of each family, and returns their addresses once the router has all nodes
// for each.
func (s *stage) services() []netip.Addr {
	s.t.Helper()
	var ips []netip.Addr
	for i := range spread {
		family := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}[i%2]
		name := fmt.Sprintf("planned-%d", i)
		_, err := s.Services().Create(s.t.Context(), scene.Service(name, scene.FromPool("routed"), scene.SingleStack(family)), metav1.CreateOptions{})
		s.must(err)
		s.until(50*time.Millisecond, name+" to be announced", func(ctx context.Context) (bool, error) {
			o, err := s.Services().Get(ctx, name, metav1.GetOptions{})
			if err != nil || scene.IsAnnounced(o) != nil {
				return false, err
			}
			own, err := scene.Ingress(o)
			ips = append(ips, own...)
			return err == nil, err
		})
	}
	s.reached(ips, s.names()...)
	return ips
}

func (s *stage) names() (list []string) {
	for _, n := range s.Nodes {
		list = append(list, n.Name)
	}
	return list
}

// reached waits until the router sends packets for each address to exactly these nodes.
func (s *stage) reached(ips []netip.Addr, nodes ...string) {
	s.t.Helper()
	for _, ip := range ips {
		s.until(20*time.Millisecond, fmt.Sprintf("the route to %s by %v", ip, nodes), func(context.Context) (bool, error) {
			hops, err := s.NextHops(ip)
			return slices.Equal(hops, nodes), err
		})
	}
}

func (s *stage) taint(node, taint string) {
	s.t.Helper()
	_, err := s.Kubectl(s.t.Context(), "taint", "node", node, taint)
	s.must(err)
}
