// Package print puts results on paper: as tables for people, as JSON or YAML for programs.
package print

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
)

// Formats are what -o takes; the first is the default.
func Formats() []string { return []string{"table", "json", "yaml"} }

// Printer prints results.
type Printer struct {
	Out    io.Writer
	Format string
	Colour bool // tables only
}

// Print prints a value as JSON or YAML, or what draw makes of it.
func (p Printer) Print(value any, draw func(*Screen)) error {
	var text []byte
	var err error
	switch p.Format {
	case "json":
		text, err = json.MarshalIndent(value, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(value)
	default:
		s := &Screen{colour: p.Colour}
		draw(s)
		text = []byte(s.text.String())
	}
	if err != nil {
		return fmt.Errorf("printing as %s: %w", p.Format, err)
	}
	_, err = p.Out.Write(text)
	return err
}

// Style is how a cell looks on a terminal; elsewhere all look alike.
type Style string

// Styles, as SGR parameters (ECMA-48 section 8.3.117).
const (
	Plain Style = ""
	Bold  Style = "1"
	Good  Style = "32"
	Bad   Style = "31"
	Odd   Style = "33"
	Faint Style = "2"
)

// Cell is a piece of text.
type Cell struct {
	Text  string
	Style Style
}

// C makes a cell that looks like the rest.
func C(text string) Cell { return Cell{Text: text} }

// Yes makes a cell that is good when ok holds, and bad otherwise.
func Yes(ok bool, text string) Cell {
	if ok {
		return Cell{text, Good}
	}
	return Cell{text, Bad}
}

// Screen is what is drawn for a person.
type Screen struct {
	text   strings.Builder
	colour bool
}

func (s *Screen) write(c Cell) {
	if s.colour && c.Style != Plain && c.Text != "" {
		s.text.WriteString("\x1b[" + string(c.Style) + "m" + c.Text + "\x1b[0m")
		return
	}
	s.text.WriteString(c.Text)
}

// Line draws cells side by side.
func (s *Screen) Line(cells ...Cell) {
	for _, c := range cells {
		s.write(c)
	}
	s.text.WriteByte('\n')
}

// Heading draws a line that begins a part; parts are set apart by an empty line.
func (s *Screen) Heading(text string) {
	if s.text.Len() > 0 {
		s.text.WriteByte('\n')
	}
	s.Line(Cell{text, Bold})
}

// Table draws rows in columns under a head. Nothing is drawn without rows.
func (s *Screen) Table(head []string, rows [][]Cell) {
	if len(rows) == 0 {
		return
	}
	first := make([]Cell, len(head))
	for i, h := range head {
		first[i] = Cell{h, Faint}
	}
	all := slices.Concat([][]Cell{first}, rows)
	widths := make([]int, len(head))
	for _, row := range all {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.Text))
		}
	}
	for _, row := range all {
		s.row(row, widths)
	}
}

// row draws one row; spaces at its end are left out.
func (s *Screen) row(row []Cell, widths []int) {
	last := len(row) - 1
	for last > 0 && row[last].Text == "" {
		last--
	}
	for i, c := range row[:last+1] {
		s.write(c)
		if i < last {
			s.text.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)+3))
		}
	}
	s.text.WriteByte('\n')
}

// Findings draws findings one below the other, at most so many (0 = all).
func (s *Screen) Findings(all []finding.Finding, most int) {
	for i, f := range all {
		if most > 0 && i == most {
			s.Line(Cell{fmt.Sprintf("and %d more (-o json lists all)", len(all)-most), Faint})
			return
		}
		word := Cell{"ERROR  ", Bad}
		if f.Level == finding.Warning {
			word = Cell{"WARNING", Odd}
		}
		s.Line(word, C(" "), Cell{f.About, Bold}, C(": "+f.Reason+": "+f.Message))
		if f.Remedy != "" {
			s.Line(C("        -> " + f.Remedy))
		}
	}
}
