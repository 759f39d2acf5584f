package l2

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// unit says how a sample is printed.
type unit func(float64) string

func millis(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}

func micros(v float64) string  { return fmt.Sprintf("%.0f µs", v) }
func count(v float64) string   { return fmt.Sprintf("%.0f", v) }
func ratio(v float64) string   { return fmt.Sprintf("%.2f", v) }
func percent(v float64) string { return fmt.Sprintf("%.2f %%", v) }

// none is a figure that need not be reached.
const none = -1

// figure is something measured one or several times. median and most are the least that is promised of it.
type figure struct {
	what         string
	unit         unit
	median, most float64
	samples      []float64
}

// table collects figures in the order in which they were measured.
type table struct{ figures []*figure }

// add makes a figure; it is printed once it has samples.
func (s *stage) figure(u unit, median, most float64, format string, args ...any) *figure {
	f := &figure{what: fmt.Sprintf(format, args...), unit: u, median: median, most: most}
	measured.Lock()
	defer measured.Unlock()
	measured.table.figures = append(measured.table.figures, f)
	return f
}

func (f *figure) add(v float64) { f.samples = append(f.samples, v) }

func (f *figure) took(d time.Duration) { f.add(float64(d) / float64(time.Millisecond)) }

// quantile returns the sample that a share q of all are not above.
func (f *figure) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(f.samples))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// verdict says whether the figure reached what is promised.
func (f *figure) verdict() string {
	switch {
	case f.median == none && f.most == none:
		return ""
	case f.median != none && f.quantile(0.5) > f.median, f.most != none && f.quantile(1) > f.most:
		return "NOT MET"
	}
	return "met"
}

// least is what is promised.
func (f *figure) least() string {
	var parts []string
	if f.median != none {
		parts = append(parts, "median "+f.unit(f.median))
	}
	if f.most != none {
		parts = append(parts, "max "+f.unit(f.most))
	}
	return strings.Join(parts, ", ")
}

func (t *table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "event\tmedian\tmax\tsamples\tat least\t")
	for _, f := range t.figures {
		if len(f.samples) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", f.what, f.unit(f.quantile(0.5)), f.unit(f.quantile(1)), len(f.samples), f.least(), f.verdict())
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}

func TestTable(t *testing.T) {
	all := table{figures: []*figure{
		{what: "good", unit: millis, median: 400, most: 750, samples: []float64{300, 390, 700}},
		{what: "slow once", unit: millis, median: 400, most: 750, samples: []float64{1, 2, 751}},
		{what: "slow often", unit: millis, median: 400, most: none, samples: []float64{1, 401, 402}},
		{what: "no promise", unit: count, median: none, most: none, samples: []float64{7}},
		{what: "not measured", unit: count},
	}}
	want := []string{
		"event median max samples at least",
		"good 390 ms 700 ms 3 median 400 ms, max 750 ms met",
		"slow once 2.0 ms 751 ms 3 median 400 ms, max 750 ms NOT MET",
		"slow often 401 ms 402 ms 3 median 400 ms NOT MET",
		"no promise 7 7 1",
	}
	for i, line := range strings.Split(strings.TrimSpace(all.String()), "\n") {
		if got := strings.Join(strings.Fields(line), " "); i >= len(want) || got != want[i] {
			t.Errorf("line %d: %q", i, got)
		}
	}
}
