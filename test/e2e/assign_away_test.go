package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestAssignControllerAway applies pools and Services, and takes some away, while no controller runs: the API server takes it all, and it is
// made good in one go afterwards. What nobody asked to be changed stays.
func TestAssignControllerAway(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-away", `addresses: ["10.77.20.0/31"], autoAssign: false, retainFor: 1h`)+poolOf("assign-moved", `addresses: ["10.77.20.8/32"], autoAssign: false`),
		"ipaddresspool/assign-away", "ipaddresspool/assign-moved")
	n.asks("away-stays", plain4, scene.FromPool("assign-away"))
	n.has("away-stays", "10.77.20.0")
	n.asks("away-goes", plain4, scene.FromPool("assign-moved"))
	n.has("away-goes", "10.77.20.8")
	n.asks("away-type", plain4, scene.FromPool("assign-away"))
	n.has("away-type", "10.77.20.1")
	n.settled("away-stays", "away-goes", "away-type")
	before := n.version("away-stays")

	s.controllersAre(0)
	t.Cleanup(func() { s.controllersAre(2) })
	s.apply(poolOf("assign-new", `addresses: ["10.77.20.16/32"], autoAssign: false`), "ipaddresspool/assign-new")
	n.asks("away-new", plain4, scene.FromPool("assign-new"))
	n.goes("away-goes")
	n.asks("away-next", plain4, scene.FromPool("assign-moved"))
	n.changes("away-type", func(o *corev1.Service) {
		o.Spec.Type, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil
	})

	s.controllersAre(2)
	n.has("away-new", "10.77.20.16")
	n.has("away-next", "10.77.20.8")
	n.is("away-type", "released", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress)+len(o.Status.Conditions) > 0 {
			return fmt.Errorf("its status is %+v", o.Status)
		}
		return nil
	})
	s.judged(scene.Pools, "assign-new", metav1.ConditionTrue, "")
	if now := n.version("away-stays"); now != before {
		t.Errorf("a Service that nothing happened to was written: version %s, then %s", before, now)
	}
	n.goes("away-stays") // its address is kept for an hour
	s.kept("10.77.20.0", true)
	s.noneKept()
}

// controllersAre sets how many controllers run, and waits until it is so.
func (s *stage) controllersAre(replicas int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.Kubectl(ctx, "scale", "deployment", s.Name("controller"), "-n", s.Namespace, fmt.Sprintf("--replicas=%d", replicas))
	s.must(err)
	s.must(s.Wait(ctx, fmt.Sprintf("%d controllers", replicas), func(ctx context.Context) error {
		list, err := s.API.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
		if err == nil && len(list.Items) != replicas {
			err = fmt.Errorf("there are %d", len(list.Items))
		}
		return err
	}))
}

// TestAssignFamilyLeaves: a pool of both families loses one: everybody keeps the other, also who needs both and says so, until there are both
// again.
func TestAssignFamilyLeaves(t *testing.T) {
	s := on(t)
	n := s.home()
	both := poolOf("assign-dual", `addresses: ["10.77.21.0/30", "fd00:77:21::/126"], autoAssign: false`)
	s.apply(both, "ipaddresspool/assign-dual")
	s.judged(scene.Pools, "assign-dual", metav1.ConditionTrue, "") // so that nobody is refused before it is known
	from := scene.FromPool("assign-dual")
	n.asks("dual-prefers", scene.Families(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol), from)
	n.has("dual-prefers", "10.77.21.0", "fd00:77:21::")
	n.asks("dual-requires", scene.Families(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol), from)
	n.has("dual-requires", "fd00:77:21::1", "10.77.21.1")
	n.asks("dual-single", plain6, from)
	n.has("dual-single", "fd00:77:21::2")

	s.must(s.Apply(t.Context(), poolOf("assign-dual", `addresses: ["10.77.21.0/30"], autoAssign: false`)))
	n.has("dual-prefers", "10.77.21.0")
	n.is("dual-requires", "left the family there is", func(o *corev1.Service) error {
		if in := o.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP != "10.77.21.1" {
			return fmt.Errorf("it has %+v", in)
		}
		return errors.Join(scene.Has(o, scene.Allocated, metav1.ConditionFalse, "FamilyUnavailable"), says(scene.Condition(o, scene.Allocated), "no IPv6 address"))
	})
	n.lacks("dual-single", "FamilyUnavailable", "assign-dual: has no IPv6 addresses")
	n.told("dual-prefers", map[string]int{"AddressAssigned": 2, "AddressReleased": 1})
	n.told("dual-single", map[string]int{"AddressAssigned": 1, "AddressReleased": 1, "AllocationFailed": 1})
	s.must(s.Apply(t.Context(), both))
	if ips := n.gets("dual-prefers"); ips[0].String() != "10.77.21.0" {
		t.Errorf("the family that stayed changed its address: %v", ips)
	}
	n.gets("dual-single")
	if ips := n.gets("dual-requires"); !ips[0].Is6() || ips[1].String() != "10.77.21.1" {
		t.Errorf("not in the Service's order, or moved: %v", ips)
	}
}

// TestAssignClusterNetworks: a pool that has addresses of ClusterIPs or of pods says so, and names whose they are.
func TestAssignClusterNetworks(t *testing.T) {
	s := on(t)
	s.apply(poolOf("assign-clusterips", `addresses: ["10.96.200.0/30"], autoAssign: false`)+poolOf("assign-pods", `addresses: ["10.244.1.0/30"], autoAssign: false`),
		"ipaddresspool/assign-clusterips", "ipaddresspool/assign-pods")
	s.judged(scene.Pools, "assign-clusterips", metav1.ConditionFalse, "ServiceCIDR", "10.96.200.0-10.96.200.3", "ServiceCIDR kubernetes")
	s.judged(scene.Pools, "assign-pods", metav1.ConditionFalse, "PodCIDR", "10.244.1.0-10.244.1.3", "pods of node-")
	s.apply(poolOf("assign-twice", `addresses: ["10.77.22.0/30", "10.77.22.2-10.77.22.5"], autoAssign: false`), "ipaddresspool/assign-twice")
	s.judged(scene.Pools, "assign-twice", metav1.ConditionFalse, "DuplicateAddress", "10.77.22.2")
	s.counted("assign-twice", "ipv4", 6, 0, 6)
}
