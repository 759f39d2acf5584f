package chart

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLint(t *testing.T) {
	for _, file := range []string{filepath.Join(chartDir, "values.yaml"), filepath.Join("testdata", "all.yaml")} {
		if _, err := helm(t, "lint", "--strict", "--kube-version", oldest, "-f", file, chartDir); err != nil {
			t.Error(err)
		}
	}
}

// leaf is a value that stands by itself: not a group of others.
type leaf struct {
	path  []string
	value any
}

// leaves returns the values that are documented as such in values.yaml. What is an empty map there ({}) is one value.
func leaves(path []string, v any) []leaf {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 || (len(path) > 0 && path[len(path)-1] == "resources") {
		return []leaf{{slices.Clone(path), v}}
	}
	var all []leaf
	for key, child := range m {
		all = append(all, leaves(append(slices.Clone(path), key), child)...)
	}
	return all
}

// put makes a tree of values that holds nothing but one.
func put(path []string, v any) map[string]any {
	if len(path) == 1 {
		return map[string]any{path[0]: v}
	}
	return map[string]any{path[0]: put(path[1:], v)}
}

func get(v any, path []string) (any, bool) {
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[key]; !ok {
			return nil, false
		}
	}
	return v, true
}

// needs are values that show their effect only beside another.
func needs(path string) string {
	return map[string]string{
		"networkPolicy.apiServerPorts":         "{networkPolicy: {enabled: true}}",
		"networkPolicy.metricsFrom":            "{networkPolicy: {enabled: true}}",
		"crds.install":                         "{crds: {keep: false}}",
		"metrics.serverName":                   "{metrics: {certSecret: metrics-tls, podMonitor: {enabled: true}}}",
		"metrics.tokenSecret":                  "{metrics: {podMonitor: {enabled: true}}}",
		"metrics.podMonitor.labels":            "{metrics: {podMonitor: {enabled: true}}}",
		"metrics.podMonitor.interval":          "{metrics: {podMonitor: {enabled: true}}}",
		"metrics.podMonitor.scrapeTimeout":     "{metrics: {podMonitor: {enabled: true}}}",
		"metrics.serviceMonitor.labels":        "{metrics: {serviceMonitor: {enabled: true}}}",
		"metrics.serviceMonitor.interval":      "{metrics: {serviceMonitor: {enabled: true}}}",
		"metrics.serviceMonitor.scrapeTimeout": "{metrics: {serviceMonitor: {enabled: true}}}",

		"metrics.prometheusRule.labels":      "{metrics: {prometheusRule: {enabled: true}}}",
		"metrics.prometheusRule.alertLabels": "{metrics: {prometheusRule: {enabled: true}}}",
		"metrics.prometheusRule.runbookURL":  "{metrics: {prometheusRule: {enabled: true}}}",
		"metrics.prometheusRule.rules":       "{metrics: {prometheusRule: {enabled: true}}}",

		"metrics.dashboards.labels.grafana_dashboard":   "{metrics: {dashboards: {enabled: true}}}",
		"metrics.dashboards.annotations.grafana_folder": "{metrics: {dashboards: {enabled: true}}}",
	}[path]
}

// TestEveryValueCounts renders the chart once for each value that values.yaml documents: it must be accepted and change something.
func TestEveryValueCounts(t *testing.T) {
	all := readYAML(t, filepath.Join("testdata", "all.yaml"))
	for _, l := range leaves(nil, readYAML(t, filepath.Join(chartDir, "values.yaml"))) {
		name := strings.Join(l.path, ".")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, ok := get(all, l.path)
			if !ok {
				t.Fatalf("%s is documented in values.yaml and has no entry in testdata/all.yaml", name)
			}
			if reflect.DeepEqual(v, l.value) {
				t.Fatalf("%s has its default in testdata/all.yaml", name)
			}
			base := map[string]any{}
			if with := needs(name); with != "" {
				base = parse(t, with)
			}
			before, after := render(t, base), render(t, merge(base, put(l.path, v)))
			if before == after {
				t.Errorf("%s: %v changes nothing in what is rendered", name, v)
			}
		})
	}
}

// TestToggles: what has enabled beside other values may also be true or false itself, and is then as it comes.
func TestToggles(t *testing.T) {
	n := 0
	for _, l := range leaves(nil, readYAML(t, filepath.Join(chartDir, "values.yaml"))) {
		group := l.path[:len(l.path)-1]
		if l.path[len(l.path)-1] != "enabled" {
			continue
		}
		n++
		t.Run(strings.Join(group, "."), func(t *testing.T) {
			t.Parallel()
			for _, on := range []bool{true, false} {
				if diff := cmp.Diff(render(t, put(l.path, on)), render(t, put(group, on))); diff != "" {
					t.Errorf("%t (-enabled: %t +%t alone):\n%s", on, on, on, diff)
				}
			}
		})
	}
	if n != 6 {
		t.Errorf("%d groups are switched on and off, want 6", n)
	}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "v.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readYAML(t, file)
}

func merge(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for k, v := range b {
		am, ok1 := out[k].(map[string]any)
		bm, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			out[k] = merge(am, bm)
		} else {
			out[k] = v
		}
	}
	return out
}

func render(t *testing.T, values map[string]any) string {
	t.Helper()
	text, err := template(t, toYAML(t, values))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestMisspelt adds a value nobody knows to every group of values.
func TestMisspelt(t *testing.T) {
	all := readYAML(t, filepath.Join("testdata", "all.yaml"))
	free := []string{"podAnnotations", "podLabels", "nodeSelector", "labels", "alertLabels", "annotations", "requests", "limits", "matchLabels", "nodeAffinity"}
	n := 0
	var walk func(path []string, v any)
	walk = func(path []string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if len(path) > 0 && slices.Contains(free, path[len(path)-1]) {
				return
			}
			n++
			v["mispelt"] = "x"
			text := toYAML(t, all)
			delete(v, "mispelt")
			if _, err := template(t, text); err == nil || !strings.Contains(err.Error(), "additional properties 'mispelt' not allowed") {
				t.Errorf("%s.mispelt: want it refused, got %v", strings.Join(path, "."), err)
			}
			for key, child := range v {
				if key != "spec" || len(v) > 0 { // a spec is checked one level deep, the rest by the API server
					walk(append(slices.Clone(path), key), child)
				}
			}
		case []any:
			if len(path) > 2 && path[len(path)-2] == "spec" {
				return
			}
			for _, child := range v {
				walk(append(slices.Clone(path), "[]"), child)
			}
		}
	}
	walk(nil, all)
	if n < 15 {
		t.Errorf("only %d groups of values were tried", n)
	}
}

func TestRefused(t *testing.T) {
	tests := map[string]struct{ values, want string }{
		"port as text":           {`{gossip: {port: "7947"}}`, "/gossip/port"},
		"port out of range":      {`{gossip: {port: 70000}}`, "/gossip/port"},
		"negative replicas":      {`{controller: {replicas: -1}}`, "/controller/replicas"},
		"unknown level":          {`{speaker: {logLevel: loud}}`, "/speaker/logLevel"},
		"truth as text":          {`{speaker: {ignoreExcludeLB: "yes"}}`, "/speaker/ignoreExcludeLB"},
		"digest without a hash":  {`{image: {digest: latest}}`, "/image/digest"},
		"resources misspelt":     {`{speaker: {resources: {request: {cpu: 1}}}}`, "/speaker/resources"},
		"not a quantity":         {`{speaker: {resources: {requests: {cpu: many}}}}`, "/speaker/resources/requests/cpu"},
		"toleration misspelt":    {`{speaker: {tolerations: [{keys: a}]}}`, "/speaker/tolerations/0"},
		"pool without a name":    {`{config: {ipAddressPools: [{spec: {addresses: [192.0.2.0/24]}}]}}`, "missing property 'name'"},
		"pool without addresses": {`{config: {ipAddressPools: [{name: a, spec: {}}]}}`, "missing property 'addresses'"},
		"pool with a bad name":   {`{config: {ipAddressPools: [{name: A_b, spec: {addresses: [192.0.2.0/24]}}]}}`, "/config/ipAddressPools/0/name"},
		"field of another kind":  {`{config: {l2Advertisements: [{name: a, spec: {peers: [b]}}]}}`, "additional properties 'peers' not allowed"},
		"peer without our AS":    {`{config: {bgpPeers: [{name: a, spec: {peerASN: 2, peerAddress: 192.0.2.1}}]}}`, "missing property 'myASN'"},
		"password in clear text": {`{config: {bgpPeers: [{name: a, spec: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, password: x}}]}}`, "additional properties 'password' not allowed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := template(t, tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want a refusal that says %q, got %v", tt.want, err)
			}
		})
	}
}

// TestConfigSpecs compares the fields that values.schema.json allows in config with those that the CRDs have.
func TestConfigSpecs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{
		"ipAddressPools": "ipaddresspools", "ipReservations": "ipreservations", "l2Advertisements": "l2advertisements", "bgpPeers": "bgppeers", "bgpAdvertisements": "bgpadvertisements",
		"bfdProfiles": "bfdprofiles", "communities": "communities",
	}
	for value, plural := range kinds {
		def := readYAML(t, filepath.Join("..", "..", "config", "crd", "heraldlb.io_"+plural+".yaml"))
		versions, _ := get(def, []string{"spec", "versions"})
		want, ok := get(versions.([]any)[0], []string{"schema", "openAPIV3Schema", "properties", "spec"})
		if !ok {
			t.Fatalf("%s: no schema of spec", plural)
		}
		have, ok := get(schema, []string{"properties", "config", "properties", value, "items", "properties", "spec"})
		if !ok {
			t.Fatalf("values.schema.json has no config.%s[].spec", value)
		}
		for _, what := range []string{"properties", "required"} {
			if diff := cmp.Diff(names(want, what), names(have, what)); diff != "" {
				t.Errorf("config.%s[].spec: %s differ (-CRD +values.schema.json):\n%s", value, what, diff)
			}
		}
	}
}

// names returns the sorted keys of a map, or the sorted entries of a list, below key.
func names(v any, key string) []string {
	child, _ := get(v, []string{key})
	var all []string
	switch child := child.(type) {
	case map[string]any:
		for name := range child {
			all = append(all, name)
		}
	case []any:
		for _, name := range child {
			all = append(all, name.(string))
		}
	}
	slices.Sort(all)
	return all
}
