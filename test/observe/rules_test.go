package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func groups(t *testing.T) []Group {
	t.Helper()
	all, err := Rules(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const noPromtool = "promtool is not there: install the distribution's package prometheus (make packages does)"

// promtool runs promtool in a directory that has the rules and the tests of them.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip(noPromtool)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = playground(t)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func playground(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tests, err := filepath.Glob(filepath.Join("testdata", "*.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range append(tests, RulesFile(chartDir)) {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(from)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestAlerts plays the stories of testdata.
func TestAlerts(t *testing.T) {
	if out, err := promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "herald.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	tests, err := filepath.Glob(filepath.Join("testdata", "*.test.yaml"))
	if err != nil || len(tests) == 0 {
		t.Fatalf("stories in testdata: %v, %v", tests, err)
	}
	for _, test := range tests {
		t.Run(filepath.Base(test), func(t *testing.T) {
			if out, err := promtool(t, "test", "rules", filepath.Base(test)); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestExpressionsParse lets promtool read the queries of all panels, as if they were rules.
func TestExpressionsParse(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip(noPromtool)
	}
	type record struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var records []record
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				records = append(records, record{
					fmt.Sprintf("panel_%d:%s:%s", p.ID, strings.TrimSuffix(d.File, ".json"), target.RefID),
					strings.ReplaceAll(target.Expr, "$__rate_interval", "1m"),
				})
			}
		}
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": records}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "panels.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, "check", "rules", file); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestEveryAlertHasItsStory: in testdata each alert is silent first, then fires, then is silent again.
func TestEveryAlertHasItsStory(t *testing.T) {
	type expectation struct {
		Alert  string           `json:"alertname"`
		Alerts []map[string]any `json:"exp_alerts"`
	}
	course := map[string]string{}
	tests, _ := filepath.Glob(filepath.Join("testdata", "*.test.yaml"))
	for _, test := range tests {
		text, err := os.ReadFile(test)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Tests []struct {
				Stories []expectation `json:"alert_rule_test"`
			} `json:"tests"`
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", test, err)
		}
		for _, story := range file.Tests {
			for _, e := range story.Stories {
				course[e.Alert] += map[bool]string{true: "fires ", false: "silent "}[len(e.Alerts) > 0]
			}
		}
	}
	for _, r := range Alerts(groups(t)) {
		if !strings.Contains(course[r.Alert], "silent fires silent") {
			t.Errorf("%s: %q in testdata, want it silent, then firing, then silent", r.Alert, course[r.Alert])
		}
	}
}

// TestAnnotations: each alert says what an on-call person needs, and its metrics are there.
func TestAnnotations(t *testing.T) {
	known := metrics(t)
	seen := map[string]bool{}
	for _, r := range Alerts(groups(t)) {
		if seen[r.Alert] || !strings.HasPrefix(r.Alert, "Herald") {
			t.Errorf("%s: twice, or not of Herald by its name", r.Alert)
		}
		seen[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: no summary or description", r.Alert)
		}
		if want := "https://github.com/heraldlb/herald/blob/main/docs/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url is %s", r.Alert, r.Annotations["runbook_url"])
		}
		uses := Uses(r.Expr, "herald_")
		if len(uses) == 0 {
			t.Errorf("%s asks for no metric of Herald", r.Alert)
		}
		for _, u := range uses {
			if err := u.Check(known, targetLabels); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
	}
}

// TestRunbooks: a page for each alert, with what it must say, and no page of an alert that is not there.
func TestRunbooks(t *testing.T) {
	want := map[string]bool{"README": true}
	index, err := os.ReadFile(filepath.Join(runbookDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Alerts(groups(t)) {
		want[r.Alert] = true
		if !strings.Contains(string(index), "("+r.Alert+".md)") {
			t.Errorf("README.md of the runbooks does not lead to %s", r.Alert)
		}
		text, err := os.ReadFile(filepath.Join(runbookDir, r.Alert+".md"))
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.HasPrefix(string(text), "# "+r.Alert+"\n") {
			t.Errorf("%s.md is not headed by the alert's name", r.Alert)
		}
		if !strings.Contains(string(text), "kubectl ") {
			t.Errorf("%s.md has no command", r.Alert)
		}
		for _, section := range []string{"What it means", "Impact", "Look first", "Mend", "Silence"} {
			if !strings.Contains(string(text), "\n## "+section+"\n") {
				t.Errorf("%s.md has no section %q", r.Alert, section)
			}
		}
	}
	pages, _ := filepath.Glob(filepath.Join(runbookDir, "*.md"))
	for _, page := range pages {
		if name := strings.TrimSuffix(filepath.Base(page), ".md"); !want[name] {
			t.Errorf("%s is the runbook of no alert", name)
		}
	}
}

// render returns the PrometheusRule that the chart makes with these values.
func render(t *testing.T, values string) []Group {
	t.Helper()
	find := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=go.tool.mod", "helm")
	find.Dir = filepath.Join("..", "..")
	helm, err := find.Output()
	if err != nil {
		t.Fatalf("building helm: %v", err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), strings.TrimSpace(string(helm)), "template", "edge", chartDir,
		"--kube-version", "1.31.0", "--show-only", "templates/prometheusrule.yaml", "--values", "-")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(home, "none"), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	cmd.Stdin = strings.NewReader(values)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, stderr.String())
	}
	var object struct {
		Kind string
		Spec struct{ Groups []Group }
	}
	if err := yaml.Unmarshal(out, &object); err != nil || object.Kind != "PrometheusRule" {
		t.Fatalf("helm rendered %s: %v", out, err)
	}
	return object.Spec.Groups
}

// TestChartKeepsTheRules: what the chart makes of the rules is the rules, with the changes that were asked for.
func TestChartKeepsTheRules(t *testing.T) {
	want := groups(t)
	for i := range want {
		for j := range want[i].Rules {
			r := &want[i].Rules[j]
			r.Expr = strings.TrimSpace(r.Expr) + "\n"
		}
	}
	if diff := cmp.Diff(want, render(t, `metrics: {prometheusRule: {enabled: true}}`)); diff != "" {
		t.Errorf("rendered without changes (-file +chart):\n%s", diff)
	}
	have := render(t, `
metrics:
  prometheusRule:
    enabled: true
    alertLabels: {team: network}
    runbookURL: https://example.com/books
    rules:
      HeraldPoolNearlyExhausted: {threshold: 0.25, for: 2h, severity: info}
      HeraldBGPSessionFlapping: {threshold: 5}
      HeraldVersionSkew: {enabled: false}`)
	for i := range want {
		want[i].Rules = slices.DeleteFunc(want[i].Rules, func(r Rule) bool { return r.Alert == "HeraldVersionSkew" })
		for j := range want[i].Rules {
			r := &want[i].Rules[j]
			r.Labels["team"] = "network"
			r.Annotations["runbook_url"] = "https://example.com/books/" + r.Alert + ".md"
			switch r.Alert {
			case "HeraldPoolNearlyExhausted":
				r.Expr, r.For, r.Labels["severity"] = strings.Replace(r.Expr, "< 0.1\n", "< 0.25\n", 1), "2h", "info"
			case "HeraldBGPSessionFlapping":
				r.Expr = strings.Replace(r.Expr, "> 2\n", "> 5\n", 1)
			}
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("rendered with changes (-wanted +chart):\n%s", diff)
	}
}

// TestSchemaKnowsTheAlerts: values.schema.json takes changes of the alerts that are there, and of no others.
func TestSchemaKnowsTheAlerts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	var at node
	if err := json.Unmarshal(text, &at); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"metrics", "prometheusRule", "rules"} {
		next := at.Properties[key]
		at = node{}
		if err := json.Unmarshal(next, &at); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
	var want, have []string
	for _, r := range Alerts(groups(t)) {
		want = append(want, r.Alert)
	}
	for name := range at.Properties {
		have = append(have, name)
	}
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("alerts (-there +in the schema):\n%s", diff)
	}
}
