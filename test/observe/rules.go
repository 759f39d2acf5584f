package observe

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// Group is a group of rules, as in Prometheus' rule files.
type Group struct {
	Name  string `json:"name"`
	Rules []Rule `json:"rules"`
}

// Rule is an alert.
type Rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// RulesFile is the path of the alerts in a chart's directory.
func RulesFile(chart string) string { return filepath.Join(chart, "files", "alerts", "herald.yaml") }

// Rules reads the alerts of a chart's directory.
func Rules(chart string) ([]Group, error) {
	text, err := os.ReadFile(RulesFile(chart))
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []Group `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", RulesFile(chart), err)
	}
	return file.Groups, nil
}

// Alerts returns the alerts of all groups, in their order.
func Alerts(groups []Group) []Rule {
	var all []Rule
	for _, g := range groups {
		all = append(all, g.Rules...)
	}
	return all
}
