package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"sigs.k8s.io/yaml"
)

// TestKrew fills the manifest's template in as a release does.
func TestKrew(t *testing.T) {
	text, err := os.ReadFile("krew.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type platform struct{ OS, Arch, SHA256 string }
	sum := strings.Repeat("0a", 32)
	var filled strings.Builder
	err = template.Must(template.New("krew").Option("missingkey=error").Parse(string(text))).Execute(&filled, map[string]any{
		"Version": "v1.2.0", "Platforms": []platform{{"linux", "amd64", sum}, {"darwin", "arm64", sum}, {"windows", "amd64", sum}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct{ Name string }
		Spec       struct {
			Version, Homepage, ShortDescription, Description string
			Platforms                                        []struct {
				Selector struct {
					MatchLabels map[string]string `json:"matchLabels"`
				}
				URI, SHA256, Bin string
				Files            []struct{ From, To string }
			}
		}
	}
	if err := yaml.UnmarshalStrict([]byte(filled.String()), &manifest); err != nil {
		t.Fatalf("%v\n%s", err, filled.String())
	}
	// krew's own rules: krew.sigs.k8s.io/docs/developer-guide/plugin-manifest.
	if manifest.Metadata.Name != "herald" || len(manifest.Spec.ShortDescription) > 60 || strings.HasSuffix(manifest.Spec.ShortDescription, ".") {
		t.Errorf("name %q, short description %q", manifest.Metadata.Name, manifest.Spec.ShortDescription)
	}
	if len(manifest.Spec.Platforms) != 3 {
		t.Fatalf("%d platforms", len(manifest.Spec.Platforms))
	}
	for _, p := range manifest.Spec.Platforms {
		if !regexp.MustCompile("^[0-9a-f]{64}$").MatchString(p.SHA256) || p.Selector.MatchLabels["os"] == "" || !strings.Contains(p.URI, "v1.2.0") {
			t.Errorf("%+v", p)
		}
		if want := p.Selector.MatchLabels["os"] == "windows"; strings.HasSuffix(p.Bin, ".exe") != want {
			t.Errorf("the program is %s on %v", p.Bin, p.Selector.MatchLabels)
		}
	}
}
