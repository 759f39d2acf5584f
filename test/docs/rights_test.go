package docs

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

var update = flag.Bool("update", false, "write the table of rights into docs/security.md anew; then read it")

const (
	rightsPage  = "docs/security.md"
	rightsBegin = "<!-- rights, as test/docs finds them in the chart: begin -->\n"
	rightsEnd   = "<!-- rights: end -->"
)

// TestRights compares the table of permissions with what the chart grants.
func TestRights(t *testing.T) {
	rendered, err := render(t, "{}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := rights(t, rendered)
	file := filepath.Join(root(), filepath.FromSlash(rightsPage))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), rightsBegin)
	have, after, closed := strings.Cut(rest, rightsEnd)
	if !found || !closed {
		t.Fatalf("%s does not say where its table of rights is", rightsPage)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+rightsBegin+want+rightsEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s does not say what the chart grants; go test ./test/docs -update writes it anew (-chart +page):\n%s", rightsPage, diff)
	}
}

// grant is a role, and who has it.
type grant struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Rules             []rbacv1.PolicyRule `json:"rules"`
	RoleRef           rbacv1.RoleRef      `json:"roleRef"`
	Subjects          []rbacv1.Subject    `json:"subjects"`
}

// rights is a table of all rules of roles in a rendered chart.
func rights(t *testing.T, rendered string) string {
	t.Helper()
	var roles []grant
	holders := map[string][]string{}
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(rendered), 4096); ; {
		var g grant
		err := d.Decode(&g)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch g.Kind {
		case "ClusterRole", "Role":
			roles = append(roles, g)
		case "ClusterRoleBinding", "RoleBinding":
			for _, s := range g.Subjects {
				key := g.RoleRef.Kind + " " + g.RoleRef.Name
				holders[key] = append(holders[key], strings.TrimPrefix(s.Name, "herald-"))
			}
		}
	}
	if len(roles) == 0 {
		t.Fatal("the chart has no roles")
	}
	var b strings.Builder
	b.WriteString("| who | where | what | verbs |\n| --- | --- | --- | --- |\n")
	for _, r := range roles {
		where := "cluster"
		if r.Kind == "Role" {
			where = "own namespace"
		}
		who := strings.Join(holders[r.Kind+" "+r.Name], ", ")
		if who == "" {
			who = "nobody, until you bind `" + r.Name + "`"
		}
		for _, rule := range r.Rules {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", who, where, what(rule), strings.Join(rule.Verbs, ", "))
		}
	}
	return b.String()
}

// what says in words what a rule is about.
func what(rule rbacv1.PolicyRule) string {
	if len(rule.NonResourceURLs) > 0 {
		return "the path " + coded(rule.NonResourceURLs)
	}
	text := coded(rule.Resources)
	if group := strings.Join(rule.APIGroups, ", "); group != "" {
		text += " of " + group
	}
	if len(rule.ResourceNames) > 0 {
		text += ", only " + coded(rule.ResourceNames)
	}
	return text
}

func coded(list []string) string { return "`" + strings.Join(list, "`, `") + "`" }
