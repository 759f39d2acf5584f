package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// endpoint is how a monitor asks: the first entry of a list in its spec.
func endpoint(t *testing.T, all []*unstructured.Unstructured, kind, list string) map[string]any {
	t.Helper()
	o := find(t, all, kind, "metrics")
	entries, _, _ := unstructured.NestedSlice(o.Object, "spec", list)
	if len(entries) != 1 {
		t.Fatalf("%s: %d %s", kind, len(entries), list)
	}
	return entries[0].(map[string]any)
}

// TestMonitors compares what the monitors ask for with what the daemons serve, for each way to serve it.
func TestMonitors(t *testing.T) {
	const both = "podMonitor: {enabled: true}, serviceMonitor: {enabled: true}"
	token := func(secret string) map[string]any {
		return map[string]any{"credentials": map[string]any{"name": secret, "key": "token"}}
	}
	for _, tt := range []struct {
		name, values string
		want         map[string]any
		made         bool // the chart makes a token
	}{
		{"as it comes", both, map[string]any{
			"scheme": "https", "authorization": token("edge-herald-metrics-token"), "tlsConfig": map[string]any{"insecureSkipVerify": true},
		}, true},
		{"certificate and token of the user", both + ", certSecret: tls, serverName: herald.example.com, tokenSecret: mine", map[string]any{
			"scheme": "https", "authorization": token("mine"),
			"tlsConfig": map[string]any{"serverName": "herald.example.com", "ca": map[string]any{"secret": map[string]any{"name": "tls", "key": "ca.crt"}}},
		}, false},
		{"in the clear", both + ", secure: false", map[string]any{"scheme": "http"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := mustTemplate(t, "metrics: {"+tt.values+"}")
			for kind, list := range map[string]string{"PodMonitor": "podMetricsEndpoints", "ServiceMonitor": "endpoints"} {
				have := endpoint(t, all, kind, list)
				for _, key := range []string{"scheme", "authorization", "tlsConfig"} {
					if diff := cmp.Diff(tt.want[key], have[key]); diff != "" {
						t.Errorf("%s: %s (-want +got):\n%s", kind, key, diff)
					}
				}
				if have["port"] != "metrics" || have["path"] != "/metrics" {
					t.Errorf("%s asks %v for %v", kind, have["port"], have["path"])
				}
			}
			if have := slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool {
				return o.GetKind() == "Secret" && o.GetName() == "edge-herald-metrics-token"
			}); have != tt.made {
				t.Errorf("the chart makes a token: %t, want %t", have, tt.made)
			}
		})
	}
}

// TestMonitorsFindPods follows the selectors: from each monitor to the pods of both daemons, and from the Services between them to a port.
func TestMonitorsFindPods(t *testing.T) {
	all := mustTemplate(t, "metrics: {podMonitor: {enabled: true}, serviceMonitor: {enabled: true}}\nspeaker: {metricsPort: 19472}")
	labelsOf := func(o *unstructured.Unstructured) map[string]string {
		labels, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "labels")
		return labels
	}
	holds := func(labels, selector map[string]string) bool {
		for k, v := range selector {
			if labels[k] != v {
				return false
			}
		}
		return len(selector) > 0
	}
	for component, kind := range map[string]string{"controller": "Deployment", "speaker": "DaemonSet"} {
		daemon := find(t, all, kind, component)
		service := named(t, all, "Service", "edge-herald-"+component+"-metrics")
		for monitor, labels := range map[string]map[string]string{"PodMonitor": labelsOf(daemon), "ServiceMonitor": service.GetLabels()} {
			o := find(t, all, monitor, "metrics")
			match, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector", "matchLabels")
			components := field(t, o, "spec", "selector", "matchExpressions").([]any)[0].(map[string]any)["values"].([]any)
			if !holds(labels, match) || !slices.Contains(components, any(labels["app.kubernetes.io/component"])) {
				t.Errorf("the %s does not find the %s: it looks for %v, %v", monitor, component, match, components)
			}
			if field(t, o, "spec", "jobLabel") != "app.kubernetes.io/name" || labels["app.kubernetes.io/name"] != "herald" {
				t.Errorf("the %s does not call the job of the %s herald", monitor, component)
			}
		}
		selector, _, _ := unstructured.NestedStringMap(service.Object, "spec", "selector")
		if !holds(labelsOf(daemon), selector) {
			t.Errorf("Service %s selects %v, not the %s", service.GetName(), selector, component)
		}
		port := field(t, daemon, "spec", "template", "spec", "containers", component, "ports", "metrics", "containerPort")
		if target := field(t, service, "spec", "ports", "metrics", "targetPort"); target != port {
			t.Errorf("Service %s leads to port %v", service.GetName(), target)
		}
		args := field(t, daemon, "spec", "template", "spec", "containers", component, "args").([]any)
		if want := fmt.Sprintf("--metrics-address=:%v", port); !slices.Contains(args, any(want)) {
			t.Errorf("the %s declares port %v, its arguments are %v", component, port, args)
		}
	}
}

// TestMetricsPermissions: what daemons and scrapers may do, and that without HTTPS nobody gets a permission for nothing.
func TestMetricsPermissions(t *testing.T) {
	roles := func(values string) map[string]string {
		out := map[string]string{}
		for _, o := range mustTemplate(t, values) {
			if o.GetKind() == "ClusterRole" && o.GetLabels()["app.kubernetes.io/component"] == "metrics" {
				out[o.GetName()] = toYAML(t, o.Object["rules"])
			}
		}
		return out
	}
	have := roles("{}")
	if text := have["edge-herald-metrics-reader.net-system"]; !strings.Contains(text, "/metrics") || strings.Contains(text, "resources") {
		t.Errorf("a scraper may: %s", text)
	}
	if text := have["edge-herald-metrics-review.net-system"]; !strings.Contains(text, "tokenreviews") || !strings.Contains(text, "subjectaccessreviews") {
		t.Errorf("the daemons may: %s", text)
	}
	if have := roles("metrics: {secure: false, podMonitor: {enabled: true}}"); len(have) > 0 {
		t.Errorf("without HTTPS: %v", have)
	}
	review := named(t, mustTemplate(t, "{}"), "ClusterRoleBinding", "edge-herald-metrics-review.net-system")
	subjects, _, _ := unstructured.NestedSlice(review.Object, "subjects")
	if len(subjects) != 2 {
		t.Errorf("subjects %v, want controller and speaker", subjects)
	}
}

// TestServerNameNeedsCertificate: a name to be checked without a certificate that has it would let no scrape succeed.
func TestServerNameNeedsCertificate(t *testing.T) {
	_, err := template(t, "metrics: {serverName: herald.example.com, podMonitor: {enabled: true}}")
	if err == nil || !strings.Contains(err.Error(), "metrics.certSecret") {
		t.Errorf("%v", err)
	}
}

// TestNetworkPolicy: kubelets reach the health port from anywhere, metrics may be bound to some, and every pod off the host's network is covered.
func TestNetworkPolicy(t *testing.T) {
	all := mustTemplate(t, "networkPolicy: {enabled: true, apiServerPorts: [8443], metricsFrom: [{podSelector: {matchLabels: {app: prometheus}}}]}")
	o := find(t, all, "NetworkPolicy", "controller")
	ports := map[string]bool{} // whether a port is for some only
	for _, rule := range field(t, o, "spec", "ingress").([]any) {
		r := rule.(map[string]any)
		_, some := r["from"]
		for _, p := range r["ports"].([]any) {
			ports[p.(map[string]any)["port"].(string)] = some
		}
	}
	if diff := cmp.Diff(map[string]bool{"health": false, "metrics": true}, ports); diff != "" {
		t.Errorf("ports that are open, and whether to some only (-want +got):\n%s", diff)
	}
	for _, component := range []string{"controller", "crds"} {
		egress := toYAML(t, field(t, find(t, all, "NetworkPolicy", component), "spec", "egress"))
		if !strings.Contains(egress, "port: 8443") {
			t.Errorf("%s may go out: %s", component, egress)
		}
	}
	if slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool {
		return o.GetKind() == "NetworkPolicy" && o.GetLabels()["app.kubernetes.io/component"] == "speaker"
	}) {
		t.Error("a policy for speakers, which use the host's network: no policy covers that")
	}
}

// TestSpeakerClaimsNoPorts: a port that a Pod on the host's network declares is the node's, and another Pod that declares it would keep the
// speaker from being scheduled. Only a PodMonitor needs one.
func TestSpeakerClaimsNoPorts(t *testing.T) {
	for values, want := range map[string][]any{
		"{}": nil,
		"metrics: {serviceMonitor: {enabled: true}}": nil,
		"metrics: {podMonitor: {enabled: true}}":     {"metrics"},
		"metrics: {podMonitor: true}":                {"metrics"},
	} {
		var have []any
		ports, _ := field(t, find(t, mustTemplate(t, values), "DaemonSet", "speaker"), "spec", "template", "spec", "containers", "speaker", "ports").([]any)
		for _, p := range ports {
			have = append(have, p.(map[string]any)["name"])
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: ports that the speaker declares (-want +got):\n%s", values, diff)
		}
	}
}

// TestSpeakerPorts: where something else has the ports of Herald, it can have others, all of them.
func TestSpeakerPorts(t *testing.T) {
	text, err := template(t, "{speaker: {metricsPort: 19472, healthPort: 19473}, gossip: {port: 17947}}")
	if err != nil {
		t.Fatal(err)
	}
	speaker := toYAML(t, find(t, objects(t, text), "DaemonSet", "speaker").Object)
	for _, port := range []string{" 9472", ":9472", " 9473", ":9473", " 7947", "=7947"} {
		if strings.Contains(speaker, port) {
			t.Errorf("port %s stands in the DaemonSet still", port)
		}
	}
}
