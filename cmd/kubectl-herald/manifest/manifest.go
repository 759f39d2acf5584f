// Package manifest reads Kubernetes objects from YAML or JSON, strictly: a field that does not exist is an error here, as it is one for
// kubectl apply.
package manifest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/json"
	sigs "sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/config/v1beta1"
)

// Document is one object as it was written.
type Document struct {
	Source string // file, and the number of the document where the file has several
	Head
	JSON []byte
	Err  error // it is no object; the rest is empty then
}

// Head is what every object has.
type Head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

// Name returns kind and name for a person.
func (d Document) Name() string {
	name := d.Metadata.Name
	if d.Metadata.Namespace != "" {
		name = d.Metadata.Namespace + "/" + name
	}
	return strings.TrimSpace(d.Kind + " " + name)
}

// Ours reports whether the object is of Herald's API group, in whatever version.
func (d Document) Ours() bool {
	group, _, _ := strings.Cut(d.APIVersion, "/")
	return group == v1beta1.GroupVersion.Group
}

// Read splits a stream into documents. Those that are a List are replaced by what is in it; empty ones are left out.
func Read(source string, from io.Reader) ([]Document, error) {
	var out []Document
	r := yaml.NewYAMLReader(bufio.NewReader(from))
	for n := 1; ; n++ {
		text, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", source, err)
		}
		where := source
		if n > 1 {
			where = fmt.Sprintf("%s, document %d", source, n)
		}
		out = append(out, split(where, text)...)
	}
}

// split reads one document.
func split(source string, text []byte) []Document {
	body, err := sigs.YAMLToJSONStrict(text)
	if err != nil {
		return []Document{{Source: source, Err: fmt.Errorf("not YAML: %w", err)}}
	}
	if s := string(bytes.TrimSpace(body)); s == "null" || s == "{}" || s == "" {
		return nil
	}
	d := Document{Source: source, JSON: body}
	if err := sigs.Unmarshal(body, &d.Head); err != nil {
		return []Document{{Source: source, Err: fmt.Errorf("no Kubernetes object: %w", err)}}
	}
	if !strings.HasSuffix(d.Kind, "List") {
		if d.Kind == "" || d.APIVersion == "" {
			d.Err = errors.New("no Kubernetes object: apiVersion and kind are missing")
		}
		return []Document{d}
	}
	return items(d)
}

func items(list Document) []Document {
	var body struct {
		Items []map[string]any `json:"items"`
	}
	if err := sigs.Unmarshal(list.JSON, &body); err != nil {
		list.Err = fmt.Errorf("a list without items: %w", err)
		return []Document{list}
	}
	var out []Document
	for i, item := range body.Items {
		text, err := sigs.Marshal(item)
		if err != nil {
			return []Document{{Source: list.Source, Err: err}}
		}
		out = append(out, split(fmt.Sprintf("%s, item %d", list.Source, i+1), text)...)
	}
	return out
}

// Decode reads the object into its type. A field that the type does not have is an error; so is one whose case differs.
func (d Document) Decode(into any) error {
	strict, err := json.UnmarshalStrict(d.JSON, into)
	return errors.Join(append(strict, err)...)
}
