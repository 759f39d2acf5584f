package migrate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
)

// TestNothingIsSilent gives each kind all the fields that there are rules for, with values of every shape, and some that there are none
// for: of each something is said, and what is not said to be lost is there.
func TestNothingIsSilent(t *testing.T) {
	values := []any{nil, true, false, 0, 7, "", "text", "10s", []any{}, []any{"a"}, []any{map[string]any{"name": "a"}}, map[string]any{}, map[string]any{"name": "a"}}
	for kind, rules := range kinds() {
		for _, value := range values {
			spec := map[string]any{"strange": value}
			for field := range rules {
				if field != afterwards {
					spec[field] = value
				}
			}
			body := map[string]any{"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": map[string]any{"name": "x"}, "spec": spec}
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			docs, err := manifest.Read("test", strings.NewReader(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			r := MetalLB(Input{Documents: docs})
			said := map[string]bool{}
			for _, n := range r.All() {
				for field := range spec {
					said[field] = said[field] || n.Field == field || strings.HasPrefix(n.Field, field+".") || strings.HasPrefix(n.Field, field+"[")
				}
			}
			for field := range spec {
				if !said[field] {
					t.Errorf("%s: nothing is said of %s: %#v", kind, field, value)
				}
			}
			if r.Whole() {
				t.Errorf("%s: a field that Herald does not have is not lost", kind)
			}
			if _, err := r.YAML(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestCommentsStayComments: whatever is in a name, no comment ends before its line does.
func TestCommentsStayComments(t *testing.T) {
	for _, evil := range []string{"a\nkind: Secret", "a\r\nkind: Secret", "a\u0085kind: Secret", "a\u2028kind: Secret", "a\x00b"} {
		o := &Object{Kind: "IPAddressPool", Name: "x", Spec: map[string]any{"addresses": []any{"192.0.2.1"}}, from: evil}
		o.note(Lost, evil, "addresses", evil)
		r := &Result{Objects: []*Object{o}, Notes: []Note{{Lost, evil, evil, evil, ""}}}
		text, err := r.YAML()
		if err != nil {
			t.Fatal(err)
		}
		docs, err := manifest.Read("test", strings.NewReader(text))
		if err != nil || len(docs) != 1 || docs[0].Err != nil || docs[0].Kind != "IPAddressPool" {
			t.Errorf("%q: %v, %+v of\n%s", evil, err, docs, text)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]string{"1m30s": "90s", "90s": "90s", "1500ms": "2s", "100ms": "1s", "0s": "0s", "24h": "300s"} {
		o := &Object{Spec: map[string]any{}}
		duration(300)(nil, o, "holdTime", text)
		if got := o.Spec["holdTime"]; got != want {
			t.Errorf("%s is %v, want %s", text, got, want)
		}
	}
}
