package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commands returns what a page asks its reader to type: lines of shell blocks, with a prompt or without, and code in the prose.
func (p page) commands() []line {
	var all []line
	for _, b := range p.blocks {
		if !slices.Contains([]string{"", "sh", "bash", "console"}, b.language) {
			continue
		}
		for i, s := range strings.Split(b.text, "\n") {
			all = append(all, line{b.line + i, strings.TrimPrefix(strings.TrimSpace(s), "$ ")})
		}
	}
	return append(all, p.code()...)
}

// source is the text of all Go files below a directory, tests or the others.
func source(t *testing.T, dir string, tests bool) string {
	t.Helper()
	var text strings.Builder
	tree := os.DirFS(filepath.Join(root(), filepath.FromSlash(dir)))
	err := fs.WalkDir(tree, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") != tests {
			return err
		}
		part, err := fs.ReadFile(tree, path)
		text.Write(part)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

var (
	makeTarget  = regexp.MustCompile(`^(?:[A-Z_]+=\S+ )*make ([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*)`)
	pluginVerb  = regexp.MustCompile(`\bkubectl[ -]herald ([a-z]+)`)
	longFlag    = regexp.MustCompile(`(?:^|[ \[(])--([a-z][a-z0-9-]*)`)
	goPackage   = regexp.MustCompile(`\bgo (?:run|test)\b.*? (\./[a-zA-Z0-9/_-]+)`)
	testPattern = regexp.MustCompile(`\bgo test\b.* -(?:run|fuzz) '?([A-Za-z0-9_|]+)`)
)

// TestCommands makes sure that what a reader is asked to type exists: targets of make, verbs of the plugin, packages and tests, and flags of
// Herald's own programs.
func TestCommands(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root(), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	programs := source(t, "cmd", false)
	checks := []struct {
		name    string
		pattern *regexp.Regexp
		skip    func(page, command string) bool
		missing func(found string) string // what does not exist
		least   int
	}{
		{"target of make", makeTarget, nil, func(found string) string {
			for target := range strings.FieldsSeq(found) {
				if !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
					return target
				}
			}
			return ""
		}, 5},
		{"verb of kubectl herald", pluginVerb, nil, func(verb string) string {
			if !strings.Contains(programs, `"`+verb+` `) && !strings.Contains(programs, `"`+verb+`"`) && verb != "completion" {
				return verb
			}
			return ""
		}, 5},
		{"flag of Herald's programs", longFlag, foreign, func(flag string) string {
			if strings.Contains(programs, `"`+flag+`"`) || slices.Contains([]string{"help", "version"}, flag) || inherited(flag) {
				return ""
			}
			return "--" + flag
		}, 5},
		{"directory", goPackage, nil, func(path string) string {
			if _, err := os.Stat(filepath.Join(root(), filepath.FromSlash(path))); err != nil {
				return path
			}
			return ""
		}, 3},
	}
	for _, c := range checks {
		count := 0
		for _, p := range pages(t) {
			for _, l := range p.commands() {
				if c.skip != nil && c.skip(p.path, l.text) {
					continue
				}
				for _, m := range c.pattern.FindAllStringSubmatch(l.text, -1) {
					count++
					if what := c.missing(m[1]); what != "" {
						t.Errorf("%s:%d: there is no %s %s", p.path, l.number, c.name, what)
					}
				}
			}
		}
		if count < c.least {
			t.Errorf("of %s only %d were found", c.name, count)
		}
	}
}

// foreign reports whether a command is another program's, whose flags are not known here. Pages about routers and about MetalLB speak of
// theirs.
func foreign(page, command string) bool {
	if regexp.MustCompile(`^(kubectl[ -]herald|herald-(speaker|controller))\b`).MatchString(command) {
		return false
	}
	if page == "docs/bgp.md" || page == "docs/migration.md" {
		return true
	}
	for _, name := range []string{"kubectl ", "helm ", "go ", "git ", "openssl ", "curl ", "ip ", "promtool ", "arping ", "ndisc6 ", "cosign ", "docker "} {
		if strings.Contains(command, name) {
			return true
		}
	}
	return false
}

// inherited reports whether a flag is one that the plugin takes from kubectl's own set.
func inherited(flag string) bool {
	return slices.Contains([]string{"kubeconfig", "context", "server", "request-timeout", "namespace"}, flag)
}

// TestNamedTests makes sure that tests that the docs name as the source of a figure exist.
func TestNamedTests(t *testing.T) {
	count := 0
	for _, p := range pages(t) {
		for _, l := range p.commands() {
			run, dir := testPattern.FindStringSubmatch(l.text), goPackage.FindStringSubmatch(l.text)
			if run == nil || dir == nil {
				continue
			}
			tests := source(t, dir[1], true)
			for name := range strings.SplitSeq(run[1], "|") {
				count++
				if !strings.Contains(tests, "func "+name) {
					t.Errorf("%s:%d: %s has no test %s", p.path, l.number, dir[1], name)
				}
			}
		}
	}
	if count == 0 {
		t.Error("no tests are named")
	}
}

// TestPaths looks up every path of the repository that stands in prose. One with a star stands for several.
func TestPaths(t *testing.T) {
	inside := regexp.MustCompile(`^(?:\./)?((?:cmd|speaker|controller|config|charts|test|docs|\.ci)/[^\s*:]*)$`)
	count := 0
	for _, p := range pages(t) {
		for _, l := range p.code() {
			m := inside.FindStringSubmatch(l.text)
			if m == nil {
				continue
			}
			count++
			if _, err := os.Stat(filepath.Join(root(), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s:%d: there is no %s", p.path, l.number, m[1])
			}
		}
	}
	if count < 5 {
		t.Errorf("only %d paths were found", count)
	}
}
