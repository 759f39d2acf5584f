package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/config/crd"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/test/lab"
)

// ruleCases is one file of testdata/rules: specs that the API server takes, and specs that it refuses with what it says.
type ruleCases struct {
	Kind     string     `json:"kind"`
	Accepted []ruleCase `json:"accepted"`
	Refused  []ruleCase `json:"refused"`
}

type ruleCase struct {
	About string         `json:"about"`
	Spec  map[string]any `json:"spec"`
	Says  []string       `json:"says"`
}

func readRuleCases(t *testing.T) []ruleCases {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "rules", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in testdata/rules: %v", err)
	}
	var all []ruleCases
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var c ruleCases
		if err := yaml.UnmarshalStrict(text, &c); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, c)
	}
	return all
}

// resourceOf returns the resource that serves a kind: its plural.
func resourceOf(kind string) schema.GroupVersionResource {
	if stem, ok := strings.CutSuffix(kind, "y"); ok {
		kind = stem + "ie"
	}
	return v1beta1.GroupVersion.WithResource(strings.ToLower(kind) + "s")
}

// checkRules asks the real API server, in a dry run, for every case.
func checkRules(t *testing.T, l *lab.Lab) {
	client, err := dynamic.NewForConfig(l.Cluster.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range readRuleCases(t) {
		try := func(t *testing.T, c ruleCase) error {
			o := &unstructured.Unstructured{Object: map[string]any{"spec": numbers(t, c.Spec)}}
			o.SetGroupVersionKind(v1beta1.GroupVersion.WithKind(file.Kind))
			o.SetName("case")
			_, err := client.Resource(resourceOf(file.Kind)).Create(deadline(t), o,
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
			return err
		}
		for _, c := range file.Accepted {
			t.Run(file.Kind+" accepts "+c.About, func(t *testing.T) {
				if err := try(t, c); err != nil {
					t.Error(err)
				}
			})
		}
		for _, c := range file.Refused {
			t.Run(file.Kind+" refuses "+c.About, func(t *testing.T) {
				err := try(t, c)
				if err == nil {
					t.Fatal("the API server takes it")
				}
				for _, want := range c.Says {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the refusal does not say %q:\n%v", want, err)
					}
				}
			})
		}
	}
}

// numbers turns the numbers of a spec into those that the client sends: whole ones stay whole.
func numbers(t *testing.T, spec map[string]any) map[string]any {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON([]byte(`{"apiVersion": "v1", "kind": "x", "spec": ` + string(text) + `}`)); err != nil {
		t.Fatal(err)
	}
	found, _, _ := unstructured.NestedMap(o.Object, "spec")
	return found
}

// TestEveryRuleHasACase compares the messages of the rules in the CRDs with what the cases wait for. It needs no laboratory.
func TestEveryRuleHasACase(t *testing.T) {
	definitions, err := crd.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	says := map[string][]string{}
	for _, file := range readRuleCases(t) {
		for _, c := range file.Refused {
			if len(c.Says) == 0 {
				t.Errorf("%s refuses %s: what does it say?", file.Kind, c.About)
			}
			plural := resourceOf(file.Kind).GroupResource().String()
			says[plural] = append(says[plural], c.Says...)
		}
	}
	rules := 0
	for _, d := range definitions {
		var body any
		if err := json.Unmarshal(d.JSON, &body); err != nil {
			t.Fatal(err)
		}
		for message := range messages(body) {
			rules++
			// Selectors are the same everywhere: it is enough to try them in one kind.
			if !waitedFor(message, says[d.Name]) && (!strings.Contains(message, "label key") && !strings.Contains(message, "operators") || !waitedFor(message, says["bgppeers.heraldlb.io"])) {
				t.Errorf("%s: no case waits for the rule that says %q", d.Name, message)
			}
		}
	}
	if rules < 20 {
		t.Errorf("only %d rules found in the CRDs", rules)
	}
}

// quoted finds the constant parts of a messageExpression.
var quoted = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`)

// messages collects what the rules of a schema say. Of an expression it is the longest constant part.
func messages(v any) map[string]bool {
	all := map[string]bool{}
	switch v := v.(type) {
	case map[string]any:
		if m, ok := v["message"].(string); ok && v["rule"] != nil {
			all[m] = true
		}
		if m, ok := v["messageExpression"].(string); ok {
			longest := ""
			for _, part := range quoted.FindAllStringSubmatch(m, -1) {
				if len(part[1]) > len(longest) {
					longest = part[1]
				}
			}
			all[strings.TrimLeft(strings.ReplaceAll(longest, `\'`, `'`), `"`)] = true
		}
		for _, child := range v {
			for m := range messages(child) {
				all[m] = true
			}
		}
	case []any:
		for _, child := range v {
			for m := range messages(child) {
				all[m] = true
			}
		}
	}
	return all
}

// waitedFor reports whether one of the expectations holds a good part of the message.
func waitedFor(message string, says []string) bool {
	for _, s := range says {
		if i := strings.LastIndex(s, `" `); i >= 0 {
			s = s[i+1:] // what follows the offending value
		}
		s = strings.TrimSpace(s)
		if len(s) >= 10 && strings.Contains(message, s) {
			return true
		}
	}
	return false
}
