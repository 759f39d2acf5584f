package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// behindRouter is the load from behind the router on each address. A user would give up after such a time; that no packet gets lost on the way
// is not for a machine that is busy with other tests to say; test/bench/bgp measures it.
func behindRouter() scene.Load {
	return scene.Load{Every: 40 * time.Millisecond, Limit: 5 * time.Second, Streams: 4}
}

// passing puts load on addresses from behind the router while something is done, and checks that every new connection comes about, but for those
// that the router diverts in the midst of it.
func (s *stage) passing(ips []netip.Addr, do func()) *scene.Passage {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	p, err := s.Pass(ctx, ips, behindRouter(), do)
	s.must(err)
	for _, a := range p.Attempts {
		if a.Err == nil {
			continue
		}
		if c := p.Diverted(a); c != nil {
			s.t.Logf("a connection was diverted: %v, begun %s before, and failed %s after %s", a.Err, c.Time.Sub(a.Begin), a.Begin.Add(a.Took).Sub(c.Time), c.Route)
			continue
		}
		s.t.Errorf("a connection failed %s after it was begun at %s: %v", a.Took, a.Begin.Format(time.StampMicro), a.Err)
	}
	s.t.Logf("%d new connections, %d failed, the slowest took %s; %d streams, %d broken; %d route changes at the router",
		len(p.Attempts), p.Attempts.Failed(), p.Slowest().Round(time.Millisecond), len(p.Streams), p.Streams.Broken(), len(p.Changes))
	return p
}

// routedAddresses makes Services of the pool "routed", one of each family, and returns their addresses once the router has all nodes for them.
func (s *stage) routedAddresses(prefix string) []netip.Addr {
	s.t.Helper()
	var ips []netip.Addr
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		name := prefix + "-" + map[corev1.IPFamily]string{corev1.IPv4Protocol: "v4", corev1.IPv6Protocol: "v6"}[family]
		s.create(name, scene.FromPool("routed"), scene.SingleStack(family))
		_, own := s.announced(name)
		ips = append(ips, own...)
	}
	for _, ip := range ips {
		s.routed(ip, s.allNodes()...)
	}
	return ips
}

// TestSpeakersUpgradedBehindRouter lets Helm replace all speakers, one after another, under load that comes through the router. The router
// keeps the routes by all nodes, so every connection comes about, and those there are last.
func TestSpeakersUpgradedBehindRouter(t *testing.T) {
	s := on(t)
	ips := s.routedAddresses("upgraded")
	before := s.sessions()
	t.Cleanup(func() {
		s.must(s.HelmUpgrade(context.Background(), s.Release, s.Namespace, ""))
		s.must(s.WaitSpeakers(context.Background()))
	})
	p := s.passing(ips, func() {
		s.must(s.HelmUpgrade(t.Context(), s.Release, s.Namespace, "speaker: {podAnnotations: {upgrade: behind-router}}"))
		s.must(s.WaitSpeakers(t.Context()))
		time.Sleep(quiet)
	})
	for _, stream := range p.Streams {
		if stream.Err != nil {
			t.Errorf("a connection broke: %v", stream.Err)
		}
	}
	for _, c := range p.Changes {
		if c.Deleted || len(c.Route.NextHops) < len(s.Nodes) {
			t.Errorf("the router changed a route: deleted=%v %s", c.Deleted, c.Route)
		}
	}
	for node, of := range s.sessions() {
		for peer, session := range of {
			if was := before[node][peer]; session.Since.Equal(&was.Since) {
				t.Errorf("the session of %s to %s has not been made anew: the speaker was not replaced", node, peer)
			}
		}
	}
	for _, ip := range ips {
		s.must(s.routedNow(ip, s.allNodes()...))
	}
}

// TestDrainBehindRouter drains a node, and gives it back, under load that comes through the router: new connections go elsewhere before the
// node's routes are gone, and its sessions stay.
func TestDrainBehindRouter(t *testing.T) {
	s := on(t)
	ips := s.routedAddresses("drained")
	before := s.sessions()
	p := s.passing(ips, func() {
		s.taint("node-2", drainTaint+"=:NoSchedule")
		for _, ip := range ips {
			s.routed(ip, "node-1", "node-3")
		}
		s.withdrawn("node-2")
		s.must(s.untaint("node-2", drainTaint))
		for _, ip := range ips {
			s.routed(ip, s.allNodes()...)
		}
		time.Sleep(quiet)
	})
	for _, c := range p.Deleted() {
		t.Errorf("the router took out %s", c.Route.Prefix)
	}
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// withdrawn waits until a node's sessions are up and tell nothing any more.
func (s *stage) withdrawn(node string) {
	s.t.Helper()
	s.eventually(node+" to advertise nothing", func(ctx context.Context) error {
		of, err := s.Sessions(ctx, node)
		if err != nil {
			return err
		}
		for peer, session := range of {
			if a := session.Advertised; session.State != "Established" || a.IPv4+a.IPv6 > 0 {
				return fmt.Errorf("the session to %s is %s with %+v", peer, session.State, a)
			}
		}
		return nil
	})
}

// TestWeightsBehindRouter checks that the router spreads flows in proportion to the ready endpoints on each node, and follows them.
func TestWeightsBehindRouter(t *testing.T) {
	s := on(t)
	s.create("weighted", scene.FromPool("routed"), scene.SingleStack(corev1.IPv4Protocol), scene.Local, scene.Selecting(""))
	ip := s.withAddress("weighted")[0]
	s.must(s.SetEndpoints(t.Context(), "weighted", "node-1", "node-1", "node-1", "node-2"))
	s.shares(ip, map[string]float64{"node-1": 1. / 2, "node-2": 1. / 2}) // nobody has asked for weights
	before := s.sessions()
	s.reconfigure(object("BGPAdvertisement", "routed", `ipAddressPools: [routed], weightByEndpoints: true`))
	s.judged(scene.BGPAdvertisements, "routed", metav1.ConditionTrue, "")
	for _, step := range []struct {
		endpoints []string
		shares    map[string]float64
	}{
		{[]string{"node-1", "node-1", "node-1", "node-2"}, map[string]float64{"node-1": 3. / 4, "node-2": 1. / 4}},
		{[]string{"node-1", "node-2", "node-3", "node-3"}, map[string]float64{"node-1": 1. / 4, "node-2": 1. / 4, "node-3": 1. / 2}},
		{[]string{"node-1", "node-2"}, map[string]float64{"node-1": 1. / 2, "node-2": 1. / 2}},
		{[]string{"node-2"}, map[string]float64{"node-2": 1}},
	} {
		s.must(s.SetEndpoints(t.Context(), "weighted", step.endpoints...))
		s.shares(ip, step.shares)
	}
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// shares waits until the router spreads the flows to an address over nodes like this.
func (s *stage) shares(ip netip.Addr, want map[string]float64) {
	s.t.Helper()
	const near = 0.02 // FRR has weights from 1 to 100
	s.eventually(fmt.Sprintf("the router to spread %s as %v", ip, want), func(context.Context) error {
		got, err := s.Shares(ip)
		if err != nil {
			return err
		}
		for node, share := range want {
			if d := got[node] - share; d > near || d < -near || len(got) != len(want) {
				return fmt.Errorf("it spreads as %v", got)
			}
		}
		return nil
	})
}
