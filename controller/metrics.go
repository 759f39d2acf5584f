package controller

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/controller/ipam"
)

// Metrics is what the controller measures, a prometheus.Collector. Gauges are computed at the scrape from the last plan, so those of things
// that are gone are gone; a replica that does not lead has none but herald_leader. Make it with NewMetrics.
type Metrics struct {
	view   atomic.Pointer[view]
	reign  atomic.Pointer[reign]
	mu     sync.Mutex
	counts map[assignment]uint64

	took     prometheus.Histogram
	duration *prometheus.HistogramVec
	descs
}

// view is a snapshot with the plan made from it.
type view struct {
	in   *config.Snapshot
	plan *ipam.Plan
}

// reign is what can only be said while this replica leads.
type reign struct {
	desk            *desk
	ignoreExcludeLB bool
	drainOnCordon   bool
}

// assignment is an outcome that is counted: an address of a pool was assigned, or a Service was refused for a reason.
type assignment struct{ pool, result string }

const assigned = "assigned"

// Stages of the leader's loop.
const (
	stagePlan     = "plan"     // from the snapshot to the writes that are due
	stageAnnounce = "announce" // the Announced conditions are worked out
)

// descs describe the metrics that are computed at the scrape.
type descs struct{ leader, allocations, pool, services, announced, nodes, pending *prometheus.Desc }

// NewMetrics returns metrics that are not registered anywhere yet.
func NewMetrics() *Metrics {
	m := &Metrics{
		counts: make(map[assignment]uint64),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "herald_allocation_duration_seconds",
			Help:    "Time from when a Service was seen to need an address until its status was written.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 14),
		}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "herald_reconcile_duration_seconds",
			Help:    "Time that a stage of the loop took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}, []string{"stage"}),
		descs: newDescs(),
	}
	m.duration.WithLabelValues(stagePlan)
	m.duration.WithLabelValues(stageAnnounce)
	return m
}

func newDescs() descs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return descs{
		leader:      desc("herald_leader", "Whether this replica leads."),
		allocations: desc("herald_allocations_total", "Addresses assigned, by pool, and assignments refused (pool is empty), by reason.", "pool", "result"),
		pool:        desc("herald_pool_addresses", "Addresses of a pool, by family and state.", "pool", "family", "state"),
		services:    desc("herald_services", "Services handled, by the reason of their Allocated condition.", "state"),
		announced:   desc("herald_announced_services", "Services that have an address, by the reason of their Announced condition.", "state"),
		nodes:       desc("herald_nodes", "Nodes, by what is known of their speaker.", "state"),
		pending:     desc("herald_pending_writes", "Writes to Services that are due and not done, by class.", "class"),
	}
}

// stage begins to measure a stage and returns what ends it. A nil Metrics measures nothing.
func (m *Metrics) stage(name string) (end func()) {
	if m == nil {
		return func() {}
	}
	began := time.Now()
	return func() { m.duration.WithLabelValues(name).Observe(time.Since(began).Seconds()) }
}

// lead is called when this replica begins to lead.
func (m *Metrics) lead(r *reign) { m.reign.Store(r) }

// forget is called when this replica no longer leads.
func (m *Metrics) forget() {
	m.reign.Store(nil)
	m.view.Store(nil)
}

// publish takes in the last plan. What was counted for a pool that is gone is forgotten.
func (m *Metrics) publish(in *config.Snapshot, plan *ipam.Plan) {
	m.view.Store(&view{in, plan})
	m.mu.Lock()
	defer m.mu.Unlock()
	for a := range m.counts {
		if _, ok := plan.Pools[a.pool]; !ok && a.pool != "" {
			delete(m.counts, a)
		}
	}
	for pool := range plan.Pools {
		if _, ok := m.counts[assignment{pool, assigned}]; !ok {
			m.counts[assignment{pool, assigned}] = 0 // so that the first is seen as an increase
		}
	}
}

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
	m.mu.Lock()
	defer m.mu.Unlock()
	some := false
	for i, a := range o.Addresses {
		if !slices.Contains(o.Service.Ingress, a) {
			some = true
			m.counts[assignment{o.Pools[i], assigned}]++
		}
	}
	if some {
		m.took.Observe(took.Seconds())
	}
	if was := o.Service.Allocated; o.Allocated.Status == "False" && (was.Status != "False" || was.Reason != o.Allocated.Reason) {
		m.counts[assignment{"", o.Allocated.Reason}]++
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.took.Describe(ch)
	m.duration.Describe(ch)
	for _, d := range []*prometheus.Desc{m.leader, m.allocations, m.pool, m.services, m.announced, m.nodes, m.pending} {
		ch <- d
	}
}
