package explain

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
)

// explained explains a Service of the namespace shop.
func explained(t *testing.T, c *kube.Cluster, name string) Report {
	t.Helper()
	p := picture.New(c, picture.Options{})
	if svc := p.Service(config.Key{Namespace: "shop", Name: name}); svc != nil {
		return Service(p, svc)
	}
	for _, s := range c.Services {
		if s.Name == name {
			return Stranger(p, s)
		}
	}
	t.Fatalf("no Service %s", name)
	return Report{}
}

// young adds a Service without an address, younger than the others.
func young(c *kube.Cluster, edits ...func(*corev1.Service)) {
	s := c.Services[0].DeepCopy()
	s.Name, s.UID, s.CreationTimestamp, s.Status = "young", "young-uid", metav1.NewTime(c.Time.Add(-time.Minute)), corev1.ServiceStatus{}
	for _, edit := range edits {
		edit(s)
	}
	c.Services = append(c.Services, s)
}

func annotate(pairs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Annotations = map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			s.Annotations["heraldlb.io/"+pairs[i]] = pairs[i+1]
		}
	}
}

func labels(key string) func(*kube.Cluster) {
	return func(c *kube.Cluster) {
		for _, n := range c.Nodes {
			n.Labels[key] = ""
		}
	}
}

func noAnswer(c *kube.Cluster) { c.Speakers[1].Status.L2 = nil }

// both makes one change of two.
func both(changes ...func(*kube.Cluster)) func(*kube.Cluster) {
	return func(c *kube.Cluster) {
		for _, change := range changes {
			change(c)
		}
	}
}

// trouble is a fault, and what must be said of it first.
type trouble struct {
	name    string
	change  func(*kube.Cluster)
	service string
	about   string   // "" = the Service
	reason  string   // of the first cause
	says    []string // in the first cause, its remedy included
}

// assigning are troubles on the way to an address.
func assigning() []trouble {
	return []trouble{
		{"no pool at all", func(c *kube.Cluster) { c.Pools = nil; young(c) }, "young", "", "NoPool", []string{"create an IPAddressPool"}},
		{"the pool asked for does not exist", func(c *kube.Cluster) { young(c, annotate("address-pool", "lann")) }, "young", "", "NoPool", []string{"lann"}},
		{"the pool asked for overlaps an older one", func(c *kube.Cluster) {
			p := c.Pools[0].DeepCopy()
			p.Name, p.UID, p.CreationTimestamp = "late", "late-uid", metav1.NewTime(c.Time)
			c.Pools = append(c.Pools, p)
			young(c, annotate("address-pool", "late"))
		}, "young", "IPAddressPool late", "OverlappingPool", []string{"IPAddressPool lan"}},
		{"the only pool is misspelt", func(c *kube.Cluster) {
			c.Pools = c.Pools[:1]
			c.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"192.168.1.300"}
			young(c)
		}, "young", "IPAddressPool lan", "InvalidAddress", []string{"192.168.1.300"}},
		{"the pools are full", func(c *kube.Cluster) {
			c.Pools[0].Spec.Addresses = []v1beta1.AddressRange{"192.168.1.100"}
			young(c)
		}, "young", "", "PoolExhausted", []string{"lan", "add addresses"}},
		{"the pool is paused", func(c *kube.Cluster) { c.Pools[0].Spec.Paused = true; young(c) }, "young", "", "PoolPaused", []string{"lan", "spec.paused"}},
		{"the pool does not admit the namespace", func(c *kube.Cluster) {
			c.Pools[0].Spec.ServiceAllocation = &v1beta1.ServiceAllocation{Namespaces: []string{"infra"}}
			young(c, annotate("address-pool", "lan"))
		}, "young", "", "NotPermitted", []string{"infra", "serviceAllocation"}},
		{"the namespace has used up its quota", func(c *kube.Cluster) {
			one := int32(1)
			c.Pools[0].Spec.NamespaceQuota = &one
			young(c)
		}, "young", "", "QuotaExceeded", []string{"namespaceQuota"}},
		{
			"the address asked for is another's",
			func(c *kube.Cluster) { young(c, annotate("loadBalancerIPs", "192.168.1.100")) },
			"young", "", "AddressInUse",
			[]string{"shop/web"},
		},
		{
			"the address asked for is in no pool",
			func(c *kube.Cluster) { young(c, annotate("loadBalancerIPs", "198.51.100.7")) },
			"young", "", "AddressNotInPool",
			[]string{"198.51.100.7"},
		},
		{"the address asked for is reserved", func(c *kube.Cluster) {
			r := &v1beta1.IPReservation{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
			r.Spec.Addresses = []string{"192.168.1.101"}
			r.Spec.Service = v1beta1.ServiceReference{Namespace: "shop", Name: "other"}
			c.Reservations = append(c.Reservations, r)
			young(c, annotate("loadBalancerIPs", "192.168.1.101"))
		}, "young", "", "AddressReserved", []string{"shop/other"}},
		{"the Services that would share have equal ports", func(c *kube.Cluster) {
			c.Services[0].Annotations = map[string]string{"heraldlb.io/allow-shared-ip": "key"}
			young(c, annotate("loadBalancerIPs", "192.168.1.100", "allow-shared-ip", "key"))
		}, "young", "", "SharingConflict", []string{"80"}},
		{"no pool has the family", func(c *kube.Cluster) {
			young(c, func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} })
		}, "young", "", "FamilyUnavailable", []string{"IPv6"}},
		{
			"the request contradicts itself",
			func(c *kube.Cluster) { young(c, annotate("loadBalancerIPs", "192.168.1.102,192.168.1.103")) },
			"young", "", "InvalidRequest",
			[]string{"correct the Service's annotations"},
		},
		{"another class", func(c *kube.Cluster) {
			young(c, func(s *corev1.Service) { class := "example.com/other"; s.Spec.LoadBalancerClass = &class })
		}, "young", "", "OtherClass", []string{"example.com/other"}},
		{"not a load balancer", func(c *kube.Cluster) {
			young(c, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		}, "young", "", "NotALoadBalancer", []string{"ClusterIP"}},
		{"no controller runs", func(c *kube.Cluster) {
			c.Deployments[0].Status.ReadyReplicas = 0
			young(c)
		}, "young", "", "ControllerDown", []string{"192.168.1.101", "herald-system"}},
		{"the controller hangs", func(c *kube.Cluster) { young(c) }, "young", "", "NotWritten", []string{"192.168.1.101"}},
	}
}

// announcing are troubles on the way from an address to the network.
func announcing() []trouble {
	return []trouble{
		{"no advertisement", func(c *kube.Cluster) { c.L2Advertisements = nil }, "web", "", "NoAdvertisement", []string{`"lan"`}},
		{
			"the advertisement misspells the pool",
			func(c *kube.Cluster) { c.L2Advertisements[0].Spec.IPAddressPools = []string{"lann"} },
			"web", "L2Advertisement lan", "UnknownPool",
			[]string{"lann"},
		},
		{"the advertisement is left out", func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.Interfaces = []string{"eth["}
		}, "web", "L2Advertisement lan", "InvalidInterface", []string{"eth["}},
		{"no endpoint is ready", func(c *kube.Cluster) { c.EndpointSlices = nil }, "web", "", "NoReadyEndpoints", []string{"selector"}},
		{
			"every node is labelled", both(noAnswer, labels("node.kubernetes.io/exclude-from-external-load-balancers")),
			"web", "", "NoEligibleNode",
			[]string{"node-1, node-2, node-3", "exclude-from-external-load-balancers", "ignoreExcludeLB"},
		},
		{"no node is selected", both(noAnswer, func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.NodeSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]v1beta1.LabelValue{"rack": "7"}}}
		}), "web", "", "NoEligibleNode", []string{"not selected", "nodeSelectors"}},
		{"no interface matches", both(noAnswer, func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.Interfaces = []string{"bond*"}
		}), "web", "", "NoEligibleNode", []string{"no interface that is up", "interfaces"}},
		{"the interfaces are down", both(noAnswer, func(c *kube.Cluster) {
			for _, s := range c.Speakers {
				s.Status.Interfaces[0].Up = false
			}
		}), "web", "", "NoEligibleNode", []string{"no interface that is up"}},
		{"the nodes have no network", both(noAnswer, func(c *kube.Cluster) {
			for _, n := range c.Nodes {
				n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue})
			}
		}), "web", "", "NoEligibleNode", []string{"NetworkUnavailable"}},
		{"every node is drained", both(noAnswer, func(c *kube.Cluster) {
			for _, n := range c.Nodes {
				n.Spec.Taints = []corev1.Taint{{Key: "heraldlb.io/drain", Effect: corev1.TaintEffectPreferNoSchedule}}
			}
		}), "web", "", "NoEligibleNode", []string{"drain", "kubectl herald undrain"}},
		{"every node is out of service", both(noAnswer, func(c *kube.Cluster) {
			for _, n := range c.Nodes {
				n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
			}
		}), "web", "", "NoEligibleNode", []string{"out-of-service", "when the node is back"}},
		{"every node is cordoned, and that drains", both(noAnswer, func(c *kube.Cluster) {
			c.DaemonSets[0].Spec.Template.Spec.Containers[0].Args = []string{"--drain-on-cordon"}
			for _, n := range c.Nodes {
				n.Spec.Unschedulable = true
			}
		}), "web", "", "NoEligibleNode", []string{"kubectl uncordon"}},
		{"no node holds an endpoint", both(noAnswer, func(c *kube.Cluster) {
			c.Services[0].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			c.L2Advertisements[0].Spec.NodeSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]v1beta1.LabelValue{"kubernetes.io/hostname": "node-3"}}}
		}), "web", "", "NoEligibleNode", []string{"node-3: no ready endpoint"}},
		{"no speaker runs", both(noAnswer, func(c *kube.Cluster) {
			for _, p := range c.Pods {
				if p.Labels["app.kubernetes.io/component"] == "speaker" {
					state := &p.Status.ContainerStatuses[0]
					state.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
					state.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "Error", Message: "starting\nport 9472 is taken\n"}
				}
			}
		}), "web", "", "NoEligibleNode", []string{"no live speaker", "herald-system"}},
		{"the nodes are not ready", both(noAnswer, func(c *kube.Cluster) {
			for _, n := range c.Nodes {
				n.Status.Conditions[0].Status = corev1.ConditionUnknown
			}
		}), "web", "node node-1", "NodeNotReady", []string{"not Ready"}},
		{"somebody else uses the address", func(c *kube.Cluster) {
			c.Speakers[1].Status.L2.Conflicts = []v1beta1.SpeakerL2Conflict{{Address: "192.168.1.100", Interface: "eth0", MAC: "02:00:00:00:00:99"}}
		}, "web", "", "AddressConflict", []string{"02:00:00:00:00:99", "node-2"}},
		{"somebody else has the address, and nobody answers", both(noAnswer, func(c *kube.Cluster) {
			c.Speakers[1].Status.L2 = &v1beta1.SpeakerL2{Conflicts: []v1beta1.SpeakerL2Conflict{{Address: "192.168.1.100", Interface: "eth0", MAC: "02:00:00:00:00:99"}}}
		}), "web", "", "AddressConflict", []string{"02:00:00:00:00:99", "node-2"}},
		{"one selected node, without an endpoint", func(c *kube.Cluster) {
			c.L2Advertisements[0].Spec.NodeSelectors = []v1beta1.LabelSelector{{MatchLabels: map[string]v1beta1.LabelValue{"kubernetes.io/hostname": "nowhere"}}}
			c.Nodes[0].Labels["kubernetes.io/hostname"] = "nowhere"
			c.Services[0].Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			c.EndpointSlices[0].Endpoints = c.EndpointSlices[0].Endpoints[:1]
			node := "node-2"
			c.EndpointSlices[0].Endpoints[0].NodeName = &node
		}, "web", "", "NoEligibleNode", []string{"run a Pod of the Service on a node that may announce"}},
		{"gossip does not run", both(noAnswer, func(c *kube.Cluster) {
			for _, s := range c.Speakers {
				s.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: "GossipDown", Message: "there is no key yet"}}
			}
		}), "web", "speaker on node-1", "GossipDown", []string{"no key"}},
		{"nobody answers, for no reason known", noAnswer, "web", "", "NotAnswered", []string{"node-", "log of the speaker"}},
		{"the router refuses", func(c *kube.Cluster) {
			for _, s := range c.Speakers {
				s.Status.BGP.Sessions[0].State, s.Status.BGP.Sessions[0].LastError = "Active", "connect: connection refused"
			}
		}, "api", "BGP session of node-1 to tor", "SessionDown", []string{"connection refused", "does not accept"}},
		{"the router expects another AS number", func(c *kube.Cluster) {
			for _, s := range c.Speakers {
				s.Status.BGP.Sessions[0].State, s.Status.BGP.Sessions[0].LastError = "Idle", "peer refused: bad peer AS 64999: the router expects another AS number from this node"
			}
		}, "api", "BGP session of node-1 to tor", "SessionDown", []string{"AS 64999", "compare myASN and peerASN"}},
		{"the family was not agreed on", func(c *kube.Cluster) {
			for _, s := range c.Speakers {
				s.Status.BGP.Sessions[0].Families = []v1beta1.IPFamily{v1beta1.FamilyIPv6}
			}
		}, "api", "BGP session of node-1 to tor", "SessionDown", []string{"IPv4 was not agreed on", "enable the address family"}},
		{"there is no peer", func(c *kube.Cluster) { c.Peers = nil }, "api", "", "NoEligibleNode", []string{"no BGPPeer"}},
		{"the peer's password is missing", func(c *kube.Cluster) {
			c.BGPAdvertisements[0].Spec.Peers = []string{"tor"}
			withoutPassword(c, metav1.Condition{Reason: "UnknownSecret", Message: "spec.passwordSecret.name: there is no Secret tor"})
		}, "api", "BGPPeer tor", "UnknownSecret", []string{"there is no Secret tor"}},
		{"the peer's password is no good", func(c *kube.Cluster) {
			withoutPassword(c, metav1.Condition{Reason: "InvalidSecret", Message: "spec.passwordSecret.name: Secret tor has no entry password"})
		}, "api", "BGPPeer tor", "InvalidSecret", []string{"Secret tor has no entry"}},
		{"the advertisement misspells the peer", func(c *kube.Cluster) {
			c.BGPAdvertisements[0].Spec.Peers = []string{"torr"}
		}, "api", "BGPAdvertisement routed", "UnknownPeer", []string{"torr"}},
	}
}

// withoutPassword leaves the peer out, as the controller does.
func withoutPassword(c *kube.Cluster, why metav1.Condition) {
	why.Type, why.Status, why.ObservedGeneration = "Ready", metav1.ConditionFalse, c.Peers[0].Generation
	c.Peers[0].Spec.PasswordSecret = &v1beta1.SecretReference{Name: "tor"}
	c.Peers[0].Status.Conditions = []metav1.Condition{why}
}

// TestTroubles provokes each trouble alone, and wants the right cause said first, in one screen.
func TestTroubles(t *testing.T) {
	const screen = 45 // lines
	for _, test := range append(assigning(), announcing()...) {
		t.Run(test.name, func(t *testing.T) {
			c := fixture.Cluster(t)
			test.change(c)
			r := explained(t, c, test.service)
			if r.Healthy || len(r.Causes) == 0 {
				t.Fatalf("nothing is found wrong: %+v", r)
			}
			first := r.Causes[0]
			about := test.about
			if about == "" {
				about = "Service shop/" + test.service
			}
			if first.About != about || first.Reason != test.reason || first.Level != finding.Error {
				t.Errorf("the first cause is %+v, want %s of %s", first, test.reason, about)
			}
			for _, text := range test.says {
				if !strings.Contains(first.Message+" "+first.Remedy, text) {
					t.Errorf("%q is not in %q -> %q", text, first.Message, first.Remedy)
				}
			}
			if n := strings.Count(drawn(t, r), "\n"); n > screen {
				t.Errorf("%d lines are more than a screen", n)
			}
		})
	}
}

func drawn(t *testing.T, r Report) string {
	t.Helper()
	var out strings.Builder
	if err := (print.Printer{Out: &out}).Print(r, r.Draw); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestWell finds nothing wrong where nothing is.
func TestWell(t *testing.T) {
	for _, name := range []string{"web", "api"} {
		if r := explained(t, fixture.Cluster(t), name); !r.Healthy || len(r.Causes) != 0 {
			t.Errorf("%s: %+v", name, r.Causes)
		}
	}
}

// TestLastWords quotes what a speaker said before it ended.
func TestLastWords(t *testing.T) {
	for _, test := range announcing() {
		if test.name != "no speaker runs" {
			continue
		}
		c := fixture.Cluster(t)
		test.change(c)
		if text := drawn(t, explained(t, c, "web")); !strings.Contains(text, "CrashLoopBackOff, last ended with Error: port 9472 is taken") {
			t.Errorf("the speaker's last words are missing:\n%s", text)
		}
		return
	}
	t.Fatal("no such trouble")
}
