package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/netlab"
)

const scrapers = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: passer-by, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus-reads-herald}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %s}
subjects:
- {kind: ServiceAccount, name: prometheus, namespace: default}
`

// door is where a daemon serves its metrics, and a host that gets there.
type door struct {
	what string
	from *netlab.Host
	at   string // address and port
	says string // what is in the metrics of this daemon, and not of the other
}

// doors are those of a speaker, from outside and from its own node, as kubectl port-forward comes; and that of a controller.
func (s *stage) doors() []door {
	s.t.Helper()
	n := s.Nodes[0]
	all := []door{{"a speaker, on the loopback address", n.Host, "127.0.0.1:9472", "herald_gossip_members"}}
	for _, ip := range n.Addresses {
		all = append(all, door{"a speaker, on " + ip.String(), s.Client, netip.AddrPortFrom(ip, 9472).String(), "herald_gossip_members"})
	}
	pods, err := s.API.CoreV1().Pods(s.Namespace).List(s.t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	s.must(err)
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil || p.Status.PodIP == "" {
			continue // on its way out, or in
		}
		ip, err := netip.ParseAddr(p.Status.PodIP)
		s.must(err)
		all = append(all, door{"controller " + p.Name, n.Host, netip.AddrPortFrom(ip, 9472).String(), "herald_leader"})
	}
	if len(all) < 4 {
		s.t.Fatalf("no controller runs: %v", all)
	}
	return all
}

// TestMetricsSecure asks both daemons for metrics as a ServiceAccount that is bound to the chart's role, as one that is not, and as nobody.
func TestMetricsSecure(t *testing.T) {
	s := on(t)
	objects := fmt.Sprintf(scrapers, s.Name("metrics-reader")+"."+s.Namespace)
	s.must(s.Apply(t.Context(), objects))
	t.Cleanup(func() {
		_, err := s.Kubectl(context.Background(), "delete", "serviceaccount/prometheus", "serviceaccount/passer-by", "clusterrolebinding/prometheus-reads-herald")
		s.must(err)
	})
	token := func(account string) string {
		text, err := s.Kubectl(t.Context(), "create", "token", account)
		s.must(err)
		return strings.TrimSpace(text)
	}
	bound, other := token("prometheus"), token("passer-by")
	for _, d := range s.doors() {
		for _, c := range []struct {
			who, scheme, token string
			status             int
			says               string
		}{
			{"bound to the role", "https", bound, http.StatusOK, d.says},
			{"not bound to it", "https", other, http.StatusForbidden, "system:serviceaccount:default:passer-by may not get /metrics"},
			{"with a token of nobody", "https", "made.up.token", http.StatusUnauthorized, "does not know this token"},
			{"with no token", "https", "", http.StatusUnauthorized, "no bearer token"},
			{"without TLS", "http", "", http.StatusBadRequest, "HTTPS"},
		} {
			s.eventually(d.what+", asked by one "+c.who, func(ctx context.Context) error { // a role that was just bound is not known everywhere at once
				status, text, err := scene.Scrape(ctx, d.from, c.scheme+"://"+d.at+"/metrics", c.token, nil)
				if err != nil {
					return err
				}
				if status != c.status || !strings.Contains(text, c.says) {
					return fmt.Errorf("status %d, not %d with %q:\n%.500s", status, c.status, c.says, text)
				}
				return nil
			})
		}
	}
}

// TestMetricsPlain runs the daemons with metrics for everybody.
func TestMetricsPlain(t *testing.T) {
	for i, program := range programs() {
		t.Run(program, func(t *testing.T) {
			s := on(t)
			h := s.outsider(150 + i)
			s.run(h, program, everything(program, s.kubeconfig(s.Cluster.URL()), "--metrics-secure=false")...)
			s.eventually("metrics", func(ctx context.Context) error {
				status, text, err := scene.Scrape(ctx, h, "http://127.0.0.1:9472/metrics", "", nil)
				if err == nil && (status != http.StatusOK || !strings.Contains(text, "herald_build_info")) {
					err = fmt.Errorf("status %d: %.500s", status, text)
				}
				return err
			})
		})
	}
}
