package controller

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/controller/ipam"
)

// Metrics is what the controller measures, a prometheus.Collector. Gauges are computed at the scrape from the last plan, so those of things
// that are gone are gone; a replica that does not lead has none. Make it with NewMetrics.
type Metrics struct {
	view        atomic.Pointer[view]
	allocations *prometheus.CounterVec
	duration    prometheus.Histogram
	pool        *prometheus.Desc
	services    *prometheus.Desc
	problems    *prometheus.Desc
}

// view is a snapshot with the plan made from it.
type view struct {
	in   *config.Snapshot
	plan *ipam.Plan
}

// NewMetrics returns metrics that are not registered anywhere yet.
func NewMetrics() *Metrics {
	return &Metrics{
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "herald_allocations_total",
			Help: "Addresses assigned, by pool, and assignments refused (pool is empty), by reason.",
		}, []string{"pool", "result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_allocation_duration_seconds",
			Help:    "Time from when a Service was seen to need an address until its status was written.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		pool:     prometheus.NewDesc("herald_pool_addresses", "Addresses of a pool, by family and state.", []string{"pool", "family", "state"}, nil),
		services: prometheus.NewDesc("herald_services", "Services handled, by the reason of their Allocated condition.", []string{"state"}, nil),
		problems: prometheus.NewDesc("herald_config_problems", "Problems found in config objects, by kind.", []string{"kind"}, nil),
	}
}

// publish takes in the last plan. What was counted for a pool that is gone is forgotten.
func (m *Metrics) publish(in *config.Snapshot, plan *ipam.Plan) {
	last := m.view.Swap(&view{in, plan})
	if last == nil {
		return
	}
	for name := range last.plan.Pools {
		if _, ok := plan.Pools[name]; !ok {
			m.allocations.DeletePartialMatch(prometheus.Labels{"pool": name})
		}
	}
}

// forget is called when this replica no longer leads.
func (m *Metrics) forget() { m.view.Store(nil) }

// pools returns how full the pools are by the last plan, nil before the first.
func (m *Metrics) pools() map[string]config.PoolStatus {
	v := m.view.Load()
	if v == nil {
		return nil
	}
	return v.plan.Pools
}

// wrote counts an outcome that has been written.
func (m *Metrics) wrote(o *ipam.Outcome, took time.Duration) {
	assigned := false
	for i, a := range o.Addresses {
		if !slices.Contains(o.Service.Ingress, a) {
			assigned = true
			m.allocations.WithLabelValues(o.Pools[i], "assigned").Inc()
		}
	}
	if assigned {
		m.duration.Observe(took.Seconds())
	}
	if was := o.Service.Allocated; o.Allocated.Status == "False" && (was.Status != "False" || was.Reason != o.Allocated.Reason) {
		m.allocations.WithLabelValues("", o.Allocated.Reason).Inc()
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.allocations.Describe(ch)
	m.duration.Describe(ch)
	ch <- m.pool
	ch <- m.services
	ch <- m.problems
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.allocations.Collect(ch)
	m.duration.Collect(ch)
	v := m.view.Load()
	if v == nil {
		return
	}
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for _, name := range slices.Sorted(maps.Keys(v.plan.Pools)) {
		s := v.plan.Pools[name]
		for family, c := range map[string]config.PoolCounts{"ipv4": s.IPv4, "ipv6": s.IPv6} {
			for state, n := range map[string]int64{"total": c.Total, "assigned": c.Assigned, "available": c.Available, "reserved": c.Reserved} {
				gauge(m.pool, n, name, family, state)
			}
		}
	}
	states := make(map[string]int64)
	for i := range v.plan.Services {
		state := v.plan.Services[i].Allocated.Reason
		if v.plan.Services[i].Service.Deleting {
			state = "Deleting"
		}
		states[state]++
	}
	for state, n := range states {
		gauge(m.services, n, state)
	}
	problems := make(map[string]int64)
	for _, p := range v.in.Problems {
		problems[p.Kind]++
	}
	for kind, n := range problems {
		gauge(m.problems, n, kind)
	}
}
