package crd

import (
	"encoding/json"
	"slices"
	"testing"
)

// tested is what the tests look at.
type tested struct {
	Spec struct {
		Group string
		Names struct {
			Kind       string
			Categories []string
		}
		Scope    string
		Versions []struct {
			Name                     string
			AdditionalPrinterColumns []struct{ Name, JSONPath string }
			Subresources             struct{ Status *struct{} }
			Schema                   struct{ OpenAPIV3Schema schema }
		}
	}
}

type schema struct {
	Type        string
	Description string
	Properties  map[string]schema
	Items       *schema
	ListType    string `json:"x-kubernetes-list-type"`
}

func load(t *testing.T) map[string]tested {
	t.Helper()
	list, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]tested, len(list))
	for _, d := range list {
		var c tested
		if err := json.Unmarshal(d.JSON, &c); err != nil {
			t.Fatalf("%s: %v", d.Name, err)
		}
		all[d.Name] = c
	}
	return all
}

func TestKinds(t *testing.T) {
	all := load(t)
	for _, plural := range []string{"ipaddresspools", "l2advertisements", "bgppeers", "bgpadvertisements", "speakerstatuses"} {
		if _, ok := all[plural+".heraldlb.io"]; !ok {
			t.Errorf("no definition of %s", plural)
		}
	}
	for name, c := range all {
		if c.Spec.Scope != "Cluster" || !slices.Contains(c.Spec.Names.Categories, "herald") {
			t.Errorf("%s: scope %s, categories %v; want Cluster and herald", name, c.Spec.Scope, c.Spec.Names.Categories)
		}
		if len(c.Spec.Versions) != 1 || c.Spec.Versions[0].Name != "v1beta1" || c.Spec.Versions[0].Subresources.Status == nil {
			t.Errorf("%s: want v1beta1 with a status subresource: %+v", name, c.Spec.Versions)
			continue
		}
		columns := c.Spec.Versions[0].AdditionalPrinterColumns
		if !slices.ContainsFunc(columns, func(c struct{ Name, JSONPath string }) bool { return c.Name == "Ready" }) {
			t.Errorf("%s: kubectl get does not say whether it is Ready", name)
		}
	}
}

// TestDocumented makes sure that kubectl explain has something to say about every field, and that every list says how it merges.
func TestDocumented(t *testing.T) {
	fields := 0
	var walk func(path string, s schema)
	walk = func(path string, s schema) {
		for name, child := range s.Properties {
			at := path + "." + name
			fields++
			if child.Description == "" {
				t.Errorf("%s is not documented", at)
			}
			walk(at, child)
		}
		if s.Items != nil {
			if s.ListType == "" {
				t.Errorf("%s: atomic, set or map? the list does not say", path)
			}
			walk(path+"[]", *s.Items)
		}
	}
	for _, c := range load(t) {
		for _, part := range []string{"spec", "status"} {
			walk(c.Spec.Names.Kind+"."+part, c.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties[part])
		}
	}
	if fields < 50 {
		t.Errorf("only %d fields found", fields)
	}
}
