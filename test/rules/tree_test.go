package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// files returns what belongs to the repository: tracked, or not yet tracked and not ignored. Without git that is everything.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	cmd.Dir = root()
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("git ls-files: %v", err)
	}
	var list []string
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if _, err := os.Lstat(filepath.Join(root(), name)); err == nil {
			list = append(list, name)
		}
	}
	return list
}

func TestTopLevel(t *testing.T) {
	allowed := []string{
		"cmd", "speaker", "controller", "config", "charts", "test", "docs",
		"go.mod", "go.sum", "go.tool.mod", "go.tool.sum", "Makefile", "README.md", "LICENSE",
	}
	for _, name := range files(t) {
		top, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(allowed, top) {
			t.Errorf("%s: nothing called %s stands at the top level", name, top)
		}
	}
}

func TestNoCatchAll(t *testing.T) {
	never := []string{"internal", "pkg", "util", "utils", "common", "helpers", "misc"}
	for _, name := range files(t) {
		for part := range strings.SplitSeq(filepath.ToSlash(filepath.Dir(name)), "/") {
			if slices.Contains(never, part) {
				t.Errorf("%s: a package says by its name what it does; %s says nothing", name, part)
			}
		}
	}
}

// TestGenerated runs the generators and compares.
func TestGenerated(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-modfile=go.tool.mod", "controller-gen",
		"object", "crd:crdVersions=v1", "paths=./config/v1beta1",
		"output:object:dir="+filepath.Join(dir, "object"), "output:crd:dir="+filepath.Join(dir, "crd"))
	cmd.Dir = root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("controller-gen: %v\n%s", err, out)
	}
	crds := read(t, filepath.Join(dir, "crd", "*.yaml"))
	if len(crds) == 0 {
		t.Fatal("controller-gen wrote no CRDs")
	}
	compare(t, "config/v1beta1", read(t, filepath.Join(dir, "object", "zz_generated.*")), read(t, filepath.Join(root(), "config", "v1beta1", "zz_generated.*")))
	compare(t, "config/crd", crds, read(t, filepath.Join(root(), "config", "crd", "*.yaml")))
	compare(t, "charts/herald/charts/crds/crds", crds, read(t, filepath.Join(root(), "charts", "herald", "charts", "crds", "crds", "*")))
}

func read(t *testing.T, pattern string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string, len(names))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(name)] = string(text)
	}
	return found
}

func compare(t *testing.T, where string, want, have map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s is stale; run make generate (-generated now +in the repository):\n%s", where, diff)
	}
}
