package kube

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
)

// Metrics is what both daemons measure of what they read and write, a prometheus.Collector. All is read from the Source and the Client when
// it is asked for.
type Metrics struct {
	client     *Client
	source     *Source
	generation *prometheus.Desc
	problems   *prometheus.Desc
	connected  *prometheus.Desc
	writes     *prometheus.Desc
}

// NewMetrics returns metrics that are not registered anywhere yet.
func NewMetrics(client *Client, source *Source) *Metrics {
	return &Metrics{
		client: client, source: source,
		generation: prometheus.NewDesc("herald_config_generation",
			"Sum of the generations of all config objects read: equal in daemons that see the same configuration.", nil, nil),
		problems:  prometheus.NewDesc("herald_config_problems", "Problems found in config objects, by kind.", []string{"kind"}, nil),
		connected: prometheus.NewDesc("herald_api_connected", "Whether everything read from the API server is being watched.", nil, nil),
		writes:    prometheus.NewDesc("herald_api_writes_total", "Write requests to the API server, by kind of object and result.", []string{"kind", "result"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.generation, m.problems, m.connected, m.writes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	in := m.source.Snapshot()
	gauge(m.generation, float64(generation(in)))
	wrong := make(map[string]int)
	for _, p := range in.Problems {
		wrong[p.Kind]++
	}
	for kind, n := range wrong {
		gauge(m.problems, float64(n), kind)
	}
	connected := 0.0
	if in.Synced && m.source.Err() == nil {
		connected = 1
	}
	gauge(m.connected, connected)
	m.collectWrites(ch)
}

// collectWrites tells of each kind that was ever written all results, those that have not been seen with 0: a rate needs something to begin from.
func (m *Metrics) collectWrites(ch chan<- prometheus.Metric) {
	writes := m.client.Writes()
	kinds := make(map[string]bool)
	for w := range writes {
		kinds[w.Kind] = true
	}
	for kind := range kinds {
		for _, result := range []string{WriteOK, WriteConflict, WriteGone, WriteError} {
			ch <- prometheus.MustNewConstMetric(m.writes, prometheus.CounterValue, float64(writes[Write{kind, result}]), kind, result)
		}
	}
}

// generation adds up what has been asked for. IPReservations are left out: speakers do not read them.
func generation(in *config.Snapshot) int64 {
	var sum int64
	for _, o := range in.Objects {
		if o.Kind != parse.KindReservation {
			sum += o.Generation
		}
	}
	return sum
}
