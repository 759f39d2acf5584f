package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestAddressesOfOthers has a pool with the nodes' default gateway in it, and an address that a Service of another load balancer shows: both
// are given to nobody, asked for or not, until they are nobody's any more.
func TestAddressesOfOthers(t *testing.T) {
	s := on(t)
	s.apply(`
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: others}
spec: {addresses: [192.168.100.1, 10.77.30.0/31], autoAssign: false}
`, "ipaddresspool/others")
	s.judged("ipaddresspools", "others", metav1.ConditionFalse, "GatewayAddress", "192.168.100.1")
	class := "example.com/other"
	theirs := s.create("theirs", func(o *corev1.Service) { o.Spec.LoadBalancerClass = &class })
	theirs.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.77.30.0"}}
	_, err := s.Services().UpdateStatus(t.Context(), theirs, metav1.UpdateOptions{})
	s.must(err)
	s.create("asks-gateway", scene.Annotate("heraldlb.io/loadBalancerIPs", "192.168.100.1"))
	s.refused("asks-gateway", "AddressInUse", "default gateway")
	s.create("asks-theirs", scene.Annotate("heraldlb.io/loadBalancerIPs", "10.77.30.0"))
	s.refused("asks-theirs", "AddressInUse", "Service "+theirs.Namespace+"/theirs, which another load balancer serves")
	s.create("any-other", scene.FromPool("others"), scene.SingleStack(corev1.IPv4Protocol))
	if got := s.withAddress("any-other"); got[0].String() != "10.77.30.1" {
		t.Errorf("given %v", got)
	}
	s.must(s.remove(t.Context(), "theirs"))
	if got := s.withAddress("asks-theirs"); got[0].String() != "10.77.30.0" {
		t.Errorf("given %v", got)
	}
}

// TestHostnameLabel (B26) calls a node by another hostname than that of its object: configuration that selects it by the label applies.
func TestHostnameLabel(t *testing.T) {
	s := on(t)
	node := s.Nodes[1].Name
	relabel := func(ctx context.Context, value string) error {
		_, err := s.Kubectl(ctx, "label", "--overwrite", "node", node, "kubernetes.io/hostname="+value)
		return err
	}
	t.Cleanup(func() { s.must(relabel(context.Background(), node)) })
	s.must(relabel(t.Context(), "rack-7"))
	s.reconfigure(`
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec:
  ipAddressPools: [lan]
  nodeSelectors: [{matchLabels: {kubernetes.io/hostname: rack-7}}]
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed}
spec:
  ipAddressPools: [routed]
  nodeSelectors: [{matchLabels: {kubernetes.io/hostname: rack-7}}]
`)
	s.create("hostname-l2")
	s.create("hostname-bgp", scene.FromPool("routed"))
	_, ips := s.announced("hostname-l2")
	for _, ip := range ips {
		s.eventually(fmt.Sprintf("%s to answer for %s", node, ip), func(ctx context.Context) error {
			names, err := s.Answering(ctx, ip)
			if err == nil && !slices.Equal(names, []string{node}) {
				err = fmt.Errorf("answered by %v", names)
			}
			return err
		})
	}
	_, ips = s.announced("hostname-bgp")
	for _, ip := range ips {
		s.routed(ip, node)
	}
}
