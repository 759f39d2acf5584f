package speaker

import (
	"maps"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// able remembers since when each node has been able to answer without a break.
type able map[string]ability

type ability struct {
	since time.Time
	up    []string // interfaces that are up
}

// update takes the members in, and returns since when each has been able. One that restarts keeps its time.
func (a able) update(now time.Time, f decide.Facts) map[string]time.Time {
	nodes := make(map[string]*config.Node, len(f.Config.Nodes))
	for _, n := range f.Config.Nodes {
		nodes[n.Name] = n
	}
	out := make(map[string]time.Time, len(f.Members))
	seen := make(map[string]bool, len(f.Members))
	for _, m := range f.Members {
		if m.State == decide.Draining || barred(nodes[m.Node], f) {
			continue
		}
		was, known := a[m.Node]
		if m.State == decide.Restarting {
			seen[m.Node] = true
			if known {
				out[m.Node] = was.since
			}
			continue
		}
		is := ability{since: now, up: upOf(m.Interfaces)}
		if known && !slices.ContainsFunc(was.up, func(name string) bool { return !slices.Contains(is.up, name) }) {
			is.since = was.since
		}
		a[m.Node], seen[m.Node], out[m.Node] = is, true, is.since
	}
	maps.DeleteFunc(a, func(node string, _ ability) bool { return !seen[node] })
	return out
}

// barred reports whether a node is kept from answering for anything.
func barred(n *config.Node, f decide.Facts) bool {
	return n != nil && (n.Drain || n.OutOfService || n.NetworkUnavailable ||
		n.ExcludeLB && !f.IgnoreExcludeLB || n.Unschedulable && f.DrainOnCordon)
}

// upOf returns the names of the interfaces that are up.
func upOf(links []config.Interface) []string {
	var names []string
	for _, l := range links {
		if l.Up {
			names = append(names, l.Name)
		}
	}
	return names
}
