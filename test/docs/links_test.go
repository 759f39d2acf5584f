package docs

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

var link = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)(?:\s+"[^"]*")?\)`)

// links are where a page points to.
func (p page) links() []line {
	var all []line
	for _, l := range p.prose {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(l.text, "code"), -1) {
			all = append(all, line{l.number, m[1]})
		}
	}
	return all
}

// TestLinks follows every link that stays in the repository.
func TestLinks(t *testing.T) {
	all := pages(t)
	count := 0
	for _, p := range all {
		for _, l := range p.links() {
			count++
			if err := follow(all, p, l.text); err != nil {
				t.Errorf("%s:%d: %v", p.path, l.number, err)
			}
		}
	}
	if count < 50 {
		t.Errorf("only %d links were found", count)
	}
}

// follow says what is wrong with a link.
func follow(all []page, from page, link string) error {
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	if u.IsAbs() {
		if u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%s: links to elsewhere are https", link)
		}
		return nil
	}
	target := from.path
	if u.Path != "" {
		target = path.Join(path.Dir(from.path), u.Path)
		if _, err := os.Stat(filepath.Join(root(), filepath.FromSlash(target))); err != nil {
			return fmt.Errorf("%s leads nowhere: %w", link, err)
		}
	}
	if u.Fragment == "" {
		return nil
	}
	i := slices.IndexFunc(all, func(p page) bool { return p.path == target })
	if i < 0 || !slices.Contains(all[i].anchors(), u.Fragment) {
		return fmt.Errorf("%s: %s has no such heading", link, target)
	}
	return nil
}

// TestIndex makes sure that every page can be reached from the index, and the index from the README.
func TestIndex(t *testing.T) {
	all := pages(t)
	reached := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if reached[name] {
			return
		}
		reached[name] = true
		for _, p := range all {
			if p.path != name {
				continue
			}
			for _, l := range p.links() {
				if u, err := url.Parse(l.text); err == nil && !u.IsAbs() && u.Path != "" {
					visit(path.Join(path.Dir(name), u.Path))
				}
			}
		}
	}
	visit("README.md")
	if !reached["docs/README.md"] {
		t.Error("README.md does not lead to docs/README.md")
	}
	clear(reached)
	visit("docs/README.md")
	for _, p := range all {
		if !reached[p.path] && p.path != "README.md" {
			t.Errorf("no link leads to %s", p.path)
		}
	}
}

// TestLinksBite makes sure that a link that is broken is found.
func TestLinksBite(t *testing.T) {
	text := "# One\n\n[a](other.md) [b](#one) [c](#two) [d](../x.md#a-b-c) [e](http://h) [f](https://h/)\n`[g](no.md)`\n```\n[h](no.md)\n```\n## A `b`, C\n## One\n"
	p, ok := read("docs/p.md", text)
	if !ok {
		t.Fatal("not closed")
	}
	var broken []string
	for _, l := range p.links() {
		if follow([]page{p}, p, l.text) != nil {
			broken = append(broken, l.text)
		}
	}
	if want := []string{"other.md", "#two", "../x.md#a-b-c", "http://h"}; !slices.Equal(broken, want) {
		t.Errorf("broken: %q, want %q", broken, want)
	}
	if want := []string{"one", "a-b-c", "one-1"}; !slices.Equal(p.anchors(), want) {
		t.Errorf("anchors: %q, want %q", p.anchors(), want)
	}
}
