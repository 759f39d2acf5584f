package main

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
)

// TestGoldenMigrate migrates files: the manifests are golden, and so is what became of each field. A test of config/kube has a real API
// server take the manifests.
func TestGoldenMigrate(t *testing.T) {
	for name, want := range map[string]int{"whole": 0, "lost": 1, "old": 0} {
		for _, format := range []string{"", "table", "json", "yaml"} {
			args := []string{"migrate", "metallb", "-f", "testdata/migrate/" + name + ".yaml"}
			file := "migrate/" + name + ".yaml"
			if format != "" {
				args = append(args, "-o", format)
				file = "migrate/" + name + "." + format
			}
			status, out, errs := call(t, nil, false, args...)
			if status != want || errs != "" {
				t.Errorf("%s as %s: status %d, want %d: %s", name, format, status, want, errs)
			}
			golden(t, file, out)
		}
	}
}

// TestMigratedIsClean has lint judge what migrate prints of what can be carried over: it has nothing to say.
func TestMigratedIsClean(t *testing.T) {
	for _, name := range []string{"whole", "old"} {
		status, out, errs := call(t, nil, false, "lint", "-f", "testdata/golden/migrate/"+name+".yaml")
		if status != 0 || errs != "" || strings.Contains(out, "ERROR") {
			t.Errorf("%s: status %d\n%s%s", name, status, out, errs)
		}
	}
}

// TestMigrateLive migrates what a cluster has.
func TestMigrateLive(t *testing.T) {
	text, err := os.ReadFile("testdata/migrate/whole.yaml")
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile("testdata/migrate/old.yaml")
	if err != nil {
		t.Fatal(err)
	}
	configMap, err := yaml.YAMLToJSON([]byte(strings.Split(string(old), "\n---\n")[0]))
	if err != nil {
		t.Fatal(err)
	}
	api := &fakeAPI{
		t: t, cluster: fixture.Cluster(t), foreign: map[string][][]byte{"metallb.io": {text}}, maps: map[string][]byte{"metallb-system/config": configMap},
	}
	api.cluster.Services[0].Annotations = map[string]string{"metallb.io/allow-shared-ip": "key"}
	status, out, errs := call(t, api, false, "migrate", "metallb", "--live", "-o", "table")
	for _, want := range []string{
		"carried   Service shop/web   metadata.annotations[metallb.io/allow-shared-ip]", "IPAddressPool metallb-system/lan", "ConfigMap metallb-system/config, addressPools[0]",
		"kubectl -n herald-system apply -f -", "would not keep 192.168.1.100",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("%q is missing", want)
		}
	}
	if status != 1 || errs != "" || t.Failed() { // the address is in none of the pools
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if status, _, errs := call(t, &fakeAPI{t: t, cluster: fixture.Cluster(t)}, false, "migrate", "metallb", "--live"); status != 1 || !strings.Contains(errs, "nothing of MetalLB's") {
		t.Errorf("of a cluster without MetalLB: status %d: %s", status, errs)
	}
}

func TestMigrateUsage(t *testing.T) {
	for _, args := range [][]string{{"migrate"}, {"migrate", "purelb"}, {"migrate", "metallb"}, {"migrate", "metallb", "--live", "-f", "-"}} {
		if status, _, errs := call(t, nil, false, args...); status != 2 {
			t.Errorf("%v: status %d: %s", args, status, errs)
		}
	}
}
