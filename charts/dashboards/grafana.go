package main

import (
	"bytes"
	"encoding/json"
)

// What Grafana reads, as far as these dashboards use it.

// schemaVersion is that of Grafana 12.0; older and newer ones migrate it.
const schemaVersion = 41

type dashboard struct {
	UID                  string      `json:"uid"`
	Title                string      `json:"title"`
	Description          string      `json:"description"`
	Tags                 []string    `json:"tags"`
	SchemaVersion        int         `json:"schemaVersion"`
	Version              int         `json:"version"`
	Editable             bool        `json:"editable"`
	GraphTooltip         int         `json:"graphTooltip"` // 1: the cross hair is shared by all panels
	Refresh              string      `json:"refresh"`
	Time                 timeRange   `json:"time"`
	Timezone             string      `json:"timezone"`
	FiscalYearStartMonth int         `json:"fiscalYearStartMonth"`
	Links                []link      `json:"links"`
	Annotations          annotations `json:"annotations"`
	Templating           templating  `json:"templating"`
	Panels               []panel     `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// link is one to all dashboards with a tag.
type link struct {
	Type        string   `json:"type"`
	Title       string   `json:"title"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
	TargetBlank bool     `json:"targetBlank"`
	Icon        string   `json:"icon"`
	Tooltip     string   `json:"tooltip"`
	URL         string   `json:"url"`
}

type annotations struct {
	List []annotation `json:"list"`
}

type annotation struct {
	Name       string     `json:"name"`
	Type       string     `json:"type"`
	Datasource datasource `json:"datasource"`
	BuiltIn    int        `json:"builtIn"`
	Enable     bool       `json:"enable"`
	Hide       bool       `json:"hide"`
	IconColor  string     `json:"iconColor"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name        string      `json:"name"`
	Label       string      `json:"label"`
	Description string      `json:"description"`
	Type        string      `json:"type"`
	Datasource  *datasource `json:"datasource,omitempty"`
	Definition  string      `json:"definition,omitempty"`
	Query       any         `json:"query"`
	Refresh     int         `json:"refresh"` // 1: when the dashboard is opened, 2: when the time range changes, too
	Sort        int         `json:"sort"`    // 5: alphabetical, capitals like the others
	Multi       bool        `json:"multi"`
	IncludeAll  bool        `json:"includeAll"`
	AllValue    string      `json:"allValue,omitempty"`
	Regex       string      `json:"regex"`
	Hide        int         `json:"hide"`
	Options     []any       `json:"options"`
	Current     any         `json:"current"`
}

type variableQuery struct {
	Query string `json:"query"`
	RefID string `json:"refId"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// prometheus is the data source that the user has chosen.
func prometheus() *datasource { return &datasource{Type: "prometheus", UID: "${datasource}"} }

type panel struct {
	ID              int              `json:"id"`
	Type            string           `json:"type"`
	Title           string           `json:"title"`
	Description     string           `json:"description,omitempty"`
	GridPos         gridPos          `json:"gridPos"`
	Datasource      *datasource      `json:"datasource,omitempty"`
	Targets         []target         `json:"targets,omitempty"`
	FieldConfig     *fieldConfig     `json:"fieldConfig,omitempty"`
	Options         map[string]any   `json:"options,omitempty"`
	Transformations []transformation `json:"transformations,omitempty"`
	Collapsed       *bool            `json:"collapsed,omitempty"` // rows only
	Panels          []panel          `json:"panels,omitempty"`    // of a collapsed row
}

// gridPos is a place on a grid of 24 columns.
type gridPos struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

type target struct {
	RefID        string      `json:"refId"`
	Datasource   *datasource `json:"datasource"`
	Expr         string      `json:"expr"`
	LegendFormat string      `json:"legendFormat"`
	EditorMode   string      `json:"editorMode"`
	Range        bool        `json:"range"`
	Instant      bool        `json:"instant"`
	Format       string      `json:"format"` // time_series or table
}

type fieldConfig struct {
	Defaults  field      `json:"defaults"`
	Overrides []override `json:"overrides"`
}

type field struct {
	Unit       string         `json:"unit"`
	Decimals   *int           `json:"decimals,omitempty"`
	Min        *float64       `json:"min,omitempty"`
	Max        *float64       `json:"max,omitempty"`
	NoValue    string         `json:"noValue,omitempty"`
	Color      map[string]any `json:"color"`
	Thresholds thresholds     `json:"thresholds"`
	Mappings   []mapping      `json:"mappings,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

// step is the colour from a value on; nil is minus infinity.
type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type mapping struct {
	Type    string            `json:"type"`
	Options map[string]mapped `json:"options"`
}

type mapped struct {
	Text  string `json:"text"`
	Color string `json:"color"`
	Index int    `json:"index"`
}

type override struct {
	Matcher    matcher    `json:"matcher"`
	Properties []property `json:"properties"`
}

type matcher struct {
	ID      string `json:"id"`
	Options string `json:"options"`
}

type property struct {
	ID    string `json:"id"`
	Value any    `json:"value"`
}

type transformation struct {
	ID      string         `json:"id"`
	Options map[string]any `json:"options"`
}

// marshal returns a dashboard as Grafana exports it: expressions are left readable.
func marshal(d dashboard) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
