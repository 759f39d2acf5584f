package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/test/e2e/scene"
)

// sessions are all BGP sessions there are, by node and peer.
type sessions map[string]map[string]v1beta1.SpeakerBGPSession

func (s *stage) sessions() sessions {
	s.t.Helper()
	all := sessions{}
	for _, n := range s.Nodes {
		of, err := s.Sessions(s.t.Context(), n.Name)
		s.must(err)
		all[n.Name] = of
	}
	return all
}

// undisturbed checks that the sessions to a peer are up since the same moment as before.
func (s *stage) undisturbed(before sessions, peer string) {
	s.t.Helper()
	now := s.sessions()
	for node, of := range before {
		was, is := of[peer], now[node][peer]
		if is.State != "Established" || !is.Since.Equal(&was.Since) {
			s.t.Errorf("the session of %s to %s was %s since %s and is %s since %s", node, peer, was.State, was.Since, is.State, is.Since)
		}
	}
}

// TestTrafficPolicyLocal moves the endpoints of a Service with externalTrafficPolicy: Local about: the route follows them, and no
// session takes notice.
func TestTrafficPolicyLocal(t *testing.T) {
	s := on(t)
	before := s.sessions()
	s.create("bgp-local", scene.FromPool("routed"), scene.SingleStack(corev1.IPv4Protocol), scene.Local, scene.Selecting(""))
	ip := s.withAddress("bgp-local")[0]
	s.service("bgp-local", "unannounced without endpoints", func(o *corev1.Service) error {
		return scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoReadyEndpoints")
	})
	for _, nodes := range [][]string{{"node-1", "node-2"}, {"node-3"}, {"node-2", "node-3"}, nil, {"node-1"}} {
		s.must(s.SetEndpoints(t.Context(), "bgp-local", nodes...))
		took := s.routed(ip, nodes...)
		t.Logf("endpoints on %v: the router followed after %s", nodes, took)
		s.service("bgp-local", fmt.Sprintf("described with endpoints on %v", nodes), func(o *corev1.Service) error {
			if len(nodes) == 0 {
				return scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoReadyEndpoints")
			}
			return scene.IsAnnounced(o)
		})
	}
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// TestTrafficPolicyLocalLayer2 is the same on the LAN: the node that answers is one that has an endpoint.
func TestTrafficPolicyLocalLayer2(t *testing.T) {
	s := on(t)
	s.create("l2-local", scene.SingleStack(corev1.IPv4Protocol), scene.Local, scene.Selecting(""))
	ip := s.withAddress("l2-local")[0]
	s.nobody(ip)
	for _, node := range []string{"node-2", "node-1", "node-3"} {
		s.must(s.SetEndpoints(t.Context(), "l2-local", node))
		s.eventually(node+" to answer", func(ctx context.Context) error {
			owner, err := s.Owner(ctx, ip)
			if err == nil && owner != node {
				err = fmt.Errorf("%s answers", owner)
			}
			return err
		})
	}
	s.must(s.SetEndpoints(t.Context(), "l2-local"))
	s.nobody(ip)
}

// TestTrafficPolicyCluster checks that one ready endpoint anywhere suffices for all nodes, and none withdraws everywhere.
func TestTrafficPolicyCluster(t *testing.T) {
	s := on(t)
	s.create("bgp-cluster", scene.FromPool("routed"), scene.SingleStack(corev1.IPv4Protocol), scene.Selecting(""))
	ip := s.withAddress("bgp-cluster")[0]
	for _, nodes := range [][]string{{"node-2"}, nil, {"node-1", "node-3"}} {
		s.must(s.SetEndpoints(t.Context(), "bgp-cluster", nodes...))
		if len(nodes) > 0 {
			s.routed(ip, s.allNodes()...)
		} else {
			s.routed(ip)
		}
	}
}

// TestPeers takes peers away, restricts them to nodes and gives them back: routes and sessions of the others stay as they are.
func TestPeers(t *testing.T) {
	s := on(t)
	s.create("bgp-peers", scene.FromPool("routed"))
	_, ips := s.announced("bgp-peers")
	for _, ip := range ips {
		s.routed(ip, s.allNodes()...)
	}
	v4, v6 := ips[0], ips[1]
	before := s.sessions()
	t.Run("deleted and made again", func(t *testing.T) {
		s := on(t)
		s.reconfigure(scene.Config) // what this test takes away comes back
		_, err := s.Kubectl(t.Context(), "delete", "bgppeer", "router-v6")
		s.must(err)
		s.routed(v6)
		s.must(s.routedNow(v4, s.allNodes()...))
		s.sessionsOf("router-v6")
		s.service("bgp-peers", "told that nobody announces its IPv6 address", func(o *corev1.Service) error {
			return errors.Join(scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoEligibleNode"), says(scene.Condition(o, scene.Announced), v6.String()))
		})
		s.must(s.Apply(t.Context(), scene.Config))
		s.routed(v6, s.allNodes()...)
		s.sessionsOf("router-v6", s.allNodes()...)
		s.announced("bgp-peers")
	})
	t.Run("on some nodes", func(t *testing.T) {
		s := on(t)
		s.label("node-2", "rack", "a")
		s.reconfigure(peerV6(`nodeSelectors: [{matchLabels: {rack: a}}]`))
		s.routed(v6, "node-2")
		s.sessionsOf("router-v6", "node-2")
		s.label("node-3", "rack", "a")
		s.routed(v6, "node-2", "node-3")
		s.label("node-2", "rack", "")
		s.routed(v6, "node-3")
		s.sessionsOf("router-v6", "node-3")
		s.must(s.routedNow(v4, s.allNodes()...))
	})
	s.undisturbed(before, "router-v4")
}

// TestPeerWithWrongASN checks that a user who mistyped an AS number can read what the router said to it.
func TestPeerWithWrongASN(t *testing.T) {
	s := on(t)
	s.create("bgp-asn", scene.FromPool("routed"))
	_, ips := s.announced("bgp-asn")
	s.routed(ips[1], s.allNodes()...)
	before := s.sessions()
	s.reconfigure(peerV6(`myASN: 64999`))
	s.routed(ips[1])
	for _, n := range s.Nodes {
		s.eventually(n.Name+" to say why its session is down", func(ctx context.Context) error {
			of, err := s.Sessions(ctx, n.Name)
			if err != nil {
				return err
			}
			session := of["router-v6"]
			if session.State == "Established" || session.LastError == "" {
				return fmt.Errorf("the session is %s: %q", session.State, session.LastError)
			}
			return nil
		})
		t.Logf("%s says: %s", n.Name, s.sessions()[n.Name]["router-v6"].LastError)
	}
	o := s.service("bgp-asn", "told that its peer is down", func(o *corev1.Service) error {
		return errors.Join(scene.Has(o, scene.Announced, metav1.ConditionFalse, "PeersDown"), says(scene.Condition(o, scene.Announced), ips[1].String(), "router-v6"))
	})
	t.Logf("the Service says: %s", scene.Condition(o, scene.Announced).Message)
	s.must(s.Apply(t.Context(), scene.Config))
	s.routed(ips[1], s.allNodes()...)
	s.announced("bgp-asn")
	s.undisturbed(before, "router-v4")
}

// TestAdvertisementsLeaveSessionsAlone checks that what happens to Services and advertisements never resets a session.
func TestAdvertisementsLeaveSessionsAlone(t *testing.T) {
	s := on(t)
	s.create("bgp-adv", scene.FromPool("routed"))
	_, ips := s.announced("bgp-adv")
	before := s.sessions()
	s.label("node-1", "announce", "yes")
	s.reconfigure(`
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec:
  ipAddressPools: [routed]
  nodeSelectors: [{matchLabels: {announce: "yes"}}]
`)
	for _, ip := range ips {
		s.routed(ip, "node-1")
	}
	_, err := s.Kubectl(t.Context(), "delete", "bgpadvertisement", "routed")
	s.must(err)
	for _, ip := range ips {
		s.routed(ip)
	}
	s.service("bgp-adv", "told that nothing advertises it", func(o *corev1.Service) error {
		return scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoAdvertisement")
	})
	s.must(s.Apply(t.Context(), scene.Config))
	for _, ip := range ips {
		s.routed(ip, s.allNodes()...)
	}
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// peerV6 is the peer router-v6 with something else in its spec.
func peerV6(more string) string {
	if !strings.HasPrefix(more, "myASN:") {
		more = "myASN: 64513\n  " + more
	}
	return `
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: router-v6}
spec:
  peerASN: 64512
  peerAddress: "fd00:100::1"
  ` + more + "\n"
}

// sessionsOf waits until exactly these nodes report a session to a peer, and that it is up.
func (s *stage) sessionsOf(peer string, nodes ...string) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("sessions to %s by %v", peer, nodes), func(ctx context.Context) error {
		for _, n := range s.Nodes {
			of, err := s.Sessions(ctx, n.Name)
			if err != nil {
				return err
			}
			session, has := of[peer]
			if want := slices.Contains(nodes, n.Name); has != want || want && session.State != "Established" {
				return fmt.Errorf("%s reports %+v", n.Name, of)
			}
		}
		return nil
	})
}

// label labels a node for the time of the test; an empty value takes the label away.
func (s *stage) label(node, key, value string) {
	s.t.Helper()
	set := func(ctx context.Context, what string) error {
		_, err := s.Kubectl(ctx, "label", "node", node, "--overwrite", what)
		return err
	}
	if value == "" {
		s.must(set(s.t.Context(), key+"-"))
		return
	}
	s.t.Cleanup(func() { s.must(set(context.Background(), key+"-")) })
	s.must(set(s.t.Context(), key+"="+value))
}
