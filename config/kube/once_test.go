package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/parse"
)

// kubeconfig writes a kubeconfig for a token; its current namespace is "shop".
func (s *apiServer) kubeconfig(token string) string {
	s.write("kubeconfig-"+token, `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "`+s.url+`", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: `+token+`}}]
contexts: [{name: here, context: {cluster: c, user: u, namespace: shop}}, {name: elsewhere, context: {cluster: c, user: u}}]
current-context: here
`)
	return s.path("kubeconfig-" + token)
}

const onceObjects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: inner, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {taints: [{key: other, effect: NoSchedule}]}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ours, namespace: shop, labels: {app.kubernetes.io/name: herald}}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: theirs, namespace: shop}
spec: {selector: {matchLabels: {a: c}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-proxy, namespace: kube-system}
data: {config.conf: "mode: ipvs"}
`

// TestRealOnce reads a cluster once as kubectl would, and drains a node, at a real API server.
func TestRealOnce(t *testing.T) {
	s := startAPIServer(t)
	s.apply(onceObjects)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := Open(Access{Kubeconfig: s.kubeconfig(adminToken), Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if c.Namespace() != "shop" {
		t.Errorf("the current namespace is %q", c.Namespace())
	}
	if e, err := Open(Access{Kubeconfig: s.kubeconfig(adminToken), Context: "elsewhere"}); err != nil || e.Namespace() != metav1.NamespaceDefault {
		t.Errorf("the other context: %v", err)
	}
	got, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Services) != 1 || len(got.Nodes) != 1 || len(got.Pools) != 1 || len(got.Deployments) != 1 || got.Proxy == nil || len(got.Namespaces) < 2 {
		t.Errorf("read %d Services, %d Nodes, %d pools, %d Deployments, proxy %v, %d namespaces",
			len(got.Services), len(got.Nodes), len(got.Pools), len(got.Deployments), got.Proxy, len(got.Namespaces))
	}
	if len(got.Missing)+len(got.Unread) != 0 || !got.Synced || !strings.HasPrefix(got.Server, "v1.") {
		t.Errorf("missing %v, unread %v, server %q", got.Missing, got.Unread, got.Server)
	}
	if off := time.Since(got.Time); off.Abs() > time.Minute || got.Now != got.Time {
		t.Errorf("the API server's clock is read as %v off", off)
	}
	drainAndBack(ctx, t, c)

	s.kubectl("", "delete", "crd", "ipreservations.heraldlb.io")
	eventually(t, "a kind that is gone to be missing", func() bool {
		got, err := c.Read(ctx)
		return err == nil && len(got.Missing) == 1 && got.Missing[0] == "ipreservations"
	})
}

func drainAndBack(ctx context.Context, t *testing.T, c *Client) {
	t.Helper()
	for _, step := range []struct{ drain, changed bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		changed, err := c.Drain(ctx, "node-1", step.drain)
		if err != nil || changed != step.changed {
			t.Errorf("drain %v: changed %v, %v", step.drain, changed, err)
		}
		node, err := c.core.CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ours, others := 0, 0
		for _, taint := range node.Spec.Taints {
			switch taint.Key {
			case parse.DrainTaint:
				ours++
			case "other":
				others++
			}
		}
		if (ours == 1) != step.drain || others != 1 {
			t.Errorf("drain %v: the taints are %v", step.drain, node.Spec.Taints)
		}
	}
	if _, err := c.Drain(ctx, "none", true); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a node that is not there: %v", err)
	}
	if r, err := c.Report(ctx, "node-1"); r != nil || err != nil {
		t.Errorf("a speaker that has not reported: %v, %v", r, err)
	}
}

// TestRealOnceForbidden says what may not be read.
func TestRealOnceForbidden(t *testing.T) {
	s := startAPIServer(t)
	c, err := Open(Access{Kubeconfig: s.kubeconfig(nobodyToken)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("reading as nobody: %v", err)
	}
	// The rest may be unread: who may read the basics alone is told what is missing in the picture.
	for _, resource := range []string{
		"services", "endpointslices.discovery.k8s.io", "nodes", "ipaddresspools.heraldlb.io", "ipreservations.heraldlb.io",
		"l2advertisements.heraldlb.io", "bgppeers.heraldlb.io", "bgpadvertisements.heraldlb.io", "bfdprofiles.heraldlb.io", "communities.heraldlb.io", "speakerstatuses.heraldlb.io",
	} {
		name := strings.ReplaceAll(resource, ".", "-")
		s.kubectl("", "create", "clusterrole", name, "--verb=list", "--resource="+resource)
		s.kubectl("", "create", "clusterrolebinding", name, "--clusterrole="+name, "--user=nobody")
	}
	eventually(t, "the roles to count", func() bool {
		got, err := c.Read(t.Context())
		return err == nil && len(got.Unread) >= 5 && strings.Contains(strings.Join(got.Unread, "\n"), "daemonsets: ")
	})
}

func TestOpenNothing(t *testing.T) {
	if _, err := Open(Access{Kubeconfig: t.TempDir() + "/none"}); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("a file that is not there: %v", err)
	}
}
