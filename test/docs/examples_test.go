package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	syaml "sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/lint"
	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
)

// example is a block of YAML.
type example struct {
	where   string
	text    string
	objects []manifest.Document // what it has for kubectl apply
	values  bool                // it is for helm install
}

// examples returns the YAML blocks of a page that are for Herald; others need only be YAML.
func (p page) examples(t *testing.T, values map[string]any) []example {
	t.Helper()
	var all []example
	for _, b := range p.blocks {
		if b.language != "yaml" {
			continue
		}
		e := example{where: fmt.Sprintf("%s:%d", p.path, b.line), text: b.text}
		docs, err := manifest.Read(e.where, strings.NewReader(b.text))
		if err != nil {
			t.Errorf("%s: %v", e.where, err)
			continue
		}
		if e.values = ofChart(b.text, values); !e.values {
			if !strings.Contains(b.text, "apiVersion:") {
				continue // the configuration of something else
			}
			e.objects = docs
		}
		all = append(all, e)
	}
	return all
}

// ofChart reports whether YAML looks like values of the chart: one known name is enough, so that a wrong one beside it is noticed.
func ofChart(text string, values map[string]any) bool {
	var top map[string]any
	if syaml.Unmarshal([]byte(text), &top) != nil || top["apiVersion"] != nil {
		return false
	}
	for name := range top {
		if _, ok := values[name]; ok {
			return true
		}
	}
	return false
}

// TestExamples judges every object in an example as the API server and the daemons would, each block by itself. What another block defines,
// best of the same page, may be missing.
func TestExamples(t *testing.T) {
	values := chartValues(t)
	var everywhere []example
	byPage := map[string][]example{}
	for _, p := range pages(t) {
		byPage[p.path] = p.examples(t, values)
		everywhere = append(everywhere, byPage[p.path]...)
	}
	count := 0
	site := judge(t, union(everywhere))
	for _, list := range byPage {
		whole := judge(t, union(list))
		for _, e := range list {
			if e.values {
				continue
			}
			count++
			for _, f := range complaints(judge(t, e.objects), whole, site) {
				t.Errorf("%s: %s: %s: %s", e.where, f.About, f.Reason, f.Message)
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d examples were found", count)
	}
}

// union is what examples define together: of several objects of one name the first.
func union(list []example) []manifest.Document {
	var all []manifest.Document
	for _, e := range list {
		for _, d := range e.objects {
			if !slices.ContainsFunc(all, func(o manifest.Document) bool { return o.Kind == d.Kind && o.Name() == d.Name() }) {
				all = append(all, d)
			}
		}
	}
	return all
}

func judge(t *testing.T, docs []manifest.Document) lint.Result {
	t.Helper()
	r, err := lint.Judge(docs, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// complaints are the findings about an example that the other examples do not heal.
func complaints(alone lint.Result, others ...lint.Result) []finding.Finding {
	return slices.DeleteFunc(slices.Clone(alone.Findings), func(f finding.Finding) bool {
		missing := strings.HasPrefix(f.Reason, "Unknown") || slices.Contains([]string{"NoPool", "AddressNotInPool", "NoAdvertisement", "NotAdvertised"}, f.Reason)
		return missing && slices.ContainsFunc(others, func(r lint.Result) bool {
			return !slices.ContainsFunc(r.Findings, func(w finding.Finding) bool { return w.About == f.About && w.Reason == f.Reason })
		})
	})
}

// TestValues renders the chart with every example of values, and judges the objects in it.
func TestValues(t *testing.T) {
	values := chartValues(t)
	count := 0
	for _, p := range pages(t) {
		for _, e := range p.examples(t, values) {
			if !e.values {
				continue
			}
			count++
			text, err := render(t, e.text)
			if err != nil {
				t.Errorf("%s: %v", e.where, err)
				continue
			}
			docs, err := manifest.Read(e.where, strings.NewReader(text))
			if err != nil {
				t.Fatalf("%s: %v", e.where, err)
			}
			for _, f := range judge(t, docs).Findings {
				t.Errorf("%s: %s: %s: %s", e.where, f.About, f.Reason, f.Message)
			}
		}
	}
	if count == 0 {
		t.Error("no examples were found")
	}
}

// TestExamplesBite makes sure that a bad example is noticed.
func TestExamplesBite(t *testing.T) {
	const pool = "apiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec: {addresses: [192.0.2.0/24]}\n"
	values := chartValues(t)
	for _, test := range []struct {
		name, page string
		wrong      int
	}{
		{"good", "```yaml\n" + pool + "```\n", 0},
		{"a field that does not exist", "```yaml\n" + pool + "---\n" + strings.Replace(strings.Replace(pool, "name: a", "name: b", 1), "spec: {", "spec: {adresses: [], ", 1) + "```\n", 1},
		{"a pool of another block", "```yaml\napiVersion: heraldlb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l}\nspec: {ipAddressPools: [a]}\n```\n```yaml\n" + pool + "```\n", 0},
		{"a pool of nowhere", "```yaml\napiVersion: heraldlb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: l}\nspec: {ipAddressPools: [b]}\n```\n```yaml\n" + pool + "```\n", 1},
		{"something else", "```yaml\nscrape_configs: []\n```\n", 0},
	} {
		p, _ := read("page.md", test.page)
		list := p.examples(t, values)
		whole := judge(t, union(list))
		wrong := 0
		for _, e := range list {
			wrong += len(complaints(judge(t, e.objects), whole))
		}
		if wrong != test.wrong {
			t.Errorf("%s: %d complaints, want %d", test.name, wrong, test.wrong)
		}
	}
	if _, err := render(t, "speaker: {tolerate: []}\n"); err == nil {
		t.Error("a value that does not exist is rendered")
	}
}

func chartValues(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(), "charts", "herald", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := syaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}
