package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadVersions(t *testing.T) {
	dir := t.TempDir()
	got, err := readVersions(write(t, dir, "go.mod", `module x
require (
	k8s.io/kubernetes v1.37.2
	k8s.io/kubernetes-not v9.9.9
	helm.sh/helm/v3 v3.22.0 // indirect
)
`))
	if want := (versions{kubernetes: "v1.37.2", helm: "v3.22.0"}); err != nil || got != want {
		t.Errorf("versions %v, %v; want %v", got, err, want)
	}
	if _, err := readVersions(write(t, dir, "other", "module x\n")); err == nil {
		t.Error("a go.mod without versions was accepted")
	}
	// The real one.
	if _, err := readVersions("../controlplane/go.mod"); err != nil {
		t.Error(err)
	}
}

func TestVariables(t *testing.T) {
	got := strings.Join(kubernetesVariables("v1.37.2"), " ")
	for _, want := range []string{".gitVersion=v1.37.2 ", ".gitMajor=1 ", ".gitMinor=37 "} {
		if strings.Count(got, want) != 2 {
			t.Errorf("%q should stand twice in %s", want, got)
		}
	}
	got = strings.Join(helmVariables(versions{"v1.37.2", "v3.22.0"}), " ")
	for _, want := range []string{"version.version=v3.22.0", "chartutil.k8sVersionMinor=37"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

// TestDigest: everything that changes the programs changes the key, and nothing else does.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	files := func(dir, text string) []string {
		return []string{write(t, dir, "go.mod", "module x"), write(t, dir, "main.go", text)}
	}
	base := func(files []string, compiler, platform string, targets ...target) string {
		d, err := digest(files, compiler, platform, targets)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	one := target{output: "a", packages: []string{"."}}
	want := base(files(dir, "text"), "go1", "linux-amd64", one)
	if got := base(files(t.TempDir(), "text"), "go1", "linux-amd64", one); got != want {
		t.Error("the key depends on where the module lies")
	}
	flags := one
	flags.variables = []string{"a=b"}
	seen := map[string]string{want: "the original"}
	for what, got := range map[string]string{
		"a source":   base(files(dir, "other"), "go1", "linux-amd64", one),
		"compiler":   base(files(dir, "text"), "go2", "linux-amd64", one),
		"platform":   base(files(dir, "text"), "go1", "linux-arm64", one),
		"a flag":     base(files(dir, "text"), "go1", "linux-amd64", flags),
		"one target": base(files(dir, "text"), "go1", "linux-amd64", one, one),
	} {
		if same, ok := seen[got]; ok {
			t.Errorf("%s has the same key as %s", what, same)
		}
		seen[got] = what
	}
	if _, err := digest([]string{filepath.Join(dir, "none")}, "", "", nil); err == nil {
		t.Error("a missing file was accepted")
	}
}

// hello is a module whose program builds in no time.
func hello(t *testing.T) target {
	dir := t.TempDir()
	write(t, dir, "go.mod", "module hello\n\ngo 1.24\n")
	write(t, dir, "main.go", "package main\n\nfunc main() { println(text) }\n\nvar text string\n")
	return target{what: "hello", dir: dir, output: "hello", packages: []string{"."}, variables: []string{"main.text=hi"}}
}

// TestOnce: several callers at once get one finished build, and a failed one leaves nothing.
func TestOnce(t *testing.T) {
	o := Options{Cache: t.TempDir(), Progress: t.Output()}
	built := hello(t)
	dir := filepath.Join(o.Cache, "entry")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := o.once(t.Context(), dir, []target{built}); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, "hello")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	broken := hello(t)
	write(t, broken.dir, "main.go", "package main\n\nthis is not Go\n")
	err := o.once(t.Context(), filepath.Join(o.Cache, "broken"), []target{broken})
	if err == nil || !strings.Contains(err.Error(), "main.go:3") {
		t.Errorf("the error of a broken build is %v; want the compiler's words in it", err)
	}
	left, err := filepath.Glob(filepath.Join(o.Cache, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range left {
		names = append(names, filepath.Base(path))
	}
	if diff := cmp.Diff([]string{"broken.lock", "entry", "entry.lock"}, names); diff != "" {
		t.Errorf("in the cache (-want +got):\n%s", diff)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(over, path); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a held lock: %v, want it cancelled", err)
	}
	var held atomic.Bool
	held.Store(true)
	done := make(chan error)
	go func() {
		second, err := lock(t.Context(), path)
		if err == nil && held.Load() {
			err = errors.New("two hold the lock")
		}
		if err == nil {
			second()
		}
		done <- err
	}()
	held.Store(false)
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	cache, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{
		"controlplane-old": keepUnused + time.Hour, "controlplane-new": time.Hour, "controlplane-kept": keepUnused + time.Hour, "checkout-old": keepUnused + time.Hour,
	} {
		write(t, filepath.Join(cache, name), "file", "")
		if err := os.Chtimes(filepath.Join(cache, name), now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	prune(cache, filepath.Join(cache, "controlplane-kept"), now)
	var names []string
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"checkout-old", "controlplane-kept", "controlplane-new"}, names); diff != "" {
		t.Errorf("after pruning (-want +got):\n%s", diff)
	}
}

func TestTrack(t *testing.T) {
	run := func(d time.Duration, err error) string {
		var out bytes.Buffer
		synctest.Test(t, func(*testing.T) {
			done := track(&out, "X", 20*time.Second)
			<-time.After(d)
			synctest.Wait()
			done(err)
		})
		return out.String()
	}
	if got := run(500*time.Millisecond, nil); got != "" {
		t.Errorf("a short build says %q", got)
	}
	want := "building X… 1s\nbuilding X… 21s\nbuilding X… 41s\nbuilt X in 45s\n"
	if got := run(45*time.Second, nil); got != want {
		t.Errorf("a long build says %q, want %q", got, want)
	}
	if got := run(5*time.Second, errors.New("no")); !strings.HasSuffix(got, "failed to build X in 5s\n") {
		t.Errorf("a failed build says %q", got)
	}
}
