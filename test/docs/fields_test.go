package docs

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/heraldlb/herald/config/crd"
)

// schema is as much of a CRD's schema as names fields.
type schema struct {
	Properties map[string]schema
	Items      *schema
}

// fields returns the names of all fields below a schema. What Kubernetes defines, such as label selectors, has names of its own.
func (s schema) fields() []string {
	var all []string
	for name, field := range s.Properties {
		if slices.Contains([]string{"matchLabels", "matchExpressions", "conditions"}, name) {
			continue
		}
		all = append(all, name)
		if field.Items != nil {
			all = append(all, field.Items.fields()...)
		}
		all = append(all, field.fields()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// kinds returns the schema of each kind.
func kinds(t *testing.T) map[string]schema {
	t.Helper()
	list, err := crd.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]schema{}
	for _, d := range list {
		var c struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Schema struct{ OpenAPIV3Schema schema }
				}
			}
		}
		if err := json.Unmarshal(d.JSON, &c); err != nil {
			t.Fatalf("%s: %v", d.Name, err)
		}
		all[c.Spec.Names.Kind] = c.Spec.Versions[0].Schema.OpenAPIV3Schema
	}
	return all
}

// TestFields makes sure that docs/configuration.md has a section for each kind, which shows each field of its spec in an example or tells
// of it in words; SpeakerStatus has no spec, but a status that people read.
func TestFields(t *testing.T) {
	p := find(t, "docs/configuration.md")
	all := kinds(t)
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		part := all[kind].Properties["spec"]
		if kind == "SpeakerStatus" {
			part = all[kind].Properties["status"]
		}
		prose, blocks := p.section(t, kind)
		var text strings.Builder
		for _, b := range blocks {
			text.WriteString(b.text)
		}
		for _, l := range (page{prose: prose}).code() {
			text.WriteString(l.text + "\n")
		}
		if len(part.fields()) == 0 {
			t.Errorf("%s: no fields are known", kind)
		}
		for _, name := range part.fields() {
			if !regexp.MustCompile(`\b` + name + `\b`).MatchString(text.String()) {
				t.Errorf("docs/configuration.md: %s: nothing is said of %s", kind, name)
			}
		}
	}
}

// TestValueNames looks up every name of a value of the chart that stands in the docs, such as speaker.conflictProbe.
func TestValueNames(t *testing.T) {
	values := chartValues(t)
	names := slices.Sorted(maps.Keys(values))
	pattern := regexp.MustCompile(`^(` + strings.Join(names, "|") + `)((?:\.[a-zA-Z0-9]+)+)(?:[:=].*)?$`)
	count := 0
	for _, p := range pages(t) {
		for _, l := range p.code() {
			m := pattern.FindStringSubmatch(l.text)
			if m == nil {
				continue
			}
			count++
			if !has(values, strings.Split(m[1]+m[2], ".")) {
				t.Errorf("%s:%d: the chart has no value %s%s", p.path, l.number, m[1], m[2])
			}
		}
	}
	if count < 5 {
		t.Errorf("only %d values were found", count)
	}
}

// has reports whether there is something at a path. Below what is empty anything may stand: the schema of the chart judges that.
func has(v any, path []string) bool {
	m, ok := v.(map[string]any)
	switch {
	case len(path) == 0:
		return true
	case !ok:
		return false
	case len(m) == 0:
		return true
	}
	next, ok := m[path[0]]
	return ok && has(next, path[1:])
}

// TestMetricNames makes sure that every metric that a page names is one of docs/metrics.md, which a test elsewhere compares with what the
// daemons serve. A name that ends in _ or * stands for several; a histogram has series of its own.
func TestMetricNames(t *testing.T) {
	list := map[string]bool{}
	name := regexp.MustCompile(`\bherald_[a-z0-9_]+`)
	for _, l := range find(t, "docs/metrics.md").prose {
		if strings.HasPrefix(l.text, "| `herald_") {
			list[name.FindString(l.text)] = true
		}
	}
	if len(list) < 10 {
		t.Fatalf("docs/metrics.md lists %d metrics only", len(list))
	}
	for _, p := range pages(t) {
		for _, l := range append(p.commands(), p.code()...) {
			for _, found := range name.FindAllString(l.text, -1) {
				base := found
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					base = strings.TrimSuffix(base, suffix)
				}
				if !list[found] && !list[base] && !strings.HasSuffix(found, "_") {
					t.Errorf("%s:%d: docs/metrics.md does not list %s", p.path, l.number, found)
				}
			}
		}
	}
}
