// Package figures prints what the benchmarks of the whole have measured.
package figures

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report collects figures in the order in which they were measured.
type Report struct{ rows [][3]string }

// Add takes a figure, what it should be ("" = anything), and what it is a figure of.
func (r *Report) Add(aim, value, format string, args ...any) {
	r.rows = append(r.rows, [3]string{value, aim, fmt.Sprintf(format, args...)})
}

// String lists the figures as a table.
func (r *Report) String() string {
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

// Text prints a duration as exactly as it is worth reading.
func Text(d time.Duration) string {
	if d < 100*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// Median returns the sample in the middle.
func Median(samples []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[len(sorted)/2]
}

// Span prints the median, and the least and most in brackets.
func Span(samples []time.Duration) string {
	return fmt.Sprintf("%s (%s..%s)", Text(Median(samples)), Text(slices.Min(samples)), Text(slices.Max(samples)))
}
