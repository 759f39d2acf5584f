package check

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/inspect"
)

func proxyMode(text string) func(*kube.Cluster) {
	return func(c *kube.Cluster) { c.Proxy = &corev1.ConfigMap{Data: map[string]string{proxyKey: text}} }
}

// seen makes a speaker report a trouble of its node.
func seen(reason string) func(*kube.Cluster) {
	return func(c *kube.Cluster) {
		s := c.Speakers[2]
		s.Status.Conditions = append(s.Status.Conditions, metav1.Condition{Type: reason, Status: metav1.ConditionTrue, Reason: reason, Message: "see " + reason})
	}
}

func TestFound(t *testing.T) {
	renewed := func(at time.Duration) func(*kube.Cluster) {
		return func(c *kube.Cluster) { c.Leases[1].Spec.RenewTime.Time = c.Time.Add(at) }
	}
	pool := func(addresses ...v1beta1.AddressRange) func(*kube.Cluster) {
		return func(c *kube.Cluster) { c.Pools[0].Spec.Addresses = addresses }
	}
	for _, test := range []struct {
		name   string
		change func(*kube.Cluster)
		about  string
		reason string
		says   string
		level  finding.Level
	}{
		{"Kubernetes too old", func(c *kube.Cluster) { c.Server = "v1.30.9+k3s1" }, "API server", "KubernetesTooOld", "v1.30.9", finding.Error},
		{"no CRDs", func(c *kube.Cluster) { c.Missing = []string{"bgppeers"} }, "API server", "NoCRDs", "bgppeers", finding.Error},
		{"IPVS without strictARP", proxyMode("mode: ipvs\n"), "kube-proxy", "StrictARPOff", "IPVS", finding.Error},
		{"a speaker of another version", func(c *kube.Cluster) { c.Speakers[0].Status.Version = "v1.1.0" }, "speakers", "VersionSkew", "v1.1.0 on node-1", finding.Warning},
		{"a plugin of another version", func(c *kube.Cluster) {
			for _, s := range c.Speakers {
				s.Status.Version = "v1.1.0"
			}
		}, "kubectl herald", "VersionSkew", "v1.2.0", finding.Warning},
		{"a controller of another image", func(c *kube.Cluster) {
			c.Deployments[0].Spec.Template.Spec.Containers[0].Image = "herald:v2"
		}, "controller", "VersionSkew", "herald:v2", finding.Warning},
		{"the exclude label everywhere", func(c *kube.Cluster) {
			for _, n := range c.Nodes {
				n.Labels[corev1.LabelNodeExcludeBalancers] = ""
			}
		}, "nodes", "NoNodeMayAnnounce", "node-1, node-2, node-3 labelled", finding.Error},
		{"two labelled, one drained", func(c *kube.Cluster) {
			c.Nodes[0].Labels[corev1.LabelNodeExcludeBalancers] = ""
			c.Nodes[1].Labels[corev1.LabelNodeExcludeBalancers] = ""
			c.Nodes[2].Spec.Taints = []corev1.Taint{{Key: "heraldlb.io/drain"}}
		}, "nodes", "NoNodeMayAnnounce", "node-3 drained", finding.Error},
		{"a pool with a node's address", pool("192.168.1.100-192.168.1.103", "192.168.1.12"), "IPAddressPool lan", "NodeAddress", "node-2", finding.Warning},
		{"a pool with ClusterIPs", pool("192.168.1.100-192.168.1.103", "10.96.1.0/24"), "IPAddressPool lan", "ServiceCIDR", "10.96", finding.Warning},
		{"a pool with Pods' addresses", pool("192.168.1.100-192.168.1.103", "10.244.2.0/28"), "IPAddressPool lan", "PodCIDR", "node-2", finding.Warning},
		{"a bad object", func(c *kube.Cluster) { c.Peers[0].Spec.PeerAddress = "nonsense" }, "BGPPeer tor", "InvalidAddress", "nonsense", finding.Error},
		{"a speaker that does not stay up", func(c *kube.Cluster) {
			for _, p := range c.Pods {
				if p.Name == "herald-speaker-2" {
					p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
						Reason: "Error", Message: "herald-speaker: metrics: --metrics-address :9472: address already in use\n",
					}}
				}
			}
		}, "Pod herald-speaker-2 on node-2", "NotRunning", "9472: address already in use", finding.Error},
		{"gossip's port is taken", func(c *kube.Cluster) {
			c.Speakers[0].Status.Conditions[0] = metav1.Condition{Type: "Ready", Status: metav1.ConditionFalse, Reason: "GossipDown", Message: "gossip port 7947 is taken"}
		}, "speaker on node-1", "GossipDown", "7947", finding.Error},
		{"proxy_arp", seen(inspect.ProxyARP), "node node-3", inspect.ProxyARP, "", finding.Warning},
		{"rp_filter", seen(inspect.ReversePathFilter), "node node-3", inspect.ReversePathFilter, "", finding.Warning},
		{"another BGP speaker", seen(inspect.BGPSpeakerPresent), "node node-3", inspect.BGPSpeakerPresent, "", finding.Warning},
		{"the gateway in a pool", seen(inspect.GatewayInPool), "node node-3", inspect.GatewayInPool, "", finding.Warning},
		{"missing sockets", seen(inspect.SocketsMissing), "node node-3", inspect.SocketsMissing, "", finding.Warning},
		{"a clock nobody sets", seen(inspect.ClockUnsynchronised), "node node-3", inspect.ClockUnsynchronised, "", finding.Warning},
		{"a clock ahead", renewed(2 * time.Minute), "node node-2", "ClockSkew", "2m0s ahead", finding.Warning},
		{"a clock behind", renewed(-10 * time.Minute), "node node-2", "ClockSkew", "10m0s behind", finding.Warning},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := fixture.Cluster(t)
			test.change(c)
			r := Cluster(picture.New(c, picture.Options{}), "v1.2.0")
			var all []finding.Finding
			for _, one := range r.Checks {
				all = append(all, one.Findings...)
			}
			if len(all) == 0 || all[0].About != test.about || all[0].Reason != test.reason || all[0].Level != test.level || !strings.Contains(all[0].Message, test.says) {
				t.Errorf("found %+v, want first %s %s about %s with %q", all, test.level, test.reason, test.about, test.says)
			}
			if r.Healthy != (test.level == finding.Warning) {
				t.Errorf("healthy: %v", r.Healthy)
			}
		})
	}
}

// TestWell finds nothing where nothing is.
func TestWell(t *testing.T) {
	for name, change := range map[string]func(*kube.Cluster){
		"all is well":       func(*kube.Cluster) {},
		"IPVS as it should": proxyMode("mode: ipvs\nipvs: {strictARP: true}\n"),
		"another mode":      proxyMode("mode: nftables\n"),
		"label, ignored": func(c *kube.Cluster) {
			c.DaemonSets[0].Spec.Template.Spec.Containers[0].Args = []string{"--ignore-exclude-lb"}
			for _, n := range c.Nodes {
				n.Labels[corev1.LabelNodeExcludeBalancers] = ""
			}
		},
		"nothing installed yet": func(c *kube.Cluster) {
			c.Speakers, c.Deployments, c.DaemonSets, c.Pods = nil, nil, nil, nil
		},
		"an idle node": func(c *kube.Cluster) { c.Leases[0].Spec.RenewTime.Time = c.Time.Add(-40 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			c := fixture.Cluster(t)
			change(c)
			r := Cluster(picture.New(c, picture.Options{}), "v1.2.0")
			for _, one := range r.Checks {
				if len(one.Findings) > 0 {
					t.Errorf("%s: %+v", one.Name, one.Findings)
				}
			}
		})
	}
}

func TestMinor(t *testing.T) {
	for version, want := range map[string]int{"v1.31.4": 31, "v1.33": 33, "v1.32.1-gke.100": 32, "v1.30+": 30} {
		if got, ok := minorOf(version); !ok || got != want {
			t.Errorf("%s: %d %v", version, got, ok)
		}
	}
	for _, version := range []string{"", "v2.0.0", "unknown"} {
		if _, ok := minorOf(version); ok {
			t.Errorf("%q has a minor version", version)
		}
	}
}
