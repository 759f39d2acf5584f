package parse

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var rewrite = flag.Bool("update", false, "write what the parser prints into testdata")

// TestScripts runs the cases in testdata: each is a history. A file step-N.yaml holds all objects that exist then, out-N the snapshot that
// is parsed from them with the memory of the steps before. A file whose name contains ".class-X." is parsed by an installation of class X,
// one with ".at-2026-01-02." on that day.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range ar.Files {
		want[f.Name] = string(f.Data)
	}
	var out []txtar.File
	var memory Memory
	for _, f := range ar.Files {
		name, ok := strings.CutSuffix(f.Name, ".yaml")
		if !ok {
			continue
		}
		in := load(t, f.Data)
		if _, class, ok := strings.Cut(name, ".class-"); ok {
			in.Options.LoadBalancerClass = class
		}
		if _, day, ok := strings.Cut(name, ".at-"); ok {
			now, err := time.Parse(time.DateOnly, day)
			if err != nil {
				t.Fatal(err)
			}
			in.Now = now
		}
		shuffled := shuffle(in, rand.New(rand.NewPCG(1, uint64(len(out)))))
		snap, next := Parse(in, memory)
		memory = next
		got := dump(snap)
		if len(out) == 0 {
			other, _ := Parse(shuffled, Memory{})
			if diff := cmp.Diff(got, dump(other)); diff != "" {
				t.Errorf("%s: order of the objects changes the snapshot:\n%s", name, diff)
			}
		}
		if diff := cmp.Diff(want["out-"+name], got); diff != "" && !*rewrite {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		out = append(out, f, txtar.File{Name: "out-" + name, Data: []byte(got)})
	}
	if *rewrite {
		ar.Files = out
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// shuffle returns the objects in another order.
func shuffle(in Objects, r *rand.Rand) Objects {
	in.Services = shuffled(in.Services, r)
	in.Left = shuffled(in.Left, r)
	in.EndpointSlices = shuffled(in.EndpointSlices, r)
	in.Nodes = shuffled(in.Nodes, r)
	in.Pools = shuffled(in.Pools, r)
	in.Reservations = shuffled(in.Reservations, r)
	in.Namespaces = shuffled(in.Namespaces, r)
	in.ServiceCIDRs = shuffled(in.ServiceCIDRs, r)
	in.L2Advertisements = shuffled(in.L2Advertisements, r)
	in.Peers = shuffled(in.Peers, r)
	in.BGPAdvertisements = shuffled(in.BGPAdvertisements, r)
	in.BFDProfiles = shuffled(in.BFDProfiles, r)
	in.Communities = shuffled(in.Communities, r)
	in.Secrets = shuffled(in.Secrets, r)
	in.Speakers = shuffled(in.Speakers, r)
	return in
}

func shuffled[T any](in []T, r *rand.Rand) []T {
	out := slices.Clone(in)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}
