package e2e

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestAssignSharing: equal keys and no port in common share an address; what stands in the way is named.
func TestAssignSharing(t *testing.T) {
	s := on(t)
	n := s.home()
	other := s.tenant("assign-other")
	s.apply(poolOf("assign-shared", `addresses: ["10.77.10.0/29"], autoAssign: false`), "ipaddresspool/assign-shared")
	s.judged(scene.Pools, "assign-shared", metav1.ConditionTrue, "") // so that nobody is refused before it is known
	from := scene.FromPool("assign-shared")
	n.asks("share-tcp", plain4, from, shares("dns"), onPort(corev1.ProtocolTCP, 53))
	n.has("share-tcp", "10.77.10.0")
	n.asks("share-udp", plain4, from, shares("dns"), onPort(corev1.ProtocolUDP, 53))
	n.has("share-udp", "10.77.10.0")
	other.asks("web", plain4, from, shares("dns"), onPort(corev1.ProtocolTCP, 80)) // Cluster: namespaces do not matter
	other.has("web", "10.77.10.0")
	n.asks("share-none", plain4, from, onPort(corev1.ProtocolTCP, 81))
	n.has("share-none", "10.77.10.1")
	s.counted("assign-shared", "ipv4", 8, 2, 6)

	n.asks("share-same", plain4, shares("dns"), wants("10.77.10.0"), onPort(corev1.ProtocolTCP, 80))
	n.lacks("share-same", "SharingConflict", "10.77.10.0", "assign-other/web", "TCP port 80")
	n.asks("share-key", plain4, shares("web"), wants("10.77.10.0"), onPort(corev1.ProtocolTCP, 82))
	n.lacks("share-key", "SharingConflict", "10.77.10.0", "keys differ")
	n.asks("share-keyless", plain4, wants("10.77.10.0"), onPort(corev1.ProtocolTCP, 83))
	n.lacks("share-keyless", "AddressInUse", "10.77.10.0", "is held by Service")
	n.asks("share-local", plain4, shares("dns"), wants("10.77.10.0"), onPort(corev1.ProtocolTCP, 84), scene.Local)
	n.lacks("share-local", "SharingConflict", "10.77.10.0", "externalTrafficPolicy")

	t.Run("compatible again", func(t *testing.T) {
		n.changes("share-same", onPort(corev1.ProtocolTCP, 8080))
		n.has("share-same", "10.77.10.0")
	})
	t.Run("not compatible any more", func(t *testing.T) {
		s := on(t)
		n := s.home()
		n.settled("share-udp")
		before := n.version("share-udp")
		n.changes("share-tcp", shares("something-else"))
		n.has("share-tcp", "10.77.10.2")
		n.told("share-tcp", map[string]int{"AddressAssigned": 2, "AddressReleased": 1})
		n.has("share-udp", "10.77.10.0")
		if now := n.version("share-udp"); now != before {
			t.Errorf("one of those who stay was written: version %s, then %s", before, now)
		}
	})
}

// TestAssignSharingLocal: with externalTrafficPolicy Local only Services with the same endpoints share: of one namespace, with equal
// selectors that are not empty.
func TestAssignSharingLocal(t *testing.T) {
	s := on(t)
	n := s.home()
	other := s.tenant("assign-elsewhere")
	s.apply(poolOf("assign-local", `addresses: ["10.77.11.0/29"], autoAssign: false`), "ipaddresspool/assign-local")
	from := scene.FromPool("assign-local")
	n.asks("local-1", plain4, from, shares("k"), scene.Local, scene.Selecting("no-such"), onPort(corev1.ProtocolTCP, 80))
	n.has("local-1", "10.77.11.0")
	n.asks("local-2", plain4, from, shares("k"), scene.Local, scene.Selecting("no-such"), onPort(corev1.ProtocolTCP, 81))
	n.has("local-2", "10.77.11.0")

	other.asks("local", plain4, shares("k"), wants("10.77.11.0"), scene.Local, scene.Selecting("no-such"), onPort(corev1.ProtocolTCP, 82))
	other.lacks("local", "SharingConflict", "10.77.11.0", "default/local-1")
	n.asks("local-selector", plain4, shares("k"), wants("10.77.11.0"), scene.Local, scene.Selecting("another"), onPort(corev1.ProtocolTCP, 83))
	n.lacks("local-selector", "SharingConflict", "10.77.11.0")
	n.asks("local-bare", plain4, shares("k"), wants("10.77.11.0"), scene.Local, onPort(corev1.ProtocolTCP, 84))
	n.lacks("local-bare", "SharingConflict", "10.77.11.0")
	n.asks("local-cluster", plain4, shares("k"), wants("10.77.11.0"), onPort(corev1.ProtocolTCP, 85))
	n.lacks("local-cluster", "SharingConflict", "10.77.11.0", "externalTrafficPolicy")

	// The same two become one when the policy is Cluster everywhere.
	cluster := func(o *corev1.Service) { o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster }
	n.goes("local-2")
	n.changes("local-1", cluster)
	n.has("local-cluster", "10.77.11.0")
	other.changes("local", cluster)
	other.has("local", "10.77.11.0")
	n.has("local-1", "10.77.11.0")
}
