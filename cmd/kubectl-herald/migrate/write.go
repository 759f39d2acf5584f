package migrate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	sigs "sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Value returns the object as the API server takes it.
func (o *Object) Value() map[string]any {
	metadata := map[string]any{"name": o.Name}
	if len(o.Labels) > 0 {
		metadata["labels"] = o.Labels
	}
	return map[string]any{"apiVersion": v1beta1.GroupVersion.String(), "kind": o.Kind, "metadata": metadata, "spec": o.Spec}
}

// document returns the object as if it had been read.
func (o *Object) document() manifest.Document {
	d := manifest.Document{Source: o.from}
	d.JSON, d.Err = json.Marshal(o.Value())
	d.APIVersion, d.Kind, d.Metadata.Name = v1beta1.GroupVersion.String(), o.Kind, o.Name
	return d
}

// Documents returns the objects as if they had been read.
func (r *Result) Documents() []manifest.Document {
	var out []manifest.Document
	for _, o := range r.Objects {
		out = append(out, o.document())
	}
	return out
}

// YAML writes the objects for kubectl apply. What did not become of a field what it was stands beside it as a comment, or on top of its object;
// what became no object stands at the beginning.
func (r *Result) YAML() (string, error) {
	var b strings.Builder
	for _, n := range r.Notes {
		if n.Verdict != Carried {
			comment(&b, "", n.Object+n.words())
		}
	}
	for _, o := range r.Objects {
		text, err := o.yaml()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w", o.Kind, o.Name, err)
		}
		b.WriteString("---\n" + text)
	}
	return b.String(), nil
}

// words says a note without its object.
func (n Note) words() string {
	text := ": "
	if n.Field != "" {
		text = ": " + n.Field + ": "
	}
	switch n.Verdict {
	case Lost:
		text += "LOST: "
	case Todo:
		text += "TO DO: "
	}
	return text + n.Message
}

func (o *Object) yaml() (string, error) {
	var b strings.Builder
	comment(&b, "", "from "+o.from)
	for _, n := range o.notes {
		if n.Verdict != Carried && n.target == "" {
			comment(&b, "", strings.TrimPrefix(n.words(), ": "))
		}
	}
	head := o.Value()
	delete(head, "spec")
	text, err := sigs.Marshal(head)
	if err != nil {
		return "", err
	}
	b.Write(text)
	if len(o.Spec) == 0 {
		b.WriteString("spec: {}\n")
		return b.String(), nil
	}
	b.WriteString("spec:\n")
	for _, field := range sortedKeys(o.Spec) {
		for _, n := range o.notes {
			if n.Verdict != Carried && n.target == field {
				comment(&b, "  ", strings.TrimPrefix(n.words(), ": "))
			}
		}
		text, err := sigs.Marshal(map[string]any{field: o.Spec[field]})
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			b.WriteString("  " + line)
		}
	}
	return b.String(), nil
}

// comment writes a comment; whatever is in the text, all of it stays one.
func comment(b *strings.Builder, indent, text string) {
	plain := func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' { // some of them end a line in YAML
			return ' '
		}
		return r
	}
	b.WriteString(indent + "# " + strings.TrimSpace(strings.Map(plain, text)) + "\n")
}

// Sorted returns every note, what is lost first, then what is to do.
func (r *Result) Sorted() []Note {
	order := []Verdict{Lost, Todo, Changed, Carried}
	out := r.All()
	slices.SortStableFunc(out, func(a, b Note) int { return slices.Index(order, a.Verdict) - slices.Index(order, b.Verdict) })
	return out
}
