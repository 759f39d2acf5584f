// Package crd holds the custom resource definitions of heraldlb.io, generated from config/v1beta1 by make generate.
package crd

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"

	"sigs.k8s.io/yaml"
)

//go:embed *.yaml
var files embed.FS

// Definition is one CustomResourceDefinition.
type Definition struct {
	Name string // such as ipaddresspools.heraldlb.io
	JSON []byte
}

// Definitions returns all definitions, sorted by name.
func Definitions() ([]Definition, error) {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return nil, err
	}
	list := make([]Definition, 0, len(names))
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		d, err := definition(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, d)
	}
	return list, nil
}

func definition(text []byte) (Definition, error) {
	body, err := yaml.YAMLToJSON(text)
	if err != nil {
		return Definition{}, err
	}
	var head struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return Definition{}, err
	}
	return Definition{Name: head.Metadata.Name, JSON: body}, nil
}
