package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	drainTaint    = "heraldlb.io/drain"
	outOfService  = "node.kubernetes.io/out-of-service"
	excludeLabel  = "node.kubernetes.io/exclude-from-external-load-balancers"
	hostnameLabel = "kubernetes.io/hostname"
)

// l2pool is a pool with an advertisement of its own, for tests that want another one than the usual. %s: further fields of its spec.
const l2pool = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: special}
spec:
  addresses: [192.168.100.180-192.168.100.189, "fd00:100::180-fd00:100::189"]
  autoAssign: false
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: special}
spec:
  ipAddressPools: [special]
  %s
`

// special applies a pool and its advertisement for the time of the test; the same test may call it again to change the advertisement.
func (s *stage) special(fields string) {
	s.t.Helper()
	s.apply(fmt.Sprintf(l2pool, fields), "ipaddresspool/special", "l2advertisement/special")
}

// only makes a single-stack Service of IPv4 in front of the web servers and returns its address once it is answered for.
func (s *stage) only(name string, edits ...scene.Edit) netip.Addr {
	s.t.Helper()
	s.create(name, append([]scene.Edit{scene.SingleStack(corev1.IPv4Protocol)}, edits...)...)
	_, ips := s.announced(name)
	s.owner(ips[0])
	return ips[0]
}

func (s *stage) unlabel(node string, labels ...string) error {
	args := []string{"label", "node", node}
	for _, l := range labels {
		args = append(args, key(l)+"-")
	}
	_, err := s.Kubectl(context.Background(), args...)
	return err
}

func key(label string) string {
	for i := range label {
		if label[i] == '=' || label[i] == ':' {
			return label[:i]
		}
	}
	return label
}

// taint sets a taint of a node for the time of the test.
func (s *stage) taint(node, taint string) {
	s.t.Helper()
	_, err := s.Kubectl(s.t.Context(), "taint", "--overwrite", "node", node, taint)
	s.must(err)
	s.t.Cleanup(func() { _ = s.untaint(node, taint) }) // an error means that the test has done so
}

func (s *stage) untaint(node, taint string) error {
	_, err := s.Kubectl(context.Background(), "taint", "node", node, key(taint)+"-")
	return err
}

// staysWith looks for a while whether a node goes on answering alone.
func (s *stage) staysWith(ip netip.Addr, node string) {
	s.t.Helper()
	s.stays(node+" answers for "+ip.String(), quiet, func(ctx context.Context) error { return s.ownedBy(ctx, ip, node) })
}

// moves waits until a certain node answers alone.
func (s *stage) moves(ip netip.Addr, node string) {
	s.t.Helper()
	s.eventually(node+" to answer for "+ip.String(), func(ctx context.Context) error { return s.ownedBy(ctx, ip, node) })
}

// answerIn is how long answers to one question are waited for.
const answerIn = 150 * time.Millisecond

// cold is the longest time without an answer that a planned change may cost in these tests, on a machine that is busy; the aim is a twentieth of it.
const cold = 2 * time.Second

// handedOver checks that an address was answered for all the time, and moved once.
func (s *stage) handedOver(r probe.Report) {
	s.t.Helper()
	s.describe(r)
	if gap := r.LongestGap().Duration(); gap > cold {
		s.t.Errorf("nobody answered for %s", gap)
	}
	if r.Returned() && len(r.Spans()) > overlap {
		s.t.Errorf("the address went to and fro: %d spans", len(r.Spans()))
	}
}

// overlap is how often two nodes may answer by turns while one takes over from the other, which answers until it has.
const overlap = 40

// TestDrain asks a node to give up its addresses, in each way there is: another takes them over before it lets go, and when the node is asked
// for again nothing moves back.
func TestDrain(t *testing.T) {
	s := on(t)
	ip := s.only("drained")
	for _, tt := range []struct {
		name    string
		do      func(s *stage, node string)
		undo    func(s *stage, node string) error
		evicted bool
	}{
		{"taint", func(s *stage, node string) { s.taint(node, drainTaint+"=:NoSchedule") }, func(s *stage, node string) error { return s.untaint(node, drainTaint) }, false},
		{"exclude label", func(s *stage, node string) { s.label(node, excludeLabel, "yes") }, func(s *stage, node string) error { return s.unlabel(node, excludeLabel) }, false},
		{"out of service", func(s *stage, node string) { s.taint(node, outOfService+"=test:NoSchedule") }, func(s *stage, node string) error { return s.untaint(node, outOfService) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := on(t)
			old := s.owner(ip)
			s.handedOver(s.watched(ip, func() {
				tt.do(s, old)
				s.another(ip, old)
				time.Sleep(quiet)
			}))
			now := s.owner(ip)
			s.must(tt.undo(s, old))
			s.staysWith(ip, now)
		})
	}
	t.Run("cordon changes nothing", func(t *testing.T) {
		s := on(t)
		old := s.owner(ip)
		t.Cleanup(func() { s.must(s.cordon(old, "uncordon")) })
		s.must(s.cordon(old, "cordon"))
		s.staysWith(ip, old)
	})
}

// TestDrainOfAll drains every node: nobody answers, and the condition says why.
func TestDrainOfAll(t *testing.T) {
	s := on(t)
	ip := s.only("deserted")
	for _, n := range s.Nodes {
		s.label(n.Name, excludeLabel, "yes")
	}
	s.nobody(ip)
	s.service("deserted", "said to have no node", func(o *corev1.Service) error {
		return errors.Join(scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoEligibleNode"), says(scene.Condition(o, scene.Announced), excludeLabel, "node-1"))
	})
	s.must(s.unlabel("node-2", excludeLabel))
	s.moves(ip, "node-2")
}

// TestNetworkUnavailable sets a node's condition.
func TestNetworkUnavailable(t *testing.T) {
	s := on(t)
	ip := s.only("unreachable")
	old := s.owner(ip)
	set := func(status string) error {
		patch := fmt.Sprintf(`{"status": {"conditions": [{"type": "NetworkUnavailable", "status": %q, "reason": "Test", "message": "set by a test"}]}}`, status)
		_, err := s.Kubectl(context.Background(), "patch", "node", old, "--subresource=status", "-p", patch)
		return err
	}
	t.Cleanup(func() { s.must(set("False")) })
	s.must(set("True"))
	s.another(ip, old)
	now := s.owner(ip)
	s.must(set("False"))
	s.staysWith(ip, now)
}

// TestPreferences weighs nodes: the heaviest sum wins, a label that flips changes the class but moves nothing without failbackDelay.
func TestPreferences(t *testing.T) {
	s := on(t)
	prefer := func(weight int, node string) string {
		return fmt.Sprintf("{weight: %d, preference: {matchLabels: {%s: %s}}}", weight, hostnameLabel, node)
	}
	s.special("preferredNodeSelectors: [" + prefer(40, "node-1") + ", " + prefer(50, "node-2") + ", " + prefer(30, "node-3") + ", " + prefer(30, "node-3") + "]")
	ip := s.only("preferred", scene.FromPool("special"))
	s.moves(ip, "node-3") // 30 + 30
	s.taint("node-3", drainTaint+"=:NoSchedule")
	s.moves(ip, "node-2")
	s.must(s.untaint("node-3", drainTaint))
	s.staysWith(ip, "node-2")

	// The preferred node has no endpoint: of those that have one, the next best.
	s.create("preferred-local", scene.FromPool("special"), scene.SingleStack(corev1.IPv4Protocol), scene.Local, scene.Selecting(""))
	s.must(s.SetEndpoints(t.Context(), "preferred-local", "node-1"))
	_, local := s.announced("preferred-local")
	s.moves(local[0], "node-1")
	s.must(s.SetEndpoints(t.Context(), "preferred-local", "node-2", "node-3"))
	s.moves(local[0], "node-3")
}

// TestFailback gives an address back to its first choice once that has been there for the delay; a node that flaps keeps waiting.
func TestFailback(t *testing.T) {
	s := on(t)
	const delay = 8 * time.Second
	s.special(fmt.Sprintf("failbackDelay: %s\n  preferredNodeSelectors: [{weight: 10, preference: {matchLabels: {%s: node-2}}}]", delay, hostnameLabel))
	ip := s.only("failback", scene.FromPool("special"))
	s.moves(ip, "node-2")
	node := s.Node("node-2")
	t.Cleanup(func() { s.must(errors.Join(node.LAN.Restore(), s.WaitSpeakers(context.Background()))) })
	s.must(node.LAN.Cut())
	s.another(ip, "node-2")
	now := s.owner(ip)
	for range 2 { // back for a moment only
		s.must(node.LAN.Restore())
		s.stays("the second choice answers", delay/4, func(ctx context.Context) error { return s.ownedBy(ctx, ip, now) })
		s.must(node.LAN.Cut())
		time.Sleep(time.Second)
	}
	restored := time.Now()
	s.handedOver(s.watched(ip, func() {
		s.must(node.LAN.Restore())
		s.moves(ip, "node-2")
		time.Sleep(quiet)
	}))
	if took := time.Since(restored); took < delay {
		t.Errorf("it went back after %s, not after %s", took, delay)
	}
	s.staysWith(ip, "node-2")
}

// TestSharedAddress gives two Services one address, with endpoints on different nodes: one node answers, and it does not matter whose
// endpoints go.
func TestSharedAddress(t *testing.T) {
	s := on(t)
	port := func(n int32) scene.Edit { return func(o *corev1.Service) { o.Spec.Ports[0].Port = n } }
	var ips []netip.Addr
	for i, name := range []string{"shared-a", "shared-b"} {
		edits := []scene.Edit{scene.SingleStack(corev1.IPv4Protocol), scene.Selecting(""), scene.Annotate("heraldlb.io/allow-shared-ip", "l2"), port(int32(80 + i))}
		if i > 0 {
			edits = append(edits, scene.Annotate(scene.IPsAnnotation, ips[0].String()))
		}
		s.create(name, edits...)
		s.must(s.SetEndpoints(t.Context(), name, s.Nodes[i].Name))
		_, own := s.announced(name)
		ips = append(ips, own...)
	}
	if ips[0] != ips[1] {
		t.Fatalf("they do not share: %v", ips)
	}
	owner := s.owner(ips[0])
	s.must(s.SetEndpoints(t.Context(), "shared-a"))
	s.staysWith(ips[0], owner)
	s.must(s.SetEndpoints(t.Context(), "shared-b"))
	s.nobody(ips[0])
}

// TestDisjointSelectors has advertisements whose selectors leave nobody: nobody answers, and the reason is told.
func TestDisjointSelectors(t *testing.T) {
	s := on(t)
	s.special("nodeSelectors: [{matchLabels: {no: such}}]")
	s.create("disjoint", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("special"))
	ip := s.withAddress("disjoint")[0]
	s.service("disjoint", "said to have no node", func(o *corev1.Service) error {
		return scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoEligibleNode")
	})
	s.nobody(ip)
	s.special("serviceSelectors: [{matchLabels: {no: such}}]")
	s.service("disjoint", "said not to be advertised", func(o *corev1.Service) error {
		return scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoAdvertisement")
	})
	s.nobody(ip)
	s.special("nodeSelectors: [{matchLabels: {" + hostnameLabel + ": node-3}}]\n  serviceSelectors: []")
	s.moves(ip, "node-3")
}
