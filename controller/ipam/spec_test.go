package ipam

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/heraldlb/herald/config"
)

// TestSpec plays the stories in testdata. A "do" section changes the world, line by line; then a plan is made, and the "plan" section
// that follows says what it must be. Its writes succeed, except those of Services named by "fail".
//
//	pool NAME [manual] RANGE...          an IPAddressPool, in the order of creation
//	broken NAME                          an IPAddressPool that is left out
//	node NAME ADDR...
//	service NS/NAME [v4|v6|v4,v6|v6,v4] [prefer|require] [pool=A,B] [ip=A,B] [holds=A,B] [invalid] [foreign] [deleting]
//	                                     youngest last; named again it keeps its age and status, everything else is replaced
//	delete pool|node|service|broken NAME
//	fail NS/NAME                         its next write fails
//	restart                              the memory of earlier plans is lost
func TestSpec(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { play(t, file) })
	}
}

var update = flag.Bool("update", false, "write the plans into the stories instead of comparing them; then read them")

func play(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	var got string
	story := txtar.Parse(data)
	for i, section := range story.Files {
		switch section.Name {
		case "do":
			for line := range strings.Lines(string(section.Data)) {
				w.do(t, strings.Fields(line))
			}
			got = w.step()
		case "plan":
			story.Files[i].Data = []byte(got)
			if *update {
				continue
			}
			if diff := cmp.Diff(string(section.Data), got); diff != "" {
				t.Fatalf("%s: section %d: (-want +got)\n%s", file, i, diff)
			}
		default:
			t.Fatalf("%s: unknown section %q", file, section.Name)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// world is a tiny API server: objects, and writes that can fail.
type world struct {
	snap   config.Snapshot
	memory Memory
	fail   map[config.Key]bool
	age    int
}

func newWorld() *world { return &world{fail: map[config.Key]bool{}} }

func (w *world) do(t *testing.T, f []string) {
	t.Helper()
	if len(f) == 0 || f[0] == "#" {
		return
	}
	switch f[0] {
	case "pool":
		w.delete("pool", f[1])
		w.snap.Pools = append(w.snap.Pools, parsePool(t, f[1:]))
	case "broken":
		w.snap.Problems = append(w.snap.Problems, config.Problem{Ref: config.Ref{Kind: "IPAddressPool", Name: f[1]}})
	case "node":
		w.delete("node", f[1])
		w.snap.Nodes = append(w.snap.Nodes, &config.Node{Name: f[1], Addresses: addrs(strings.Join(f[2:], ","))})
	case "service":
		w.service(t, f[1:])
	case "delete":
		w.delete(f[1], f[2])
	case "fail":
		w.fail[key(f[1])] = true
	case "restart":
		w.memory = Memory{}
	default:
		t.Fatalf("unknown command %q", f)
	}
}

func (w *world) service(t *testing.T, f []string) {
	t.Helper()
	w.age++
	s := &config.Service{Key: key(f[0]), UID: fmt.Sprint("uid-", w.age), Created: time.Unix(int64(w.age), 0), Families: []config.Family{config.IPv4}}
	if i := slices.IndexFunc(w.snap.Services, func(o *config.Service) bool { return o.Key == s.Key }); i >= 0 {
		was := w.snap.Services[i]
		s.UID, s.Created, s.Ingress, s.Allocated, s.ForeignStatus = was.UID, was.Created, was.Ingress, was.Allocated, was.ForeignStatus
		w.snap.Services = slices.Delete(slices.Clone(w.snap.Services), i, i+1)
	}
	for _, word := range f[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "v4", "v6", "v4,v6", "v6,v4":
			s.Families = families(word)
		case "prefer":
			s.FamilyPolicy = config.PreferDualStack
		case "require":
			s.FamilyPolicy = config.RequireDualStack
		case "pool":
			s.Request.Pools = strings.Split(value, ",")
		case "ip":
			s.Request.Addresses = addrs(value)
		case "holds":
			s.Ingress = addrs(value)
		case "invalid":
			s.Request = config.Request{Invalid: "the request contradicts itself"}
		case "foreign":
			s.ForeignStatus = true
		case "deleting":
			s.Deleting = true
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	w.snap.Services = append(slices.Clone(w.snap.Services), s)
}

func (w *world) delete(kind, name string) {
	switch kind {
	case "pool":
		w.snap.Pools = slices.DeleteFunc(slices.Clone(w.snap.Pools), func(p *config.Pool) bool { return p.Name == name })
	case "broken":
		w.snap.Problems = slices.DeleteFunc(slices.Clone(w.snap.Problems), func(p config.Problem) bool { return p.Name == name })
	case "node":
		w.snap.Nodes = slices.DeleteFunc(slices.Clone(w.snap.Nodes), func(n *config.Node) bool { return n.Name == name })
	case "service":
		w.snap.Services = slices.DeleteFunc(slices.Clone(w.snap.Services), func(s *config.Service) bool { return s.Key.String() == name })
	}
}

// step makes a plan, writes it, and returns it as text.
func (w *world) step() string {
	var b strings.Builder
	plan, memory := Compute(&w.snap, w.memory)
	w.memory = memory
	for _, o := range plan.Services {
		printOutcome(&b, o)
		if o.Changed && !w.fail[o.Service.Key] {
			w.write(o)
		}
	}
	clear(w.fail)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range plan.Pools {
			if !yield(n) {
				return
			}
		}
	}) {
		printCounts(&b, name, plan.Pools[name])
	}
	return b.String()
}

func (w *world) write(o Outcome) {
	i := slices.IndexFunc(w.snap.Services, func(s *config.Service) bool { return s.Key == o.Service.Key })
	s := *w.snap.Services[i]
	s.Allocated = o.Allocated
	if !o.Keep {
		s.Ingress, s.ForeignStatus = o.Addresses, false
	}
	w.snap.Services[i] = &s
}

func printOutcome(b *strings.Builder, o Outcome) {
	what := joinAddrs(o.Addresses)
	if o.Keep {
		what = "keeps " + joinAddrs(o.Service.Ingress)
	}
	if what == "" {
		what = "nothing"
	}
	changed := ""
	if !o.Changed {
		changed = " (no write)"
	}
	fmt.Fprintf(b, "%s: %s%s\n  %s: %s\n", o.Service.Key, what, changed, o.Allocated.Reason, o.Allocated.Message)
	if o.Changed {
		for _, e := range o.Events() {
			fmt.Fprintf(b, "  event %s: %s\n", e.Reason, e.Message)
		}
	}
}

func printCounts(b *strings.Builder, name string, s config.PoolStatus) {
	fmt.Fprintf(b, "pool %s:", name)
	for _, f := range []struct {
		family config.Family
		c      config.PoolCounts
	}{{config.IPv4, s.IPv4}, {config.IPv6, s.IPv6}} {
		if f.c.Total > 0 {
			fmt.Fprintf(b, " %s %d of %d, %d available", f.family, f.c.Assigned, f.c.Total, f.c.Available)
		}
	}
	b.WriteString("\n")
}

func parsePool(t testing.TB, f []string) *config.Pool {
	t.Helper()
	p := &config.Pool{Name: f[0], AutoAssign: true}
	for _, word := range f[1:] {
		if word == "manual" {
			p.AutoAssign = false
			continue
		}
		p.Ranges = append(p.Ranges, parseRange(t, word))
	}
	slices.SortFunc(p.Ranges, func(a, b config.Range) int { return a.From.Compare(b.From) })
	return p
}

func parseRange(t testing.TB, s string) config.Range {
	t.Helper()
	from, to, isRange := strings.Cut(s, "-")
	if isRange {
		return config.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
	}
	addr, bitsText, isPrefix := strings.Cut(s, "/")
	a := netip.MustParseAddr(addr)
	if !isPrefix {
		return config.Range{From: a, To: a}
	}
	n, err := strconv.Atoi(bitsText)
	if err != nil {
		t.Fatal(err)
	}
	last := a.AsSlice()
	for i := n; i < a.BitLen(); i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	to2, _ := netip.AddrFromSlice(last)
	return config.Range{From: a, To: to2}
}

func key(s string) config.Key {
	ns, name, _ := strings.Cut(s, "/")
	return config.Key{Namespace: ns, Name: name}
}

func addrs(s string) []netip.Addr {
	var out []netip.Addr
	for a := range strings.SplitSeq(s, ",") {
		if a != "" {
			out = append(out, netip.MustParseAddr(a))
		}
	}
	return out
}

func families(s string) []config.Family {
	var out []config.Family
	for f := range strings.SplitSeq(s, ",") {
		out = append(out, map[string]config.Family{"v4": config.IPv4, "v6": config.IPv6}[f])
	}
	return out
}
