package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestChartIsFresh compares what the chart has with what would be written now.
func TestChartIsFresh(t *testing.T) {
	want, err := files()
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join("..", "herald", "files", "dashboards", "*"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string][]byte{}
	for _, name := range names {
		if have[filepath.Base(name)], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("charts/herald/files/dashboards is stale; run make generate (-generated now +in the repository):\n%s", diff)
	}
}

func TestScope(t *testing.T) {
	s := scope{`a=~"$a"`, `b=~"$b"`}
	want := `rate(x{a=~"$a", b=~"$b", c="d"}[5m]) / y{a=~"$a", b=~"$b"}`
	if got := s.in(`rate(x@{c="d"}[5m]) / y@`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPlace(t *testing.T) {
	p := func(w, h int) panel { return panel{GridPos: gridPos{W: w, H: h}} }
	placed, height := place([]panel{p(12, 4), p(12, 8), p(20, 3), p(8, 2)}, 5)
	want := []gridPos{{0, 5, 12, 4}, {12, 5, 12, 8}, {0, 13, 20, 3}, {0, 16, 8, 2}}
	for i, w := range want {
		if placed[i].GridPos != w {
			t.Errorf("panel %d lies at %+v, want %+v", i, placed[i].GridPos, w)
		}
	}
	if height != 13 {
		t.Errorf("height %d, want 13", height)
	}
}
