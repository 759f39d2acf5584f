package kube

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergeCRD(t *testing.T) {
	want := `{"metadata": {"name": "a", "annotations": {"by": "us"}}, "spec": {"max": 4294967295, "kept": true}}`
	tests := map[string]struct{ have, next string }{
		"spec is replaced, what others wrote stays": {
			`{"metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "y"}, "annotations": {"by": "them", "mine": "z"}}, "spec": {"gone": 1}, "status": {"a": 1}}`,
			`{"metadata": {"name": "a", "resourceVersion": "7", "labels": {"x": "y"}, "annotations": {"by": "us", "mine": "z"}}, "spec": {"max": 4294967295, "kept": true}, "status": {"a": 1}}`,
		},
		"nothing there to merge with": {
			`{"metadata": {"name": "a"}}`,
			`{"metadata": {"name": "a", "annotations": {"by": "us"}}, "spec": {"max": 4294967295, "kept": true}}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := mergeCRD([]byte(tt.have), []byte(want))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(canonical(t, tt.next), canonical(t, string(got))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if _, err := mergeCRD([]byte("{"), []byte(want)); err == nil {
		t.Error("half an object is taken for one")
	}
}

// canonical prints JSON with sorted keys and numbers as they are written.
func canonical(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := decodeJSON([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestSameVersion(t *testing.T) {
	body := func(v string) []byte { return []byte(`{"metadata": {"resourceVersion": "` + v + `"}}`) }
	if !sameVersion(body("7"), body("7")) || sameVersion(body("7"), body("8")) || sameVersion(body(""), body("")) || sameVersion([]byte("x"), body("7")) {
		t.Error("resourceVersions are compared wrongly")
	}
}
