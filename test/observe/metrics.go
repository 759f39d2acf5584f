package observe

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Metric is a line of the tables in docs/metrics.md.
type Metric struct {
	Name, Type string
	Labels     []string
}

// Metrics reads the tables of docs/metrics.md, by name. It is an error when there are none.
func Metrics(path string) (map[string]Metric, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	line := regexp.MustCompile("(?m)^\\| `(herald_[a-z0-9_]+)\\{([a-z_,]*)\\}` \\| ([a-z]+) \\|")
	all := make(map[string]Metric)
	for _, found := range line.FindAllStringSubmatch(string(text), -1) {
		m := Metric{Name: found[1], Type: found[3]}
		if found[2] != "" {
			m.Labels = strings.Split(found[2], ",")
		}
		all[m.Name] = m
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no table of metrics", path)
	}
	return all, nil
}

// Use is a metric in an expression with the labels that are asked of it.
type Use struct {
	Metric string
	Labels []string
}

// Uses returns the metrics of an expression that begin with one of the prefixes, in their order, each with the labels of its selector.
func Uses(expr string, prefixes ...string) []Use {
	quoted := make([]string, len(prefixes))
	for i, p := range prefixes {
		quoted[i] = regexp.QuoteMeta(p)
	}
	metric := regexp.MustCompile(`\b((?:` + strings.Join(quoted, "|") + `)[A-Za-z0-9_:]*)(\{[^}]*\})?`)
	label := regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	var all []Use
	for _, found := range metric.FindAllStringSubmatch(expr, -1) {
		u := Use{Metric: found[1]}
		for _, l := range label.FindAllStringSubmatch(found[2], -1) {
			u.Labels = append(u.Labels, l[1])
		}
		all = append(all, u)
	}
	return all
}

// Check returns what is wrong with a use: a metric that is not in the list, or a label that it does not have. Targets' own labels are given.
func (u Use) Check(metrics map[string]Metric, targets []string) error {
	name, histogram := u.Metric, false
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(u.Metric, suffix); ok && metrics[base].Type == "histogram" {
			name, histogram = base, true
		}
	}
	m, ok := metrics[name]
	if !ok {
		return fmt.Errorf("%s is not in docs/metrics.md", u.Metric)
	}
	if m.Type == "histogram" && !histogram {
		return fmt.Errorf("%s is a histogram: it has _bucket, _sum and _count", u.Metric)
	}
	for _, l := range u.Labels {
		if !slices.Contains(m.Labels, l) && !slices.Contains(targets, l) && (!histogram || l != "le") {
			return fmt.Errorf("%s has no label %s", u.Metric, l)
		}
	}
	return nil
}
