package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestAPIServerStopped stops the API server: what is announced stays so, a node that dies meanwhile is taken over, and afterwards the
// statuses say what is.
func TestAPIServerStopped(t *testing.T) {
	s := on(t)
	s.create("outage-l2", scene.SingleStack(corev1.IPv4Protocol))
	s.create("outage-bgp", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("routed"))
	_, l2 := s.announced("outage-l2")
	_, bgp := s.announced("outage-bgp")
	s.routed(bgp[0], s.allNodes()...)
	old := s.owner(l2[0])
	before := s.sessions()

	t.Cleanup(func() {
		s.must(s.Cluster.StartAPIServer(context.Background()))
		s.must(errors.Join(s.Node(old).PowerOn(), s.WaitSpeakers(context.Background())))
	})
	s.Cluster.StopAPIServer()
	s.stays("announcing without the API server", 3*time.Second, func(ctx context.Context) error {
		owner, err := s.Owner(ctx, l2[0])
		if err == nil && owner != old {
			err = fmt.Errorf("%s moved from %s to %s", l2[0], old, owner)
		}
		return errors.Join(err, s.routedNow(bgp[0], s.allNodes()...))
	})
	report := s.watched(l2[0], func() {
		s.must(s.Node(old).PowerOff())
		s.another(l2[0], old)
		time.Sleep(quiet)
	})
	s.describe(report)
	if gap := report.LongestGap().Duration(); gap > takeover {
		t.Errorf("nobody answered for %s", gap)
	}
	now := s.owner(l2[0])

	began := time.Now()
	s.must(s.Cluster.StartAPIServer(t.Context()))
	t.Logf("the API server was ready after %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	s.service("outage-l2", "said to be announced by "+now, func(o *corev1.Service) error {
		return errors.Join(scene.IsAnnounced(o), says(scene.Condition(o, scene.Announced), "ARP by "+now))
	})
	t.Logf("the status knew the new owner %s after that", time.Since(began).Round(time.Millisecond))
	if again := s.owner(l2[0]); again != now {
		t.Errorf("%s moved from %s to %s when the API server came back", l2[0], now, again)
	}
	after := s.sessions()
	for node, of := range before {
		if node == old {
			continue
		}
		if was, is := of["router-v4"], after[node]["router-v4"]; !was.Since.Equal(&is.Since) {
			t.Errorf("the session of %s began anew: since %s, before %s", node, is.Since, was.Since)
		}
	}
	s.worksForNew()
	s.must(s.Node(old).PowerOn())
	s.must(s.WaitSpeakers(t.Context()))
	s.routed(bgp[0], s.allNodes()...)
	if again := s.owner(l2[0]); again != now {
		t.Errorf("%s moved from %s to %s when the node came back", l2[0], now, again)
	}
}

// worksForNew checks that a Service made now is served.
func (s *stage) worksForNew() {
	s.t.Helper()
	s.create("new", scene.SingleStack(corev1.IPv4Protocol))
	ips := s.withAddress("new")
	s.owner(ips[0])
}

// TestNodeLosesAPIServer cuts one node off the API server only: it goes on as a full member.
func TestNodeLosesAPIServer(t *testing.T) {
	s := on(t)
	s.create("lonely", scene.SingleStack(corev1.IPv4Protocol), scene.Selecting(""))
	s.must(s.SetEndpoints(t.Context(), "lonely", "node-1", "node-2", "node-3"))
	_, ips := s.announced("lonely")
	old := s.owner(ips[0])
	node := s.Node(old)
	t.Cleanup(func() { s.must(errors.Join(node.Mgmt.Restore(), s.WaitSpeakers(context.Background()))) })
	s.must(node.Mgmt.Cut())
	s.stays("the node without an API server", 3*time.Second, func(ctx context.Context) error {
		return s.ownedBy(ctx, ips[0], old)
	})
	s.must(node.Mgmt.Restore())
	s.stays("the node that has it back", quiet, func(ctx context.Context) error { return s.ownedBy(ctx, ips[0], old) })
}

func (s *stage) ownedBy(ctx context.Context, ip netip.Addr, node string) error {
	owner, err := s.Owner(ctx, ip)
	if err == nil && owner != node {
		err = fmt.Errorf("%s is answered for by %s, not %s", ip, owner, node)
	}
	return err
}
