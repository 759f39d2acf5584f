package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Dashboard is what matters here of a dashboard's JSON.
type Dashboard struct {
	File          string `json:"-"` // name without directory
	UID           string
	ID            *int // Grafana's own number: not to be given
	Title         string
	Description   string
	Tags          []string
	SchemaVersion int
	Templating    struct{ List []Variable }
	Panels        []Panel
}

// Variable is what can be chosen on a dashboard.
type Variable struct {
	Name, Type, Label, Description string
	Definition                     string
	AllValue                       string
	Datasource                     *Datasource
}

// Datasource is where a panel or variable gets its data.
type Datasource struct{ Type, UID string }

// Panel is one panel, or a row's title.
type Panel struct {
	ID          int
	Type, Title string
	Description string
	GridPos     struct{ X, Y, W, H int }
	Datasource  *Datasource
	Targets     []Target
	FieldConfig struct {
		Defaults struct {
			Unit       string
			NoValue    string
			Thresholds struct{ Steps []struct{ Value *float64 } }
		}
	}
	Options map[string]any
}

// Target is one query of a panel.
type Target struct {
	RefID, Expr, LegendFormat string
	Datasource                *Datasource
	Range, Instant            bool
}

// Dashboards reads those of a chart's directory, sorted by file. It is an error when there are none.
func Dashboards(chart string) ([]Dashboard, error) {
	names, err := filepath.Glob(filepath.Join(chart, "files", "dashboards", "*.json"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no dashboards", chart)
	}
	var all []Dashboard
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		d := Dashboard{File: filepath.Base(name)}
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&d); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, d)
	}
	return all, nil
}
