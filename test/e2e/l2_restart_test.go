package e2e

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/probe"
)

// restarted ends the speaker of a node as a kubelet does that starts its container again, and waits until it runs.
func (s *stage) restarted(node string) {
	s.t.Helper()
	k := s.Node(node).Kubelet()
	before, err := k.Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	s.signal(node, unix.SIGTERM)
	s.eventually("the speaker to run again", func(context.Context) error {
		now, err := k.Find(s.Namespace, s.Name("speaker"), "")
		if err == nil && now.PID == before.PID {
			err = errors.New("it has not ended")
		}
		return err
	})
}

// reached waits until a client gets a page from an address.
func (s *stage) reached(ip netip.Addr) {
	s.t.Helper()
	s.eventually("a page", func(ctx context.Context) error { _, err := s.Get(ctx, s.Client, ip); return err })
}

// unnoticed does something while a client asks for an address and holds connections to it: the answer is the same all the time, and no
// connection breaks.
func (s *stage) unnoticed(ip netip.Addr, do func()) {
	s.t.Helper()
	s.reached(ip)
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	opened := make(chan struct{})
	streams := make(chan probe.Streams, 1)
	go func() {
		streams <- probe.HoldStreams(ctx, s.Client, "http://"+ip.String()+"/hold?every=100ms", 8, func() { close(opened) })
	}()
	<-opened
	report := s.watched(ip, do)
	stop()
	s.describe(report)
	if macs := report.MACs(); len(macs) != 1 {
		s.t.Errorf("the address was at %v", macs)
	}
	if gap := report.LongestGap().Duration(); gap > cold {
		s.t.Errorf("nobody answered for %s", gap)
	}
	for _, stream := range <-streams {
		if stream.Err != nil {
			s.t.Errorf("a connection broke: %v", stream.Err)
		}
	}
}

// TestSpeakerRestarted restarts the speaker that answers, in place: the address stays where it is, with the same hardware address, no connection
// breaks, and the router keeps its route.
func TestSpeakerRestarted(t *testing.T) {
	s := on(t)
	ip := s.only("restarted")
	s.create("restarted-bgp", scene.FromPool("routed"), scene.SingleStack(corev1.IPv4Protocol))
	_, routed := s.announced("restarted-bgp")
	s.routed(routed[0], s.allNodes()...)
	owner := s.owner(ip)
	s.unnoticed(ip, func() {
		s.restarted(owner)
		s.stays("the route by all nodes", quiet, func(context.Context) error { return s.routedNow(routed[0], s.allNodes()...) })
		s.must(s.WaitSpeakers(s.t.Context()))
		time.Sleep(quiet)
	})
	s.staysWith(ip, owner)
}

// TestSpeakersUpgraded lets Helm replace all speakers, one after another, by such as take a cordon for a drain.
func TestSpeakersUpgraded(t *testing.T) {
	s := on(t)
	ip := s.only("upgraded")
	owner := s.owner(ip)
	t.Cleanup(func() {
		s.must(s.HelmUpgrade(context.Background(), s.Release, s.Namespace, ""))
		s.must(s.WaitSpeakers(context.Background()))
	})
	s.unnoticed(ip, func() {
		s.must(s.HelmUpgrade(t.Context(), s.Release, s.Namespace, "speaker: {drainOnCordon: true}"))
		s.must(s.WaitSpeakers(t.Context()))
		time.Sleep(quiet)
	})
	s.staysWith(ip, owner)
	t.Cleanup(func() { s.must(s.cordon(owner, "uncordon")) })
	s.handedOver(s.watched(ip, func() {
		s.must(s.cordon(owner, "cordon"))
		s.another(ip, owner)
		time.Sleep(quiet)
	}))
	now := s.owner(ip)
	s.must(s.cordon(owner, "uncordon"))
	s.staysWith(ip, now)
}

func (s *stage) cordon(node, verb string) error {
	_, err := s.Kubectl(context.Background(), verb, node)
	return err
}

// TestRestartWithoutAPIServer restarts the speaker that answers while there is no API server: it takes up what it knew.
func TestRestartWithoutAPIServer(t *testing.T) {
	s := on(t)
	ip := s.only("resumed")
	owner := s.owner(ip)
	t.Cleanup(func() {
		s.must(s.Cluster.StartAPIServer(context.Background()))
		s.must(s.WaitSpeakers(context.Background()))
	})
	s.reached(ip) // kube-proxy knows it
	s.Cluster.StopAPIServer()
	time.Sleep(quiet)
	s.unnoticed(ip, func() {
		s.restarted(owner)
		time.Sleep(2 * quiet)
	})
	s.staysWith(ip, owner)
	// It takes part like the others: what another had is taken over.
	s.must(s.Node(owner).LAN.Cut())
	t.Cleanup(func() { s.must(s.Node(owner).LAN.Restore()) })
	s.another(ip, owner)
	now := s.owner(ip)
	s.restarted(now)
	s.moves(ip, now)
	s.must(s.Node(owner).LAN.Restore())
	s.must(s.Cluster.StartAPIServer(t.Context()))
	s.must(s.WaitSpeakers(t.Context()))
	s.staysWith(ip, now)
}

// TestSpeakerOnNodeThatDies takes the power from a node whose speaker is being restarted: its addresses do not wait for it.
func TestSpeakerOnNodeThatDies(t *testing.T) {
	s := on(t)
	ip := s.only("dying")
	owner := s.owner(ip)
	node := s.Node(owner)
	t.Cleanup(func() { s.must(errors.Join(node.PowerOn(), s.WaitSpeakers(context.Background()))) })
	report := s.watched(ip, func() {
		s.signal(owner, unix.SIGTERM)
		time.Sleep(50 * time.Millisecond)
		s.must(node.PowerOff())
		s.another(ip, owner)
	})
	s.describe(report)
	if gap := report.LongestGap().Duration(); gap > takeover {
		t.Errorf("nobody answered for %s", gap)
	}
}
