package parse

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestReasonsDocumented compares the tables of reasons in docs/configuration.md with what the scripts in testdata bring out: each reason that a
// kind can have stands in the section of that kind, and no table has one that no object of the kind can have.
func TestReasonsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := reasonTables(string(text))
	seen := map[string][]string{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range ar.Files {
			for _, m := range dumped.FindAllStringSubmatch(string(f.Data), -1) {
				seen[m[1]] = append(seen[m[1]], m[2])
			}
		}
	}
	for _, kind := range []string{KindPool, KindReservation, KindL2Advertisement, KindPeer, KindBGPAdvertisement, KindBFDProfile, KindCommunity} {
		slices.Sort(seen[kind])
		for _, reason := range slices.Compact(seen[kind]) {
			if !slices.Contains(documented[kind], reason) {
				t.Errorf("%s may have the reason %s, which its section does not explain", kind, reason)
			}
		}
		for _, reason := range documented[kind] {
			if !slices.Contains(seen[kind], reason) {
				t.Errorf("the section of %s explains %s, which no script brings out", kind, reason)
			}
		}
	}
}

// dumped matches a problem as dump prints it.
var dumped = regexp.MustCompile(`(?m)^(?:problem|warning) (\w+) \S+ \S* ?(\w+): `)

// reasonTables returns the reasons in the first column of the tables about Ready=False, by kind.
func reasonTables(doc string) map[string][]string {
	out := map[string][]string{}
	kind, inside := "", false
	for line := range strings.Lines(doc) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			kind = strings.TrimSpace(title)
		}
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		inside = inside || strings.HasPrefix(line, "| reason of `Ready=False`")
		if inside {
			first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
			for _, word := range regexp.MustCompile("`([A-Z]\\w+)`").FindAllStringSubmatch(first, -1) {
				out[kind] = append(out[kind], word[1])
			}
		}
	}
	return out
}
