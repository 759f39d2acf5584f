package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// printer writes the demonstration for a reader.
type printer struct {
	out     io.Writer
	started time.Time // of the whole
	step    time.Time // of the current step
	number  int
	results []result
}

// result is a line of the summary.
type result struct {
	finding string
	err     error
}

var errNotSeen = errors.New("not everything was seen")

func newPrinter(out io.Writer) *printer { return &printer{out: out, started: time.Now()} }

func (p *printer) begin(title string) {
	p.number++
	p.step = time.Now()
	fmt.Fprintf(p.out, "\n%d. %s\n", p.number, title)
}

func (p *printer) end(title, finding string, err error) {
	took := time.Since(p.step).Seconds()
	if err != nil {
		fmt.Fprintf(p.out, "   FAILED after %.1f s: %v\n", took, err)
		p.results = append(p.results, result{title, err})
		return
	}
	fmt.Fprintf(p.out, "   done in %.1f s: %s\n", took, finding)
	p.results = append(p.results, result{finding, nil})
}

// say prints evidence, indented.
func (p *printer) say(format string, args ...any) {
	fmt.Fprintln(p.lines(), fmt.Sprintf(format, args...))
}

// command prints a command line and what it said.
func (p *printer) command(name string, args []string, output string) {
	p.say("$ %s %s", name, strings.Join(args, " "))
	p.say("%s\n", strings.TrimRight(output, "\n"))
}

// lines is a writer that indents what others print; whole lines at a time.
func (p *printer) lines() io.Writer { return indenter{p.out} }

type indenter struct{ out io.Writer }

const indent = "   "

func (w indenter) Write(b []byte) (int, error) {
	text := bytes.TrimSuffix(b, []byte("\n"))
	text = append([]byte(indent), bytes.ReplaceAll(text, []byte("\n"), []byte("\n"+indent))...)
	if _, err := w.out.Write(append(text, '\n')); err != nil {
		return 0, err
	}
	return len(b), nil
}

// summary prints what was seen and what was not; the error is nil if everything was.
func (p *printer) summary() error {
	fmt.Fprintf(p.out, "\nSummary, after %.0f s\n", time.Since(p.started).Seconds())
	var err error
	for _, r := range p.results {
		if r.err != nil {
			fmt.Fprintf(p.out, "  ✗  not seen: %s: %s\n", r.finding, firstLine(r.err.Error()))
			err = errNotSeen
			continue
		}
		fmt.Fprintf(p.out, "  ✓  %s\n", r.finding)
	}
	return err
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
