package parse

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// scope is what both kinds of advertisement select.
type scope struct {
	poolNames     []string
	poolSelectors selectors
	services      serviceSelection
	nodes         nodeSelection
}

type l2Spec struct {
	scope
	interfaces []string
	preferred  []preferenceSpec
	refresh    time.Duration
	failback   *time.Duration // nil: never
}

// preferenceSpec is one preference; its selection has one selector at most, and none selects all.
type preferenceSpec struct {
	weight int
	nodes  nodeSelection
}

// Bounds and defaults of an L2Advertisement.
const (
	defaultRefresh = time.Minute
	maxRefresh     = 24 * time.Hour
	maxFailback    = 365 * 24 * time.Hour
	maxWeight      = 100
)

func parseScope(names []string, pools, services, nodes []v1beta1.LabelSelector) (scope, []config.Problem) {
	s := scope{poolNames: names}
	var a, b, c []config.Problem
	s.poolSelectors, a = parseSelectors("spec.ipAddressPoolSelectors", pools)
	s.services.selectors, b = parseSelectors("spec.serviceSelectors", services)
	s.nodes.selectors, c = parseSelectors("spec.nodeSelectors", nodes)
	return s, slices.Concat(a, b, c)
}

func parseL2Spec(o *v1beta1.L2Advertisement) (l2Spec, []config.Problem) {
	s, problems := parseScope(o.Spec.IPAddressPools, o.Spec.IPAddressPoolSelectors, o.Spec.ServiceSelectors, o.Spec.NodeSelectors)
	for i, glob := range o.Spec.Interfaces {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			problems = append(problems, config.Problem{
				Field: fmt.Sprintf("spec.interfaces[%d]", i), Reason: InvalidInterface,
				Message: fmt.Sprintf("%q is neither the name of an interface nor a glob such as bond*", glob),
			})
		}
	}
	spec := l2Spec{scope: s, interfaces: o.Spec.Interfaces, refresh: defaultRefresh}
	var more []config.Problem
	spec.preferred, more = parsePreferences(o.Spec.PreferredNodeSelectors)
	problems = append(problems, more...)
	if d := o.Spec.RefreshInterval; d != nil {
		spec.refresh = d.Duration
		problems = append(problems, checkDuration("spec.refreshInterval", d.Duration, maxRefresh)...)
	}
	if d := o.Spec.FailbackDelay; d != nil {
		spec.failback = new(d.Duration)
		problems = append(problems, checkDuration("spec.failbackDelay", d.Duration, maxFailback)...)
	}
	return spec, problems
}

func parsePreferences(in []v1beta1.PreferredNodeSelector) ([]preferenceSpec, []config.Problem) {
	var out []preferenceSpec
	var problems []config.Problem
	for i, p := range in {
		field := fmt.Sprintf("spec.preferredNodeSelectors[%d].", i)
		if p.Weight < 1 || p.Weight > maxWeight {
			problems = append(problems, config.Problem{
				Field: field + "weight", Reason: InvalidWeight, Message: fmt.Sprintf("%d is not a weight from 1 to %d", p.Weight, maxWeight),
			})
		}
		one, err := parseSelector(p.Preference)
		if err != nil {
			problems = append(problems, config.Problem{Field: field + "preference", Reason: InvalidSelector, Message: "not a label selector: " + err.Error()})
			continue
		}
		next := preferenceSpec{weight: int(p.Weight)}
		next.nodes.add(one)
		out = append(out, next)
	}
	return out, problems
}

// checkDuration says what is wrong with a duration that must be in whole seconds and not negative.
func checkDuration(field string, d, most time.Duration) []config.Problem {
	if d >= 0 && d <= most && d%time.Second == 0 {
		return nil
	}
	return []config.Problem{{
		Field: field, Reason: InvalidDuration, Message: fmt.Sprintf("%s is not from 0 to %.0fh in whole seconds", d, most.Hours()),
	}}
}

func (w *world) parseL2(objs []*v1beta1.L2Advertisement) []*config.L2Advertisement {
	for _, o := range objs {
		w.see(KindL2Advertisement, o, o.Status.Conditions)
	}
	var out []*config.L2Advertisement
	for _, d := range update(&w.memory.l2, objs, parseL2Spec) {
		ref := config.Ref{Kind: KindL2Advertisement, Name: d.name}
		spec := settle(w, ref, d, always)
		if spec == nil {
			continue
		}
		pools, problems := w.selectPools(spec.poolNames, &spec.poolSelectors)
		w.report(ref, problems, false)
		out = append(out, reuse(d, &config.L2Advertisement{
			Name: d.name, Pools: pools, Services: w.selectServices(&spec.services), Nodes: w.selectNodes(&spec.nodes), Interfaces: spec.interfaces,
			Preferred: w.prefer(spec.preferred), RefreshInterval: spec.refresh, FailbackDelay: spec.failback,
		}, equalL2))
	}
	slices.SortFunc(out, func(a, b *config.L2Advertisement) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// prefer returns which nodes the preferences select.
func (w *world) prefer(specs []preferenceSpec) []config.Preference {
	var out []config.Preference
	for i := range specs {
		out = append(out, config.Preference{Weight: specs[i].weight, Nodes: w.selectNodes(&specs[i].nodes)})
	}
	return out
}

func equalL2(a, b *config.L2Advertisement) bool {
	return a.Name == b.Name && a.Pools.Equal(b.Pools) && a.Services.Equal(b.Services) && a.Nodes.Equal(b.Nodes) &&
		slices.Equal(a.Interfaces, b.Interfaces) && slices.EqualFunc(a.Preferred, b.Preferred, equalPreferences) &&
		a.RefreshInterval == b.RefreshInterval && (a.FailbackDelay == nil) == (b.FailbackDelay == nil) &&
		(a.FailbackDelay == nil || *a.FailbackDelay == *b.FailbackDelay)
}

func equalPreferences(a, b config.Preference) bool {
	return a.Weight == b.Weight && a.Nodes.Equal(b.Nodes)
}
