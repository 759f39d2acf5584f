package lint

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	openapierrors "k8s.io/kube-openapi/pkg/validation/errors"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"

	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
	"github.com/heraldlb/herald/config/crd"
)

// schemas are the OpenAPI schemas of Herald's kinds, by apiVersion and kind.
type schemas map[string]*spec.Schema

// loadSchemas reads them from the CRDs that this program carries.
func loadSchemas() (schemas, error) {
	definitions, err := crd.Definitions()
	if err != nil {
		return nil, err
	}
	out := schemas{}
	for _, d := range definitions {
		var body struct {
			Spec struct {
				Group    string `json:"group"`
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema *spec.Schema `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := json.Unmarshal(d.JSON, &body); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		for _, v := range body.Spec.Versions {
			out[body.Spec.Group+"/"+v.Name+" "+body.Spec.Names.Kind] = v.Schema.OpenAPIV3Schema
		}
	}
	return out, nil
}

// of returns the schema of an object; nil when there is none.
func (s schemas) of(d manifest.Document) *spec.Schema { return s[d.APIVersion+" "+d.Kind] }

// judge says what the schema has against an object, and returns the object with the schema's defaults filled in.
func judge(schema *spec.Schema, d manifest.Document) (manifest.Document, []string) {
	var value any
	if err := json.Unmarshal(d.JSON, &value); err != nil {
		return d, []string{err.Error()}
	}
	value = fill(schema, value)
	text, err := json.Marshal(value)
	if err != nil {
		return d, []string{err.Error()}
	}
	d.JSON = text
	result := validate.NewSchemaValidator(schema, nil, "", strfmt.Default).Validate(value)
	var out []string
	for _, e := range result.Errors {
		out = append(out, words(e))
	}
	return d, append(out, repeated(schema, value, "")...)
}

// Extensions of OpenAPI that say whose items must differ (structural schemas of CustomResourceDefinitions).
const (
	listType    = "x-kubernetes-list-type"
	listMapKeys = "x-kubernetes-list-map-keys"
)

// repeated finds items that stand twice in a list that is a set, or a map by some of their fields.
func repeated(schema *spec.Schema, value any, where string) []string {
	var out []string
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if property, ok := schema.Properties[name]; ok {
				out = append(out, repeated(&property, v[name], strings.TrimPrefix(where+"."+name, "."))...)
			}
		}
	case []any:
		if schema.Items == nil || schema.Items.Schema == nil {
			return nil
		}
		seen := map[string]bool{}
		for i, item := range v {
			at := fmt.Sprintf("%s[%d]", where, i)
			if key, ok := identity(schema, item); ok {
				if seen[key] {
					out = append(out, at+": stands in the list already: "+key)
				}
				seen[key] = true
			}
			out = append(out, repeated(schema.Items.Schema, item, at)...)
		}
	}
	return out
}

// identity returns what must differ between an item and the others of its list; false when nothing must.
func identity(list *spec.Schema, item any) (string, bool) {
	kind, _ := list.Extensions.GetString(listType)
	part := item
	switch kind {
	case "set":
	case "map":
		fields, _ := item.(map[string]any)
		keys, _ := list.Extensions.GetStringSlice(listMapKeys)
		chosen := make(map[string]any, len(keys))
		for _, k := range keys {
			chosen[k] = fields[k]
		}
		part = chosen
	default:
		return "", false
	}
	text, err := json.Marshal(part)
	return string(text), err == nil
}

// words leaves out of an error what is about HTTP requests.
func words(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[*openapierrors.Validation](err); ok {
		text = strings.Replace(text, " in body", "", 1)
	}
	return strings.TrimPrefix(text, ".")
}

// fill sets what is absent to the schema's default, as the API server does.
func fill(schema *spec.Schema, value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, property := range schema.Properties {
			had, ok := v[name]
			switch {
			case !ok && property.Default != nil:
				v[name] = property.Default
			case ok && had != nil:
				v[name] = fill(&property, had)
			}
		}
	case []any:
		if schema.Items != nil && schema.Items.Schema != nil {
			for i := range v {
				v[i] = fill(schema.Items.Schema, v[i])
			}
		}
	}
	return value
}
