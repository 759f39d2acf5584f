package decide

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/heraldlb/herald/config"
)

var update = flag.Bool("update", false, "write what was decided into testdata")

// TestScripts reads testdata/*.txtar: facts in, decisions of all nodes and explanations out. The language of the facts is that of the
// parse function below, one thing a line.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts found (%v)", err)
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
	for i := 0; i+1 < len(ar.Files); i += 2 {
		facts := parseFacts(t, string(ar.Files[i].Data))
		got := print(facts)
		if *update {
			ar.Files[i+1].Data = []byte(got)
			continue
		}
		if diff := cmp.Diff(string(ar.Files[i+1].Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ar.Files[i].Name, diff)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// print shows the decisions of every live node, then the explanation of every Service.
func print(f Facts) string {
	var b strings.Builder
	for _, m := range f.Members {
		f := f
		f.Node = m.Node
		d := Decide(f)
		if d.Incomplete {
			return "incomplete\n"
		}
		for _, l := range d.L2 {
			printAddress(&b, m.Node, l, d.Claims[l.Addr])
		}
		for _, r := range slices.Concat(d.Routes...) {
			fmt.Fprintf(&b, "%s tells %s to %s%s\n", m.Node, r.Prefix, strings.Join(r.Peers, ","), attributes(r.Attributes))
		}
		if !d.Again.IsZero() {
			fmt.Fprintf(&b, "%s decides again in %s\n", m.Node, d.Again.Sub(f.Now))
		}
		if d.Draining {
			fmt.Fprintf(&b, "%s drains\n", m.Node)
		}
		for _, v := range slices.Concat(d.Verdicts...) {
			if v.Reason == NotEligible || v.Owner != "" && v.Message != "" {
				fmt.Fprintf(&b, "%s says of %s: %s: %s\n", m.Node, v.Addr, v.Reason, v.Message)
			}
		}
	}
	x := NewExplainer(f)
	for h := range x.d.holdings.all() {
		for _, e := range x.Service(h.svc.Key) {
			printExplanation(&b, x, e)
		}
	}
	return b.String()
}

func printAddress(b *strings.Builder, node string, l L2Address, c Claim) {
	fmt.Fprintf(b, "%s answers for %s on %s: %s", node, l.Addr, strings.Join(l.Interfaces, ","), l.Taken)
	if l.For != "" {
		fmt.Fprintf(b, " for %s with %s\n", l.For, strings.Join(l.MACs, ","))
		return
	}
	if c.To != "" {
		fmt.Fprintf(b, " to %s", c.To)
	}
	fmt.Fprintf(b, ", claim %d%s", c.Counter, map[bool]string{true: " majority", false: " minority"}[c.Majority])
	for _, note := range []struct {
		is   bool
		text string
	}{{c.Provisional, " provisional"}, {l.Refresh > 0, ", refresh " + l.Refresh.String()}, {l.Probe, ", probe"}} {
		if note.is {
			b.WriteString(note.text)
		}
	}
	b.WriteString("\n")
}

// attributes prints what is said of a route.
func attributes(a config.RouteAttributes) string {
	var b strings.Builder
	if a.Communities.Len() > 0 {
		b.WriteString(" communities " + a.Communities.String())
	}
	if a.LocalPref.Given {
		fmt.Fprintf(&b, " localpref %d", a.LocalPref.Value)
	}
	if a.MED.Given {
		fmt.Fprintf(&b, " med %d", a.MED.Value)
	}
	if a.Prepend > 0 {
		fmt.Fprintf(&b, " prepend %d", a.Prepend)
	}
	if a.Weight > 0 {
		fmt.Fprintf(&b, " weight %d", a.Weight)
	}
	return b.String()
}

func printExplanation(b *strings.Builder, x *Explainer, e Explanation) {
	fmt.Fprintf(b, "%s %s", e.Service, e.Addr)
	if e.Protocol != "" {
		fmt.Fprintf(b, " %s by %s", e.Protocol, strings.Join(e.Advertisements, ","))
	}
	fmt.Fprintf(b, ": %s", e.Reason)
	if e.Owner != "" {
		fmt.Fprintf(b, ", owner %s", e.Owner)
	}
	for _, who := range []struct{ what, node string }{{"handed on to", e.To}, {"asked for", e.Asked}, {"goes back to", e.First}, {"in whose place answers", e.StandIn}, {"then", x.Successor(e)}} {
		if who.node != "" {
			fmt.Fprintf(b, ", %s %s", who.what, who.node)
		}
	}
	if e.Message != "" {
		fmt.Fprintf(b, ": %s", e.Message)
	}
	b.WriteString("\n")
	for _, a := range e.Able {
		if e.Protocol == L2 && !x.Gets(e, a.Node) {
			fmt.Fprintf(b, "  %s may, but not for all who share the address\n", a.Node)
		}
		if e.Protocol == BGP {
			fmt.Fprintf(b, "  %s may, to %s\n", a.Node, strings.Join(a.Peers, ","))
		}
	}
	for _, l := range x.LeftOut(e) {
		fmt.Fprintf(b, "  not %s: %s\n", l.Node, l.Why)
	}
}
