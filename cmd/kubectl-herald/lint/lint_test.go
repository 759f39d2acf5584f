package lint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
)

func judged(t *testing.T, text string) Result {
	t.Helper()
	docs, err := manifest.Read("test.yaml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Judge(docs, "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const good = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: web, namespace: shop}
`

func TestGood(t *testing.T) {
	r := judged(t, good)
	if !r.Healthy || len(r.Findings) != 0 || r.Objects != 3 || r.Skipped != 1 {
		t.Errorf("%+v", r)
	}
	var out strings.Builder
	if err := (print.Printer{Out: &out}).Print(r, r.Draw); err != nil {
		t.Fatal(err)
	}
	want := "Service shop/web would be given 192.0.2.0 from pool lan\n3 objects judged, 1 of other kinds skipped: no errors\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("drawn (-want +got):\n%s", diff)
	}
}

func TestFound(t *testing.T) {
	object := func(kind, name, spec string) string {
		return fmt.Sprintf("\n---\napiVersion: heraldlb.io/v1beta1\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\n", kind, name, spec)
	}
	service := func(name, more string) string {
		return fmt.Sprintf("\n---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: shop%s}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n", name, more)
	}
	for _, test := range []struct {
		name, text string
		about      string
		reason     string
		says       string
		level      finding.Level
	}{
		{"a field that does not exist", object("IPAddressPool", "lan", "addresses: [192.0.2.0/24], autoassign: false"), "IPAddressPool lan", "Refused", "autoassign", finding.Error},
		{"a field that is missing", object("IPAddressPool", "lan", ""), "IPAddressPool lan", "Refused", "spec.addresses", finding.Error},
		{"a value of another type", object("BGPPeer", "tor", "myASN: x, peerASN: 2, peerAddress: 192.0.2.1"), "BGPPeer tor", "Refused", "spec.myASN", finding.Error},
		{"host bits", object("IPAddressPool", "lan", "addresses: [192.0.2.1/24]"), "IPAddressPool lan", "InvalidAddress", "192.0.2.1/24", finding.Error},
		{
			"overlapping pools", object("IPAddressPool", "a", "addresses: [192.0.2.0/24]") + object("IPAddressPool", "b", "addresses: [192.0.2.7]"),
			"IPAddressPool b", "OverlappingPool", "IPAddressPool a", finding.Error,
		},
		{"an unknown pool", good + object("L2Advertisement", "other", "ipAddressPools: [lann]"), "L2Advertisement other", "UnknownPool", "lann", finding.Warning},
		{"an unknown kind", object("IPPool", "lan", ""), "IPPool lan", "UnknownKind", "no kind IPPool", finding.Error},
		{"a pool nobody advertises", good + object("IPAddressPool", "more", "addresses: [198.51.100.0/24]"), "IPAddressPool more", "NotAdvertised", "", finding.Warning},
		{"a Service of no pool", service("web", ""), "Service shop/web", "NoPool", "", finding.Error},
		{"a Service that asks for too much", good + service("more", ", annotations: {heraldlb.io/loadBalancerIPs: 198.51.100.1}"), "Service shop/more", "AddressNotInPool", "198.51.100.1", finding.Error},
		{"an address nobody announces", object("IPAddressPool", "lan", "addresses: [192.0.2.0/24]") + service("web", ""), "Service shop/web", "NoAdvertisement", "192.0.2.0", finding.Error},
		{
			"a pool with a node's address", good + "\n---\napiVersion: v1\nkind: Node\nmetadata: {name: node-1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.3}]}\n",
			"IPAddressPool lan", "NodeAddress", "192.0.2.3", finding.Warning,
		},
		{"twice the same", good + "\n---\n" + good, "IPAddressPool lan", "Duplicate", "document 5", finding.Error},
		{"no object", "hello: world\n", "test.yaml", "NotAnObject", "apiVersion and kind are missing", finding.Error},
		{"no YAML", "a: [\n", "test.yaml", "NotAnObject", "not YAML", finding.Error},
		{"a field given twice", "apiVersion: v1\nkind: Service\nkind: Pod\n", "test.yaml", "NotAnObject", `key "kind" already set`, finding.Error},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := judged(t, test.text)
			for _, f := range r.Findings {
				if f.About == test.about && f.Reason == test.reason && f.Level == test.level && strings.Contains(f.Message, test.says) {
					if want := test.level != finding.Error; r.Healthy != want {
						t.Errorf("healthy: %v", r.Healthy)
					}
					return
				}
			}
			t.Errorf("%s %s about %s with %q is not among %+v", test.level, test.reason, test.about, test.says, r.Findings)
		})
	}
}

// rules are examples of what the API server takes and refuses, which the end-to-end suite tries on a real one.
type rules struct {
	Kind     string
	Accepted []example
	Refused  []example
}

type example struct {
	About string
	Spec  json.RawMessage
}

// unseen are the examples that only an API server refuses: rules in CEL about what does the daemons no harm. docs/kubectl-herald.md says so.
func unseen() []string {
	return []string{
		"BGPPeer: a Secret of another namespace",
		"BGPPeer: a glob of interfaces",
		"BGPPeer: a local AS of 0",
		"IPAddressPool: a namespace that cannot be",
		"IPAddressPool: retaining for fractions of a second",
		"IPAddressPool: retaining for years",
		"IPAddressPool: spaces around an address",
		"L2Advertisement: a blank",
		"L2Advertisement: a name that the kernel refuses",
		"L2Advertisement: a path",
		"L2Advertisement: a regular expression",
	}
}

// TestAPIServersRules wants the same judgement as the API server's. Its rules in CEL have a counterpart in config/parse where they matter to
// the daemons.
func TestAPIServersRules(t *testing.T) {
	files, err := filepath.Glob("../../../test/e2e/install/testdata/rules/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	known, err := loadSchemas() // once: it takes longer than all the examples
	if err != nil {
		t.Fatal(err)
	}
	var missed []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var all rules
		if err := yaml.Unmarshal(text, &all); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, e := range all.Accepted {
			if r := ofExample(t, known, all.Kind, e); len(refusals(r)) > 0 {
				t.Errorf("%s: %s: %+v", all.Kind, e.About, refusals(r))
			}
		}
		for _, e := range all.Refused {
			if r := ofExample(t, known, all.Kind, e); len(r.Findings) == 0 {
				missed = append(missed, all.Kind+": "+e.About)
			}
		}
	}
	slices.Sort(missed)
	if diff := cmp.Diff(unseen(), missed); diff != "" {
		t.Errorf("refused by the API server, and nothing is found (-want +got):\n%s", diff)
	}
}

// refusals are what the API server would say.
func refusals(r Result) []finding.Finding {
	var out []finding.Finding
	for _, f := range r.Findings {
		if f.Reason == "Refused" {
			out = append(out, f)
		}
	}
	return out
}

func ofExample(t *testing.T, known schemas, kind string, e example) Result {
	t.Helper()
	object, err := json.Marshal(map[string]any{
		"apiVersion": "heraldlb.io/v1beta1", "kind": kind, "metadata": map[string]any{"name": "example"}, "spec": e.Spec,
	})
	if err != nil {
		t.Fatal(err)
	}
	docs, err := manifest.Read("example.json", bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	return judgeAll(known, docs, "")
}
