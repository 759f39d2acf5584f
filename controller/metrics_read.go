package controller

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
)

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.took.Collect(ch)
	m.duration.Collect(ch)
	r := reader{m, ch}
	r.allocated()
	leads := m.reign.Load()
	if leads == nil {
		r.gauge(m.leader, 0)
		return
	}
	r.gauge(m.leader, 1)
	for class, n := range leads.desk.due() {
		r.gauge(m.pending, int64(n), class)
	}
	if v := m.view.Load(); v != nil {
		r.addresses(v)
		r.states(v)
		r.speakers(v.in, leads)
	}
}

// reader reads what is known for one scrape.
type reader struct {
	*Metrics
	ch chan<- prometheus.Metric
}

func (r reader) gauge(d *prometheus.Desc, n int64, labels ...string) {
	r.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func (r reader) allocated() {
	r.mu.Lock()
	counts := maps.Clone(r.counts)
	r.mu.Unlock()
	for a, n := range counts {
		r.ch <- prometheus.MustNewConstMetric(r.allocations, prometheus.CounterValue, float64(n), a.pool, a.result)
	}
}

// addresses tells of pools, of the families that they have.
func (r reader) addresses(v *view) {
	for name, s := range v.plan.Pools {
		for family, c := range map[string]config.PoolCounts{"ipv4": s.IPv4, "ipv6": s.IPv6} {
			if c == (config.PoolCounts{}) {
				continue
			}
			for state, n := range map[string]int64{"total": c.Total, "assigned": c.Assigned, "available": c.Available, "reserved": c.Reserved} {
				r.gauge(r.pool, n, name, family, state)
			}
		}
	}
}

// states counts Services by what their conditions say.
func (r reader) states(v *view) {
	states, announced := make(map[string]int64), make(map[string]int64)
	for _, o := range v.plan.Services {
		if o.Service.Deleting {
			states["Deleting"]++
			continue
		}
		states[o.Allocated.Reason]++
		switch told := o.Service.Announced.Reason; {
		case len(o.Service.Ingress) == 0:
		case told == "":
			announced["Pending"]++
		default:
			announced[told]++
		}
	}
	for state, n := range states {
		r.gauge(r.services, n, state)
	}
	for state, n := range announced {
		r.gauge(r.announced, n, state)
	}
}

// speakers counts nodes by what is known of their speaker.
func (r reader) speakers(in *config.Snapshot, leads *reign) {
	live, stopped := in.LiveSpeakers(), make(map[string]bool)
	for _, s := range in.Speakers {
		stopped[s.Node] = s.Stopped
	}
	states := map[string]int64{"live": 0, "missing": 0, "stopped": 0, "excluded": 0}
	for _, n := range in.Nodes {
		switch {
		case live[n.Name]:
			states["live"]++
		case stopped[n.Name]:
			states["stopped"]++
		case leads.bars(n) || !wanted(in, n.Name):
			states["excluded"]++
		default:
			states["missing"]++
		}
	}
	for state, n := range states {
		r.gauge(r.nodes, n, state)
	}
}

// bars reports whether a node is not to announce, or cannot.
func (r *reign) bars(n *config.Node) bool {
	return !n.Ready || n.NetworkUnavailable || n.Drain || n.OutOfService || n.ExcludeLB && !r.ignoreExcludeLB || n.Unschedulable && r.drainOnCordon
}

// wanted reports whether some advertisement may choose a node.
func wanted(in *config.Snapshot, node string) bool {
	for _, a := range in.L2Advertisements {
		if a.Nodes.Has(node) {
			return true
		}
	}
	for _, a := range in.BGPAdvertisements {
		if a.Nodes.Has(node) {
			return true
		}
	}
	return false
}

// due counts the writes that are due and not done, by class.
func (d *desk) due() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return map[string]int{"assign": len(d.jobs[assigning]), "keep": len(d.jobs[keeping]), "announce": len(d.jobs[announcing])}
}
