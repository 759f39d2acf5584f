package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/heraldlb/herald/test/bench/figures"
)

// figure is something measured several times.
type figure struct {
	what    string
	aim     time.Duration // 0: none
	samples []time.Duration
}

func (f *figure) add(d time.Duration) { f.samples = append(f.samples, d) }

// quantile returns the sample that a share q of all are not above.
func (f *figure) quantile(q float64) time.Duration {
	if len(f.samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(f.samples))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// table lists figures, as text.
func table(list []*figure) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "median\t90 %\tmost\ttries\taim\t  what")
	for _, f := range list {
		aim := ""
		if f.aim > 0 {
			aim = f.aim.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t  %s\n", figures.Text(f.quantile(0.5)), figures.Text(f.quantile(0.9)), figures.Text(f.quantile(1)), len(f.samples), aim, f.what)
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}

func TestTable(t *testing.T) {
	f := &figure{what: "something", aim: time.Second, samples: []time.Duration{3 * time.Second, time.Millisecond, 2 * time.Second}}
	if got := f.quantile(0.5); got != 2*time.Second {
		t.Errorf("median %s", got)
	}
	text := strings.Join(strings.Fields(table([]*figure{f, {what: "nothing"}})), " ")
	for _, want := range []string{"2s 3s 3s 3 1s something", "0s 0s 0s 0 nothing"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}
