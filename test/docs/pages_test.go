package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// page is one Markdown file.
type page struct {
	path   string // from the repository's root, with slashes
	blocks []block
	prose  []line // what stands outside of blocks
}

// block is what stands between two fences.
type block struct {
	language string
	line     int // of the first line in it
	text     string
}

type line struct {
	number int
	text   string
}

func root() string { return filepath.Join("..", "..") }

// pages reads README.md and everything below docs.
func pages(t *testing.T) []page {
	t.Helper()
	names := []string{"README.md"}
	err := fs.WalkDir(os.DirFS(root()), "docs", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := make([]page, 0, len(names))
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root(), filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		p, ok := read(name, string(text))
		if !ok {
			t.Errorf("%s: a fence is opened and not closed", name)
		}
		all = append(all, p)
	}
	return all
}

var fence = regexp.MustCompile("^\\s*```+\\s*([a-zA-Z]*)")

// read splits a page; false when it ends within a block.
func read(path, text string) (page, bool) {
	p := page{path: path}
	var open *block
	for i, s := range strings.Split(text, "\n") {
		m := fence.FindStringSubmatch(s)
		switch {
		case m != nil && open == nil:
			open = &block{language: m[1], line: i + 2}
		case m != nil:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += s + "\n"
		default:
			p.prose = append(p.prose, line{i + 1, s})
		}
	}
	return p, open == nil
}

// anchors are what a link to a heading of the page may name, made as the usual renderers make them.
func (p page) anchors() []string {
	var all []string
	for _, l := range p.prose {
		if !strings.HasPrefix(l.text, "#") {
			continue
		}
		name := anchor(strings.TrimSpace(strings.TrimLeft(l.text, "#")))
		unique := name
		for n := 1; slices.Contains(all, unique); n++ {
			unique = name + "-" + strconv.Itoa(n)
		}
		all = append(all, unique)
	}
	return all
}

func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

var code = regexp.MustCompile("`([^`]+)`")

// code returns what the prose sets as code.
func (p page) code() []line {
	var all []line
	for _, l := range p.prose {
		for _, m := range code.FindAllStringSubmatch(l.text, -1) {
			all = append(all, line{l.number, m[1]})
		}
	}
	return all
}

// section returns the part of the page below a heading, down to the next one of that level or above.
func (p page) section(t *testing.T, heading string) (prose []line, blocks []block) {
	t.Helper()
	from, to, level := 0, 1<<30, 0
	for _, l := range p.prose {
		hashes := len(l.text) - len(strings.TrimLeft(l.text, "#"))
		switch {
		case hashes == 0:
		case from == 0 && strings.TrimSpace(l.text[hashes:]) == heading:
			from, level = l.number, hashes
		case from > 0 && hashes <= level:
			to = min(to, l.number)
		}
	}
	if from == 0 {
		t.Fatalf("%s has no section %q", p.path, heading)
	}
	for _, l := range p.prose {
		if from < l.number && l.number < to {
			prose = append(prose, l)
		}
	}
	for _, b := range p.blocks {
		if from < b.line && b.line < to {
			blocks = append(blocks, b)
		}
	}
	return prose, blocks
}

func find(t *testing.T, path string) page {
	t.Helper()
	for _, p := range pages(t) {
		if p.path == path {
			return p
		}
	}
	t.Fatalf("there is no %s", path)
	return page{}
}
