package main

import (
	"fmt"
	"strings"
)

// Units as Grafana names them.
const (
	count      = "short"
	fraction   = "percentunit"
	seconds    = "s"
	size       = "bytes"
	perSecond  = "cps"
	cores      = "none"
	packets    = "pps"
	noUnit     = "none"
	updates    = "mps" // messages
	writesRate = "wps"
)

// Colours that mean something, by Grafana's names.
const (
	good    = "green"
	notice  = "yellow"
	bad     = "red"
	neutral = "blue"
)

// columns is the width of Grafana's grid.
const columns = 24

// scope is what a dashboard's expressions are about. In an expression @{x="y"} stands for the selector with the scope's matchers put before x="y",
// and @ alone for the scope's matchers only.
type scope []string

// Scopes by what can be chosen on the dashboard.
func wholeScope() scope { return scope{`cluster=~"$cluster"`, `namespace=~"$namespace"`} }
func nodeScope() scope  { return append(wholeScope(), `node=~"$node"`) }
func peerScope() scope  { return append(nodeScope(), `peer=~"$peer"`) }
func jobScope() scope   { return append(wholeScope(), `job=~"$job"`, `pod=~"$pod"`) }

// in puts the scope into an expression.
func (s scope) in(expr string) string {
	own := strings.Join(s, ", ")
	expr = strings.ReplaceAll(expr, "@{", "{"+own+", ")
	return strings.ReplaceAll(expr, "@", "{"+own+"}")
}

// query is one expression of a panel, and what its series are called.
type query struct {
	expr, legend string
}

func q(expr, legend string) query { return query{expr, legend} }

// section is a row of a dashboard and the panels under it.
type section struct {
	title  string
	panels []panel
}

// board puts a dashboard together: every panel gets its number and its place, from left to right and from top to bottom.
func board(d dashboard, variables []variable, sections ...section) dashboard {
	d.SchemaVersion, d.Version, d.Editable, d.GraphTooltip, d.Refresh = schemaVersion, 1, true, 1, "30s"
	d.Time = timeRange{From: "now-6h", To: "now"}
	d.Timezone = "browser"
	d.Tags = []string{"herald"}
	d.Links = []link{{
		Type: "dashboards", Title: "Herald", Tags: []string{"herald"}, AsDropdown: true, IncludeVars: true, KeepTime: true, Icon: "external link",
	}}
	d.Annotations.List = []annotation{{
		Name: "Annotations & Alerts", Type: "dashboard", Datasource: datasource{Type: "grafana", UID: "-- Grafana --"},
		BuiltIn: 1, Enable: true, Hide: true, IconColor: "rgba(0, 211, 255, 1)",
	}}
	d.Templating.List = variables
	y := 0
	for _, s := range sections {
		open := false
		d.Panels = append(d.Panels, panel{Type: "row", Title: s.title, GridPos: gridPos{Y: y, W: columns, H: 1}, Collapsed: &open})
		y++
		placed, height := place(s.panels, y)
		d.Panels = append(d.Panels, placed...)
		y += height
	}
	for i := range d.Panels {
		d.Panels[i].ID = i + 1
	}
	return d
}

// place lays panels out from row y on and returns how many rows they take.
func place(panels []panel, y int) (placed []panel, height int) {
	x, line := 0, 0
	for _, p := range panels {
		if x+p.GridPos.W > columns {
			x, height, line = 0, height+line, 0
		}
		p.GridPos.X, p.GridPos.Y = x, y+height
		x, line = x+p.GridPos.W, max(line, p.GridPos.H)
		placed = append(placed, p)
	}
	return placed, height + line
}

// newPanel returns a panel with what all of them have.
func newPanel(kind, title, unit, description string, s scope, queries []query) panel {
	p := panel{
		Type: kind, Title: title, Description: description, Datasource: prometheus(), GridPos: gridPos{W: 12, H: 8},
		FieldConfig: &fieldConfig{
			Defaults: field{
				Unit: unit, Color: map[string]any{"mode": "palette-classic"}, Thresholds: thresholds{Mode: "absolute", Steps: []step{{Color: good}}},
			},
			Overrides: []override{},
		},
	}
	for i, one := range queries {
		p.Targets = append(p.Targets, target{
			RefID: string(rune('A' + i)), Datasource: prometheus(), Expr: s.in(one.expr), LegendFormat: one.legend,
			EditorMode: "code", Range: true, Format: "time_series",
		})
	}
	return p
}

// stat is one number as it is now, with its course behind it.
func stat(title, description string, s scope, expr string) panel {
	p := newPanel("stat", title, count, description, s, []query{{expr, title}})
	p.GridPos = gridPos{W: 4, H: 4}
	p.Options = map[string]any{
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		"colorMode":     "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
	}
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	return p
}

// graph is a panel of lines over time.
func graph(title, unit, description string, s scope, queries ...query) panel {
	p := newPanel("timeseries", title, unit, description, s, queries)
	zero := 0.0
	p.FieldConfig.Defaults.Min = &zero
	p.FieldConfig.Defaults.Custom = map[string]any{
		"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false,
		"stacking":        map[string]any{"mode": "none", "group": "A"},
		"thresholdsStyle": map[string]any{"mode": "off"},
	}
	p.Options = map[string]any{
		"legend":  map[string]any{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"lastNotNull", "max"}},
		"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
	}
	return p
}

// states is a panel of coloured bars, one for each series, of what is up or down over time.
func states(title, description string, s scope, queries ...query) panel {
	p := newPanel("state-timeline", title, noUnit, description, s, queries)
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	p.FieldConfig.Defaults.Custom = map[string]any{"lineWidth": 0, "fillOpacity": 80}
	p.FieldConfig.Defaults.Mappings = []mapping{{Type: "value", Options: map[string]mapped{
		"0": {Text: "down", Color: bad, Index: 0}, "1": {Text: "up", Color: good, Index: 1},
	}}}
	p.Options = map[string]any{
		"mergeValues": true, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
		"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": false},
		"tooltip": map[string]any{"mode": "single", "sort": "none"},
	}
	return p.thresholds(bad, at(1, good))
}

// table is a panel of what is so now: one line for each set of labels, one column for each query.
func table(title, unit, description string, s scope, queries ...query) panel {
	p := newPanel("table", title, unit, description, s, queries)
	p.FieldConfig.Defaults.Custom = map[string]any{"align": "auto", "cellOptions": map[string]any{"type": "auto"}, "filterable": true}
	p.FieldConfig.Defaults.Color = map[string]any{"mode": "thresholds"}
	p.Options = map[string]any{"showHeader": true, "cellHeight": "sm", "footer": map[string]any{"show": false, "reducer": []string{"sum"}, "countRows": false}}
	names := map[string]string{}
	for i := range p.Targets {
		p.Targets[i].Range, p.Targets[i].Instant, p.Targets[i].Format = false, true, "table"
		names[fmt.Sprintf("Value #%s", p.Targets[i].RefID)] = p.Targets[i].LegendFormat
	}
	if len(p.Targets) == 1 {
		names = map[string]string{"Value": p.Targets[0].LegendFormat}
	} else {
		p.Transformations = append(p.Transformations, transformation{ID: "merge", Options: map[string]any{}})
	}
	p.Transformations = append(p.Transformations, transformation{ID: "organize", Options: map[string]any{
		"excludeByName": map[string]bool{"Time": true}, "indexByName": map[string]int{}, "renameByName": names,
	}})
	return p
}

// size sets width and height on Grafana's grid.
func (p panel) size(w, h int) panel {
	p.GridPos.W, p.GridPos.H = w, h
	return p
}

// top bounds the axis, or the scale of colours.
func (p panel) top(most float64) panel {
	p.FieldConfig.Defaults.Max = &most
	return p
}

// signed lets the axis go below zero.
func (p panel) signed() panel {
	p.FieldConfig.Defaults.Min = nil
	return p
}

// whole shows no fractions.
func (p panel) whole() panel {
	none := 0
	p.FieldConfig.Defaults.Decimals = &none
	return p
}

// stacked lays the series on top of each other.
func (p panel) stacked() panel {
	p.FieldConfig.Defaults.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
	p.FieldConfig.Defaults.Custom["fillOpacity"] = 40
	return p
}

// bars draws what happened in each interval.
func (p panel) bars() panel {
	p.FieldConfig.Defaults.Custom["drawStyle"] = "bars"
	return p.stacked()
}

// lined draws the thresholds into the graph.
func (p panel) lined() panel {
	p.FieldConfig.Defaults.Custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
	return p
}

// none is what is shown when nothing is there.
func (p panel) none(text string) panel {
	p.FieldConfig.Defaults.NoValue = text
	return p
}

// at is a threshold.
func at(value float64, color string) step { return step{Color: color, Value: &value} }

// thresholds sets the colours: the first from the bottom on.
func (p panel) thresholds(base string, steps ...step) panel {
	p.FieldConfig.Defaults.Thresholds.Steps = append([]step{{Color: base}}, steps...)
	return p
}

// column gives a column of a table a unit, and colours where there are steps.
func (p panel) column(name, unit string, steps ...step) panel {
	o := override{Matcher: matcher{ID: "byName", Options: name}, Properties: []property{{ID: "unit", Value: unit}}}
	if len(steps) > 0 {
		o.Properties = append(
			o.Properties,
			property{ID: "thresholds", Value: thresholds{Mode: "absolute", Steps: append([]step{{Color: good}}, steps...)}},
			property{ID: "custom.cellOptions", Value: map[string]any{"type": "color-text"}},
		)
	}
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, o)
	return p
}

// dashed draws the series of one query, by what their names begin with, as a broken line.
func (p panel) dashed(pattern string) panel {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, override{
		Matcher: matcher{ID: "byRegexp", Options: pattern},
		Properties: []property{
			{ID: "custom.lineStyle", Value: map[string]any{"fill": "dash", "dash": []int{8, 8}}},
			{ID: "custom.fillOpacity", Value: 0},
		},
	})
	return p
}
