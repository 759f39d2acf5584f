package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// provoked are the troubles, in an order that wants no more than the laboratory as it is.
func provoked() []trouble {
	return slices.Concat(troublesOfRequests(), troublesOfPools(), troublesOfNodes(), troublesOfBGP(), troublesAround())
}

// wrongly makes a single-stack Service of IPv4 that asks for something.
func wrongly(edits ...scene.Edit) func(*stage, string) {
	return func(s *stage, service string) {
		s.create(service, append([]scene.Edit{scene.SingleStack(corev1.IPv4Protocol)}, edits...)...)
	}
}

// with applies objects before a Service is made.
func with(yaml string, objects []string, then func(*stage, string)) func(*stage, string) {
	return func(s *stage, service string) {
		s.apply(yaml, objects...)
		then(s, service)
	}
}

// troublesOfRequests are about what a Service asks for.
func troublesOfRequests() []trouble {
	return []trouble{
		{"a pool that does not exist", wrongly(scene.FromPool("nosuch")), "", "SERVICE: NoPool:", []string{"nosuch", "does not exist"}},
		{"an address of no pool", wrongly(wants("198.51.100.77")), "", "SERVICE: AddressNotInPool:", []string{"198.51.100.77"}},
		{"an address of a family that the Service has not", wrongly(wants("fd00:100::22a")), "", "SERVICE: InvalidRequest:", []string{"IPv6"}},
		{"an address that another Service has", func(s *stage, service string) {
			ip := s.withoutEndpoints(service + "-first")
			wrongly(wants(ip.String()))(s, service)
		}, "", "SERVICE: AddressInUse:", []string{"is held by Service default/trouble-"}},
		{"a shared address with the same port", func(s *stage, service string) {
			ip := s.withoutEndpoints(service+"-first", shares("mail"), onPort(corev1.ProtocolTCP, 25))
			wrongly(wants(ip.String()), shares("mail"), onPort(corev1.ProtocolTCP, 25))(s, service)
		}, "", "SERVICE: SharingConflict:", []string{"TCP port 25"}},
		{"another class", wrongly(class("example.com/other")), "", "SERVICE: OtherClass:", []string{"example.com/other"}},
	}
}

// withoutEndpoints makes a Service that only holds an address, and returns that.
func (s *stage) withoutEndpoints(name string, edits ...scene.Edit) netip.Addr {
	s.t.Helper()
	s.create(name, append([]scene.Edit{scene.SingleStack(corev1.IPv4Protocol), scene.Selecting("")}, edits...)...)
	return s.withAddress(name)[0]
}

// troublesOfPools are about pools, and about what keeps them from giving addresses.
func troublesOfPools() []trouble {
	object := []string{"ipaddresspool/trouble"}
	from := scene.FromPool("trouble")
	return []trouble{
		{"a pool that is exhausted", with(poolOf("trouble", `addresses: [10.78.0.1], autoAssign: false`), object, func(s *stage, service string) {
			s.withoutEndpoints(service+"-first", from)
			wrongly(from)(s, service)
		}), "", "SERVICE: PoolExhausted:", []string{"trouble", "add addresses"}},
		{
			"a pool for other namespaces",
			with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false, serviceAllocation: {namespaces: [elsewhere]}`), object, wrongly(from)),
			"", "SERVICE: NotPermitted:",
			[]string{"trouble", "elsewhere", "serviceAllocation"},
		},
		{"a quota that is reached", with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false, namespaceQuota: 1`), object, func(s *stage, service string) {
			s.withoutEndpoints(service+"-first", from)
			wrongly(from)(s, service)
		}), "", "SERVICE: QuotaExceeded:", []string{"holds 1 of at most 1", "namespaceQuota"}},
		{
			"a pool that is paused", with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false, paused: true`), object, wrongly(from)),
			"", "SERVICE: PoolPaused:",
			[]string{"trouble", "spec.paused"},
		},
		{
			"a pool that overlaps another", with(poolOf("trouble", `addresses: [192.168.100.230-192.168.100.250], autoAssign: false`), object, wrongly(from)),
			"", "IPAddressPool trouble: OverlappingPool:",
			[]string{"IPAddressPool lan"},
		},
		{
			"a pool of the other family only",
			with(poolOf("trouble", `addresses: ["fd00:78::/120"], autoAssign: false`), object, wrongly(from)), "", "SERVICE: FamilyUnavailable:",
			[]string{"IPv4"},
		},
		{
			"an address that is reserved",
			with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false`)+reservation("trouble", "mail/smtp", "", "10.78.0.5"),
				append(object, "ipreservation/trouble"), func(s *stage, service string) {
					s.judged(reservations, "trouble", metav1.ConditionTrue, "") // or the address would be given before that is known
					wrongly(wants("10.78.0.5"))(s, service)
				}),
			"", "SERVICE: AddressReserved:",
			[]string{"mail/smtp", "IPReservation"},
		},
		{"a pool that nobody announces", wrongly(scene.FromPool("many")), "", "SERVICE: NoAdvertisement:", []string{`"many"`}},
		{
			"an advertisement that misspells its pool",
			with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false`)+advertisement("L2Advertisement", "trouble", `ipAddressPools: [truoble]`),
				append(object, "l2advertisement/trouble"), wrongly(from)),
			"", "L2Advertisement trouble: UnknownPool:",
			[]string{"truoble"},
		},
	}
}

// troublesOfNodes are about who may answer by ARP and NDP.
func troublesOfNodes() []trouble {
	own := scene.FromPool("special")
	special := func(fields string) func(*stage, string) {
		return func(s *stage, service string) {
			s.special(fields)
			wrongly(own)(s, service)
		}
	}
	return []trouble{
		{"no endpoint", wrongly(scene.Selecting("nothing-has-this")), "", "SERVICE: NoReadyEndpoints:", []string{"selector"}},
		{"no endpoint where the advertisement reaches", func(s *stage, service string) {
			s.special(`nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node-1}}]`)
			wrongly(own, scene.Local, scene.Selecting(""))(s, service)
			s.must(s.SetEndpoints(s.t.Context(), service, "node-2"))
		}, "", "SERVICE: NoEligibleNode:", []string{"node-1: no ready endpoint on the node", "not selected by L2Advertisement special"}},
		{
			"an advertisement that selects no node", special(`nodeSelectors: [{matchLabels: {rack: nowhere}}]`),
			"", "SERVICE: NoEligibleNode:",
			[]string{"not selected by L2Advertisement special", "nodeSelectors"},
		},
		{"an interface that no node has", special(`interfaces: [nic9]`), "", "SERVICE: NoEligibleNode:", []string{"no interface", "correct the advertisement's interfaces"}},
		{"the exclude label on every node", func(s *stage, service string) {
			for _, n := range s.allNodes() {
				s.label(n, corev1.LabelNodeExcludeBalancers, "true")
			}
			wrongly()(s, service)
		}, "", "SERVICE: NoEligibleNode:", []string{"exclude-from-external-load-balancers", "ignoreExcludeLB"}},
		{"the exclude label on every node, seen by check", func(s *stage, _ string) {
			for _, n := range s.allNodes() {
				s.label(n, corev1.LabelNodeExcludeBalancers, "true")
			}
		}, "check", "nodes: NoNodeMayAnnounce:", []string{"node-1, node-2, node-3", "take the label off"}},
		{"every node drained", func(s *stage, service string) {
			for _, n := range s.allNodes() {
				s.taint(n, "heraldlb.io/drain:NoSchedule")
			}
			wrongly()(s, service)
		}, "", "SERVICE: NoEligibleNode:", []string{"heraldlb.io/drain", "kubectl herald undrain"}},
		{"a stranger that uses the address", func(s *stage, service string) {
			ip := netip.MustParseAddr("192.168.100.238")
			s.stranger(ip)
			wrongly(wants(ip.String()))(s, service)
		}, "", "SERVICE: AddressConflict:", []string{"192.168.100.238", "find the device with that MAC"}},
	}
}

// troublesOfBGP are about routers and what they are told.
func troublesOfBGP() []trouble {
	from := scene.FromPool("trouble")
	// told announces a pool of its own to the peers by BGP.
	told := func(peers, more string, objects ...string) func(*stage, string) {
		return with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false`)+
			advertisement("BGPAdvertisement", "trouble", fmt.Sprintf("ipAddressPools: [trouble], peers: [%s]", peers))+more,
			append([]string{"ipaddresspool/trouble", "bgpadvertisement/trouble"}, objects...), wrongly(from))
	}
	peer := func(spec string) string { return object("BGPPeer", "trouble", "myASN: 64513, peerASN: 64512, "+spec) }
	return []trouble{
		{"a peer that does not exist", told("nosuch", ""), "", "BGPAdvertisement trouble: UnknownPeer:", []string{"nosuch"}},
		{
			"a peer that no node has", told("trouble", peer(`peerAddress: 192.168.100.50, nodeSelectors: [{matchLabels: {rack: nowhere}}]`), "bgppeer/trouble"),
			"", "SERVICE: NoEligibleNode:",
			[]string{"no BGPPeer for IPv4"},
		},
		{
			"a router that refuses", told("trouble", peer(`peerAddress: 192.168.100.50, connectTime: 1s`), "bgppeer/trouble"),
			"", "BGP session of node-1 to trouble: SessionDown:",
			[]string{"refuses TCP connections", "check that it has this node as neighbour"},
		},
		{
			"a router that is not there", told("trouble", peer(`peerAddress: 192.168.100.199, connectTime: 1s`), "bgppeer/trouble"),
			"", "BGP session of node-1 to trouble: SessionDown:",
			[]string{"192.168.100.199", "must be on a subnet of this node"},
		},
		{
			"a password that is missing", told("trouble", peer(`peerAddress: 192.168.100.50, passwordSecret: {name: nosuch}`), "bgppeer/trouble"),
			"", "BGPPeer trouble: UnknownSecret:",
			[]string{"nosuch", "kubernetes.io/basic-auth"},
		},
		{"a community that has no value", with(poolOf("trouble", `addresses: [10.78.0.0/28], autoAssign: false`)+
			object("BGPAdvertisement", "trouble", `ipAddressPools: [trouble], communities: [edge-of-the-world]`),
			[]string{"ipaddresspool/trouble", "bgpadvertisement/trouble"}, wrongly(from)), "", "BGPAdvertisement trouble: UnknownCommunity:", []string{"edge-of-the-world"}},
		{"an AS number that the router does not expect", func(s *stage, service string) {
			s.reconfigure(peerV6(`myASN: 64999`))
			s.create(service, scene.SingleStack(corev1.IPv6Protocol), scene.FromPool("routed"))
		}, "", "BGP session of node-1 to router-v6: SessionDown:", []string{"bad peer AS 64999", "compare myASN and peerASN"}},
	}
}

// troublesAround are about Herald itself, and about what is around it.
func troublesAround() []trouble {
	return []trouble{
		{"no controller", func(s *stage, service string) {
			s.t.Cleanup(func() { s.controllersAre(2) })
			s.controllersAre(0)
			wrongly()(s, service)
		}, "", "SERVICE: ControllerDown:", []string{"no controller is ready", "describe pods"}},
		{"IPVS without strictARP", func(s *stage, _ string) {
			s.proxyConfig("mode: ipvs\n")
		}, "check", "kube-proxy: StrictARPOff:", []string{"set ipvs.strictARP to true"}},
	}
}

// proxyConfig makes kube-proxy's ConfigMap as kubeadm does, for the time of the test.
func (s *stage) proxyConfig(text string) {
	s.t.Helper()
	maps := s.API.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	_, err := maps.Create(s.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-proxy"}, Data: map[string]string{"config.conf": text}}, metav1.CreateOptions{})
	s.must(err)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := maps.Delete(ctx, "kube-proxy", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			s.must(err)
		}
	})
}
