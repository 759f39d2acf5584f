package assign

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report collects figures in the order in which they were measured.
type report struct{ rows [][3]string }

func (r *report) add(aim, value, format string, args ...any) {
	r.rows = append(r.rows, [3]string{value, aim, fmt.Sprintf(format, args...)})
}

// String lists the figures as a table.
func (r *report) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "measured\taim\t  what")
	for _, row := range r.rows {
		fmt.Fprintf(w, "%s\t%s\t  %s\n", row[0], row[1], row[2])
	}
	if err := w.Flush(); err != nil {
		return err.Error()
	}
	return b.String()
}

// quantile returns the sample that a share q of all are not above.
func quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func median(samples []float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[len(sorted)/2]
}

func text(d time.Duration) string {
	if d < 100*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func perSecond(n int, d time.Duration) string { return fmt.Sprintf("%.0f/s", float64(n)/d.Seconds()) }
