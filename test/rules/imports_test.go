package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/heraldlb/herald"

// pkg is a package as go list describes it. Tests' imports are left out: they may use what they like.
type pkg struct {
	ImportPath string
	Imports    []string // direct
	Deps       []string // all
}

// room returns the path within the module, such as speaker/decide.
func (p pkg) room() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// rule forbids imports to packages.
type rule struct {
	name   string
	who    func(room string) bool
	never  func(path string) bool
	direct bool // only what the package itself imports counts
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("reading go list: %v", err)
		}
		all = append(all, p)
	}
}

func root() string { return filepath.Join("..", "..") }

// within reports whether path is one of the trees, or below one.
func within(path string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") })
}

func in(trees ...string) func(string) bool {
	return func(path string) bool { return within(path, trees...) }
}

func notIn(trees ...string) func(string) bool {
	return func(path string) bool { return !within(path, trees...) }
}

func ours(trees ...string) func(string) bool {
	return func(path string) bool {
		room, ok := strings.CutPrefix(path, module+"/")
		return ok && within(room, trees...)
	}
}

func either(fs ...func(string) bool) func(string) bool {
	return func(path string) bool {
		return slices.ContainsFunc(fs, func(f func(string) bool) bool { return f(path) })
	}
}

func exactly(rooms ...string) func(string) bool {
	return func(room string) bool { return slices.Contains(rooms, room) }
}

// sockets are the doors to the network; addresses as values are none.
func sockets(path string) bool {
	doors := in("net", "golang.org/x/net", "golang.org/x/sys", "github.com/mdlayher", "github.com/vishvananda", "github.com/hashicorp")
	return doors(path) && path != "net/netip"
}

var (
	kubernetesClient = in("k8s.io/client-go")
	kubernetesObject = in("k8s.io/api")
	kubernetes       = in("k8s.io", "sigs.k8s.io")
	goBGP            = in("github.com/osrg/gobgp")
	logs             = in("log", "github.com/prometheus")
)

func rules() []rule {
	pure := exactly("config", "speaker/decide", "controller/ipam", "speaker/reconcile", "speaker/bfd")
	return []rule{
		{name: "pure rooms know no Kubernetes, no GoBGP, no sockets", who: pure, never: either(kubernetes, goBGP, sockets)},
		{name: "deciding leaves logs and metrics to others", who: exactly("config", "speaker/decide", "controller/ipam"), never: logs},
		{
			name: "parsing knows Kubernetes' types, but no client, no GoBGP, no sockets of its own",
			who:  exactly("config/parse"), never: either(kubernetesClient, goBGP),
		},
		{name: "parsing opens no sockets", who: exactly("config/parse"), never: sockets, direct: true},
		{name: "only config/kube sees client-go", who: notIn("config/kube", "test"), never: kubernetesClient, direct: true},
		{name: "Kubernetes' objects stay in config", who: notIn("config", "cmd/kubectl-herald", "test"), never: kubernetesObject, direct: true},
		{name: "only speaker/bgp/gobgp sees GoBGP", who: notIn("speaker/bgp/gobgp", "test"), never: goBGP, direct: true},
		{name: "gobgp is known to the command that wires it only", who: notIn("speaker/bgp/gobgp", "cmd/herald-speaker", "test"), never: ours("speaker/bgp/gobgp"), direct: true},
		{name: "reconcilers do not import each other: l2", who: in("speaker/l2", "speaker/arp", "speaker/ndp"), never: ours("speaker/bgp", "speaker/bfd")},
		{name: "reconcilers do not import each other: bgp", who: in("speaker/bgp"), never: ours("speaker/l2", "speaker/arp", "speaker/ndp", "speaker/bfd")},
		{name: "reconcilers do not import each other: bfd", who: in("speaker/bfd"), never: ours("speaker/l2", "speaker/arp", "speaker/ndp", "speaker/bgp")},
		{name: "nothing imports cmd", who: notIn("cmd"), never: ours("cmd")},
		{name: "nothing imports test", who: notIn("test"), never: ours("test")},
		{name: "config stands alone", who: in("config"), never: ours("speaker", "controller")},
		{name: "the speaker does without the controller", who: in("speaker"), never: ours("controller")},
		{
			name: "the controller knows of the speaker what it decides, no more", who: in("controller"),
			never: func(path string) bool { return ours("speaker")(path) && !ours("speaker/decide")(path) },
		},
	}
}

func TestImports(t *testing.T) {
	all := list(t)
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			for _, breach := range r.breaches(all) {
				t.Error(breach)
			}
		})
	}
}

func (r rule) breaches(all []pkg) []string {
	var found []string
	for _, p := range all {
		if !r.who(p.room()) {
			continue
		}
		seen := p.Deps
		if r.direct {
			seen = p.Imports
		}
		for _, path := range seen {
			if path != p.ImportPath && r.never(path) {
				found = append(found, fmt.Sprintf("%s imports %s", p.room(), path))
			}
		}
	}
	return found
}

// TestRulesBite makes sure that a rule that is broken says so.
func TestRulesBite(t *testing.T) {
	breaking := map[string]pkg{
		"pure rooms know no Kubernetes, no GoBGP, no sockets": {ImportPath: module + "/speaker/decide", Deps: []string{"net/netip", "net"}},
		"only config/kube sees client-go":                     {ImportPath: module + "/speaker", Imports: []string{"k8s.io/client-go/kubernetes"}},
		"only speaker/bgp/gobgp sees GoBGP":                   {ImportPath: module + "/speaker/bgp", Imports: []string{"github.com/osrg/gobgp/v3/api"}},
		"reconcilers do not import each other: bgp":           {ImportPath: module + "/speaker/bgp", Deps: []string{module + "/speaker/l2"}},
		"nothing imports cmd":                                 {ImportPath: module + "/controller", Deps: []string{module + "/cmd/daemon"}},
	}
	for _, r := range rules() {
		p, ok := breaking[r.name]
		if !ok {
			continue
		}
		delete(breaking, r.name)
		if n := len(r.breaches([]pkg{p})); n != 1 {
			t.Errorf("%s: %d breaches found, want 1", r.name, n)
		}
	}
	for name := range breaking {
		t.Errorf("no such rule: %s", name)
	}
}
