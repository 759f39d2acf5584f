package observe

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	chartDir   = filepath.Join("..", "..", "charts", "herald")
	metricDocs = filepath.Join("..", "..", "docs", "metrics.md")
	runbookDir = filepath.Join("..", "..", "docs", "runbooks")

	// targetLabels are put on every series by the chart's monitors, or by whoever tells clusters apart.
	targetLabels = []string{"cluster", "namespace", "job", "instance", "pod", "container", "node"}
	// units and panelTypes are those in use, by the names that Grafana has for them.
	units      = []string{"none", "short", "percentunit", "s", "bytes", "cps", "pps", "mps", "wps"}
	panelTypes = []string{"stat", "timeseries", "state-timeline", "table"}
	// processMetrics are those of client_golang that are used; Herald has them, but docs/metrics.md lists its own only.
	processMetrics = []string{
		"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds", "go_goroutines",
		"go_memstats_heap_alloc_bytes",
	}
)

func dashboards(t *testing.T) []Dashboard {
	t.Helper()
	all, err := Dashboards(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func metrics(t *testing.T) map[string]Metric {
	t.Helper()
	all, err := Metrics(metricDocs)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDashboards checks each dashboard as far as that goes without Grafana.
func TestDashboards(t *testing.T) {
	uids := map[string]string{}
	for _, d := range dashboards(t) {
		t.Run(d.File, func(t *testing.T) {
			if other, taken := uids[d.UID]; taken {
				t.Errorf("uid %s is that of %s, too", d.UID, other)
			}
			uids[d.UID] = d.File
			for _, problem := range slices.Concat(d.head(), d.grid(), d.variables()) {
				t.Error(problem)
			}
			for _, p := range d.Panels {
				for _, problem := range p.problems() {
					t.Errorf("panel %d (%s): %s", p.ID, p.Title, problem)
				}
			}
		})
	}
}

// TestProblemsAreFound makes sure that what is wrong is told.
func TestProblemsAreFound(t *testing.T) {
	find := func(what string, spoil func(*Dashboard), problem string) {
		t.Helper()
		d := dashboards(t)[0]
		spoil(&d)
		found := slices.Concat(d.head(), d.grid(), d.variables())
		for _, p := range d.Panels {
			found = append(found, p.problems()...)
		}
		if !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, problem) }) {
			t.Errorf("%s: found %q, want %q among them", what, found, problem)
		}
	}
	find("two panels with one id", func(d *Dashboard) { d.Panels[2].ID = d.Panels[1].ID }, "the id of another")
	find("overlap", func(d *Dashboard) { d.Panels[2].GridPos = d.Panels[1].GridPos }, "overlaps")
	find("too wide", func(d *Dashboard) { d.Panels[2].GridPos.W = 25 }, "is not on the grid")
	find("an id of Grafana's", func(d *Dashboard) { d.ID = new(int) }, "id is given")
	find("no unit", func(d *Dashboard) { d.Panels[1].FieldConfig.Defaults.Unit = "" }, "no unit of Grafana")
	find("a fixed data source", func(d *Dashboard) { d.Panels[1].Targets[0].Datasource.UID = "P1" }, "data source")
	find("an empty panel", func(d *Dashboard) { d.Panels[1].Targets = nil }, "no query")
	find("an unknown variable", func(d *Dashboard) { d.Panels[1].Targets[0].Expr = "up{x=\"$nobody\"}" }, "$nobody")
	find("a variable without use", func(d *Dashboard) {
		d.Templating.List = append(d.Templating.List, Variable{Name: "idle", Type: "query", Label: "x", Description: "x", Datasource: &Datasource{UID: "${datasource}"}})
	}, "idle is not used")
}

func (d Dashboard) head() (problems []string) {
	if !strings.HasPrefix(d.UID, "herald-") {
		problems = append(problems, fmt.Sprintf("uid %q does not begin with herald-", d.UID))
	}
	if d.ID != nil {
		problems = append(problems, "id is given, which is for Grafana to do")
	}
	if d.Title == "" || d.Description == "" || !slices.Contains(d.Tags, "herald") {
		problems = append(problems, "title, description or the tag herald is missing")
	}
	if d.SchemaVersion < 39 {
		problems = append(problems, fmt.Sprintf("schemaVersion %d is that of an old Grafana", d.SchemaVersion))
	}
	return problems
}

// grid finds panels that have one id, or one title in their row, or lie on each other.
func (d Dashboard) grid() (problems []string) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for i, p := range d.Panels {
		g := p.GridPos
		if g.X < 0 || g.Y < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			add("panel %d is not on the grid: %+v", p.ID, g)
		}
		for _, other := range d.Panels[:i] {
			o := other.GridPos
			if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				add("panel %d overlaps panel %d", p.ID, other.ID)
			}
			if p.ID == other.ID || p.ID < 1 {
				add("panel %q has no id, or the id of another", p.Title)
			}
			if p.Title == other.Title {
				add("two panels are called %q", p.Title)
			}
		}
	}
	return problems
}

// variables finds those that are used and not there, or there and not used.
func (d Dashboard) variables() (problems []string) {
	known, used := map[string]bool{}, map[string]bool{}
	variable := regexp.MustCompile(`\$(\w+)|\$\{(\w+)\}`)
	look := func(text string) {
		for _, found := range variable.FindAllStringSubmatch(text, -1) {
			if name := found[1] + found[2]; !strings.HasPrefix(name, "__") {
				used[name] = true
			}
		}
	}
	for _, v := range d.Templating.List {
		known[v.Name] = true
		if v.Label == "" || v.Description == "" {
			problems = append(problems, fmt.Sprintf("variable %s has no label or description", v.Name))
		}
		if v.Type == "query" && (v.Datasource == nil || v.Datasource.UID != "${datasource}") {
			problems = append(problems, fmt.Sprintf("variable %s has another data source than the chosen one", v.Name))
		}
		look(v.Definition)
	}
	for _, p := range d.Panels {
		if p.Datasource != nil {
			look(p.Datasource.UID)
		}
		for _, target := range p.Targets {
			look(target.Expr)
		}
	}
	for name := range used {
		if !known[name] {
			problems = append(problems, fmt.Sprintf("$%s is no variable of the dashboard", name))
		}
	}
	for name := range known {
		if !used[name] {
			problems = append(problems, fmt.Sprintf("variable %s is not used", name))
		}
	}
	return problems
}

func (p Panel) problems() (problems []string) {
	if p.Title == "" {
		return []string{"it has no title"}
	}
	if p.Type == "row" {
		return nil
	}
	if p.Description == "" {
		problems = append(problems, "it has no description")
	}
	if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
		problems = append(problems, fmt.Sprintf("it has no unit of Grafana's: %q", p.FieldConfig.Defaults.Unit))
	}
	if !slices.Contains(panelTypes, p.Type) {
		problems = append(problems, "it is of a type that not every Grafana has: "+p.Type)
	}
	if steps := p.FieldConfig.Defaults.Thresholds.Steps; len(steps) == 0 || steps[0].Value != nil {
		problems = append(problems, "its thresholds do not begin at the bottom")
	}
	if p.Datasource == nil || p.Datasource.UID != "${datasource}" {
		problems = append(problems, "it has another data source than the chosen one")
	}
	if len(p.Targets) == 0 {
		problems = append(problems, "it has no query")
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if target.Expr == "" || target.LegendFormat == "" || refs[target.RefID] || target.Range == target.Instant {
			problems = append(problems, fmt.Sprintf("query %q lacks its expression or legend, has the name of another, or is neither instant nor range", target.RefID))
		}
		if target.Datasource == nil || target.Datasource.UID != "${datasource}" {
			problems = append(problems, fmt.Sprintf("query %s has another data source than the chosen one", target.RefID))
		}
		refs[target.RefID] = true
	}
	return problems
}

// TestMetricsOfDashboards: each metric and label in an expression or a variable is one that Herald has.
func TestMetricsOfDashboards(t *testing.T) {
	known := metrics(t)
	check := func(where, text string) {
		for _, u := range Uses(text, "herald_") {
			if err := u.Check(known, targetLabels); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		}
		for _, u := range Uses(text, "process_", "go_") {
			if !slices.Contains(processMetrics, u.Metric) || !slices.Contains(u.Labels, "job") {
				t.Errorf("%s: %v: not in the list, or of any job", where, u)
			}
		}
	}
	for _, d := range dashboards(t) {
		for _, v := range d.Templating.List {
			check(d.File+": variable "+v.Name, v.Definition)
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				where := fmt.Sprintf("%s: %s, query %s", d.File, p.Title, target.RefID)
				check(where, target.Expr)
				if !strings.Contains(target.Expr, `cluster=~"$cluster"`) {
					t.Errorf("%s: of all clusters", where)
				}
			}
		}
	}
}

// TestLegends: a label in a legend is one that the expression leaves.
func TestLegends(t *testing.T) {
	label := regexp.MustCompile(`\{\{(\w+)\}\}`)
	kept := regexp.MustCompile(`by \(([^)]*)\)`)
	for _, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				outer := kept.FindStringSubmatch(target.Expr)
				for _, l := range label.FindAllStringSubmatch(target.LegendFormat, -1) {
					if outer == nil || !slices.Contains(strings.Split(outer[1], ", "), l[1]) && !strings.Contains(target.Expr, "by (le, "+l[1]+")") {
						t.Errorf("%s: %s: {{%s}} is not left by %s", d.File, p.Title, l[1], target.Expr)
					}
				}
			}
		}
	}
}
