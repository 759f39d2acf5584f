package kube

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/config/crd"
)

// TestColumns prints objects as the API server does for kubectl get: the first thing that each column finds.
func TestColumns(t *testing.T) {
	for _, test := range []struct {
		object string
		want   map[string]string // by column
	}{
		{
			`{kind: BGPPeer, spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}, status: {conditions: [{type: Ready, status: "True"}]}}`,
			map[string]string{"Router": "192.0.2.1", "ASN": "64512", "My ASN": "64513", "Ready": "True"},
		},
		{
			`{kind: BGPPeer, spec: {myASN: 64513, dynamicASN: external, interface: eth1}}`,
			map[string]string{"Router": "eth1", "ASN": "external", "Ready": ""},
		},
		{
			`{kind: SpeakerStatus, status: {version: v1, gossip: {members: 3, alive: 2}, conditions: [{type: Ready, status: "False", message: no key}, {type: ProxyARP, status: "True"}]}}`,
			map[string]string{"Version": "v1", "Ready": "False", "Alive": "2", "Members": "3", "Reason": "no key"},
		},
		{
			`{kind: IPAddressPool, spec: {addresses: [192.0.2.0/24, 2001:db8::/64]}, status: {ipv4: {assigned: 3, available: 253}}}`,
			map[string]string{"Addresses": `["192.0.2.0/24","2001:db8::/64"]`, "IPv4 used": "3", "IPv4 free": "253", "IPv6 used": ""},
		},
	} {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(test.object), &o.Object); err != nil {
			t.Fatal(err)
		}
		columns := columnsOf(t, o.GetKind())
		for name, want := range test.want {
			i := slices.IndexFunc(columns, func(c column) bool { return c.Name == name })
			if i < 0 {
				t.Errorf("%s has no column %s", o.GetKind(), name)
				continue
			}
			if got := cell(t, columns[i].JSONPath, o.Object); got != want {
				t.Errorf("%s: column %s of %s is %q, want %q", o.GetKind(), name, test.object, got, want)
			}
		}
	}
}

// column is a column of a kind, as its definition has it.
type column struct{ Name, JSONPath string }

func columnsOf(t *testing.T, kind string) []column {
	t.Helper()
	all, err := crd.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		var def struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct{ AdditionalPrinterColumns []column }
			}
		}
		if err := json.Unmarshal(d.JSON, &def); err != nil {
			t.Fatal(err)
		}
		if def.Spec.Names.Kind == kind {
			return def.Spec.Versions[0].AdditionalPrinterColumns
		}
	}
	t.Fatalf("no kind %s", kind)
	return nil
}

// cell prints what a path leads to.
func cell(t *testing.T, path string, object map[string]any) string {
	t.Helper()
	p := jsonpath.New("column").AllowMissingKeys(true)
	if err := p.Parse("{" + path + "}"); err != nil {
		t.Fatal(err)
	}
	found, err := p.FindResults(object)
	if err != nil || len(found) == 0 || len(found[0]) == 0 {
		return ""
	}
	var b strings.Builder
	if err := p.PrintResults(&b, found[0][:1]); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
