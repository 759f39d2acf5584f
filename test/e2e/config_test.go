package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// pool is an IPAddressPool from which only those get addresses that ask for it.
func pool(name string, addresses ...string) string {
	return fmt.Sprintf(`
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: %s}
spec: {autoAssign: false, addresses: [%s]}
`, name, quoted(addresses))
}

// advertisement is an L2Advertisement or BGPAdvertisement; more is the rest of its spec.
func advertisement(kind, name, more string) string {
	return fmt.Sprintf(`
---
apiVersion: heraldlb.io/v1beta1
kind: %s
metadata: {name: %s}
spec: {%s}
`, kind, name, more)
}

func quoted(list []string) string {
	text := ""
	for _, s := range list {
		text += fmt.Sprintf("%q,", s)
	}
	return text
}

// TestOverlappingPools makes a pool that overlaps an older one: it alone is left out, says why, and is taken in when it is mended.
func TestOverlappingPools(t *testing.T) {
	s := on(t)
	s.create("elder", scene.SingleStack(corev1.IPv4Protocol))
	_, before := s.announced("elder")
	s.apply(pool("younger", "192.168.100.230-192.168.100.250"), "ipaddresspool/younger")
	s.judged(scene.Pools, "younger", metav1.ConditionFalse, "OverlappingPool", "IPAddressPool lan")
	s.judged(scene.Pools, "lan", metav1.ConditionTrue, "")

	s.create("from-elder", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("lan"))
	s.announced("from-elder")
	s.create("from-younger", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("younger"))
	s.refused("from-younger", "NoPool", "younger")
	if now := s.withAddress("elder"); !slices.Equal(now, before) {
		t.Errorf("a Service of the older pool had %v and has %v", before, now)
	}

	s.must(s.Apply(t.Context(), pool("younger", "192.168.100.240-192.168.100.250")))
	s.judged(scene.Pools, "younger", metav1.ConditionTrue, "")
	ips := s.withAddress("from-younger")
	s.must(inPool(ips[0], "192.168.100.240-192.168.100.250"))
}

// TestLastGoodPool makes a bad edit of a good pool: the last good version stays in force and says so.
func TestLastGoodPool(t *testing.T) {
	s := on(t)
	s.apply(pool("edited", "192.168.100.240-192.168.100.243"), "ipaddresspool/edited")
	s.judged(scene.Pools, "edited", metav1.ConditionTrue, "")
	s.create("of-edited", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("edited"))
	before := s.withAddress("of-edited")
	s.must(s.Apply(t.Context(), pool("edited", "192.168.100.230-192.168.100.243")))
	s.judged(scene.Pools, "edited", metav1.ConditionFalse, "OverlappingPool", "lan", "stays in force")
	s.create("of-edited-2", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("edited"))
	ips := s.withAddress("of-edited-2")
	s.must(inPool(ips[0], "192.168.100.240-192.168.100.243"))
	if now := s.withAddress("of-edited"); !slices.Equal(now, before) {
		t.Errorf("the Service had %v and has %v", before, now)
	}
	s.must(s.Apply(t.Context(), pool("edited", "192.168.100.240-192.168.100.245")))
	s.judged(scene.Pools, "edited", metav1.ConditionTrue, "")
}

// TestUnknownNames names a pool and a peer that are not there: the object says so, goes on with what is there, and takes the missing
// in when it appears.
func TestUnknownNames(t *testing.T) {
	s := on(t)
	s.create("named-l2", scene.SingleStack(corev1.IPv4Protocol))
	s.create("named-bgp", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("routed"))
	_, l2 := s.announced("named-l2")
	_, bgp := s.announced("named-bgp")
	owner := s.owner(l2[0])
	s.routed(bgp[0], s.allNodes()...)
	before := s.sessions()

	s.reconfigure(advertisement("L2Advertisement", "lan", "ipAddressPools: [lan, later]"))
	s.reconfigure(advertisement("BGPAdvertisement", "routed", "ipAddressPools: [routed, later], peers: [router-v4, router-v6, tor-9]"))
	s.judged(scene.L2Advertisements, "lan", metav1.ConditionFalse, "UnknownPool", "later")
	s.judged(scene.BGPAdvertisements, "routed", metav1.ConditionFalse, "", "later", "tor-9")
	if now := s.owner(l2[0]); now != owner {
		t.Errorf("%s moved from %s to %s", l2[0], owner, now)
	}
	s.must(s.routedNow(bgp[0], s.allNodes()...))

	s.apply(pool("later", "192.168.100.245", "fd00:100::245"), "ipaddresspool/later")
	s.judged(scene.L2Advertisements, "lan", metav1.ConditionTrue, "")
	s.judged(scene.BGPAdvertisements, "routed", metav1.ConditionFalse, "UnknownPeer", "tor-9")
	s.create("from-later", scene.FromPool("later"))
	_, ips := s.announced("from-later")
	s.owner(ips[0])
	s.routed(ips[0], s.allNodes()...)

	s.apply(`
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: tor-9}
spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.168.100.99, nodeSelectors: [{matchLabels: {rack: none}}]}
`, "bgppeer/tor-9")
	s.judged(scene.BGPAdvertisements, "routed", metav1.ConditionTrue, "")
	s.undisturbed(before, "router-v4")
	s.undisturbed(before, "router-v6")
}

// TestAnyOrder applies a whole configuration back to front.
func TestAnyOrder(t *testing.T) {
	s := on(t)
	s.create("early", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("any-order"))
	s.refused("early", "NoPool", "any-order")
	s.apply(advertisement("BGPAdvertisement", "any-order", "ipAddressPools: [any-order]"), "bgpadvertisement/any-order")
	s.judged(scene.BGPAdvertisements, "any-order", metav1.ConditionFalse, "UnknownPool", "any-order")
	s.apply(pool("any-order", "203.0.113.128/28"), "ipaddresspool/any-order")
	s.judged(scene.BGPAdvertisements, "any-order", metav1.ConditionTrue, "")
	_, ips := s.announced("early")
	s.must(inPool(ips[0], "203.0.113.128/28"))
	s.routed(ips[0], s.allNodes()...)
}

// TestPoolDeleted takes a pool away from under its Services: they lose their addresses, and say so; others do not notice.
func TestPoolDeleted(t *testing.T) {
	s := on(t)
	s.apply(pool("doomed", "192.168.100.246"), "ipaddresspool/doomed")
	s.create("of-doomed", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("doomed"))
	s.create("bystander", scene.SingleStack(corev1.IPv4Protocol))
	ips := s.withAddress("of-doomed")
	_, others := s.announced("bystander")
	owner := s.owner(others[0])
	_, err := s.Kubectl(t.Context(), "delete", "ipaddresspool", "doomed")
	s.must(err)
	s.refused("of-doomed", "NoPool", "doomed")
	s.hasEvents("of-doomed", "AddressReleased", ips)
	if now := s.owner(others[0]); now != owner {
		t.Errorf("the bystander moved from %s to %s", owner, now)
	}
}

// TestNodeAddressInPool wants the pool to be flagged, and the address never to be given out.
func TestNodeAddressInPool(t *testing.T) {
	s := on(t)
	node := s.Nodes[0]
	address := node.Addresses[0]
	s.apply(pool("greedy", address.String(), "192.168.100.247"), "ipaddresspool/greedy")
	s.judged(scene.Pools, "greedy", metav1.ConditionFalse, "NodeAddress", node.Name)
	s.create("of-greedy", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("greedy"))
	s.create("for-node", scene.SingleStack(corev1.IPv4Protocol), scene.Annotate(scene.IPsAnnotation, address.String()))
	if ips := s.withAddress("of-greedy"); ips[0] != netip.MustParseAddr("192.168.100.247") {
		t.Errorf("got %v", ips)
	}
	s.service("for-node", "refused the node's address", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress) > 0 {
			t.Errorf("it got %+v", o.Status.LoadBalancer.Ingress)
		}
		return errors.Join(says(scene.Condition(o, scene.Allocated), node.Name))
	})
}
