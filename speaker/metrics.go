package speaker

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

// Metrics is what a speaker measures, a prometheus.Collector. But for how long the stages of the loop take, everything is read from the rooms
// when it is asked for, so that the series of things that are gone are gone. Make it with NewMetrics, and give it to the Speaker.
type Metrics struct {
	opt      MetricsOptions
	decided  atomic.Pointer[decide.Desired] // by the loop last; nil before
	reported atomic.Pointer[Report]         // likewise
	counts   tally
	duration *prometheus.HistogramVec
	descs
}

// MetricsOptions says where the numbers come from. All fields but Announcements are required.
type MetricsOptions struct {
	Announcements bool // a series for each address of a Service that this node announces
	L2            interface {
		Actual() []config.L2Holding
		Counts() []l2.Count
	}
	BGP interface {
		Sessions() []config.Session
		Counters() map[string]bgp.Counters
	}
	BFD    interface{ Sessions() []bfd.Status }
	Gossip interface{ View() *member.View }
}

// Stages of the owner loop.
const (
	stageRead   = "read"   // what the cluster asks for is parsed, if it changed
	stageDecide = "decide" // what this node is to do is worked out
	stageApply  = "apply"  // the parts of it are handed out
	stageReport = "report" // what is to be reported is put together
)

// descs describe the metrics that are read.
type descs struct {
	announced, announcement                          *prometheus.Desc
	requests, replies, gratuitous, conflicts, errors *prometheus.Desc
	conflicting, changes                             *prometheus.Desc
	members, problems                                *prometheus.Desc
	sessionUp, sessionTransitions, advertised        *prometheus.Desc
	updates, refused                                 *prometheus.Desc
	pathUp, pathTransitions                          *prometheus.Desc
}

// NewMetrics returns metrics that are not registered anywhere yet.
func NewMetrics(opt MetricsOptions) *Metrics {
	m := &Metrics{opt: opt, counts: newTally(), descs: newDescs()}
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "herald_reconcile_duration_seconds",
		Help:    "Time that a stage of the loop took.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
	}, []string{"stage"})
	for _, stage := range []string{stageRead, stageDecide, stageApply, stageReport} {
		m.duration.WithLabelValues(stage)
	}
	return m
}

func newDescs() descs {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return descs{
		announced:    desc("herald_announced_addresses", "Addresses that this node announces, by protocol.", "protocol"),
		announcement: desc("herald_announcement", "1 for each address of a Service that this node announces.", "namespace", "service", "ip", "protocol"),

		requests:    desc("herald_l2_requests_total", "ARP requests and neighbour solicitations for addresses that this node answers for.", "interface", "protocol"),
		replies:     desc("herald_l2_replies_total", "Answers to ARP requests and neighbour solicitations.", "interface", "protocol"),
		gratuitous:  desc("herald_l2_gratuitous_total", "Announcements sent unasked.", "interface", "protocol"),
		conflicts:   desc("herald_l2_conflicts_total", "Frames in which another station claims an address that this node answers for.", "interface", "protocol"),
		errors:      desc("herald_l2_send_errors_total", "Answers and announcements that could not be sent.", "interface", "protocol"),
		conflicting: desc("herald_l2_conflicting_addresses", "Addresses that a station which is no speaker was lately heard to use."),
		changes:     desc("herald_l2_ownership_changes_total", "How often this node came to answer for an address, by the reason why.", "reason"),

		members:  desc("herald_gossip_members", "Speakers known to gossip, by state.", "state"),
		problems: desc("herald_speaker_problems", "1 for each thing that is wrong with this speaker or its node, by reason.", "reason"),

		sessionUp:          desc("herald_bgp_session_up", "Whether the BGP session is established.", "peer"),
		sessionTransitions: desc("herald_bgp_session_transitions_total", "How often the BGP session came up and went down.", "peer", "state"),
		advertised:         desc("herald_bgp_advertised_prefixes", "Prefixes that the peer was told, by family.", "peer", "family"),
		updates:            desc("herald_bgp_updates_total", "UPDATE messages sent and received.", "peer", "direction"),
		refused:            desc("herald_bgp_refused_routes_total", "Routes that the peer offered, all of which are refused.", "peer"),
		pathUp:             desc("herald_bfd_session_up", "Whether BFD sees the path to the peer.", "peer"),
		pathTransitions:    desc("herald_bfd_session_transitions_total", "How often BFD saw the path to the peer come up and fail.", "peer", "state"),
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

// take remembers what was decided last. The parts of a decision are never changed afterwards.
func (m *Metrics) take(d decide.Desired) {
	if m != nil {
		m.decided.Store(&d)
	}
}

// hear remembers what was reported last.
func (m *Metrics) hear(r Report) {
	if m != nil {
		m.reported.Store(&r)
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.duration.Describe(ch)
	for _, d := range []*prometheus.Desc{
		m.announced, m.announcement, m.requests, m.replies, m.gratuitous, m.conflicts, m.errors, m.conflicting, m.changes, m.members, m.problems,
		m.sessionUp, m.sessionTransitions, m.advertised, m.updates, m.refused, m.pathUp, m.pathTransitions,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.duration.Collect(ch)
	r := reader{m, ch}
	r.announcements()
	r.layer2()
	r.gossip()
	r.trouble()
	r.sessions()
	r.paths()
}

// reader reads the rooms for one scrape.
type reader struct {
	*Metrics
	ch chan<- prometheus.Metric
}

func (r reader) gauge(d *prometheus.Desc, n int, labels ...string) {
	r.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
}

func (r reader) count(d *prometheus.Desc, n uint64, labels ...string) {
	r.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
}

func (r reader) layer2() {
	for _, n := range r.opt.L2.Counts() {
		labels := []string{n.Interface, string(n.Protocol)}
		r.count(r.requests, n.Requests, labels...)
		r.count(r.replies, n.Replies, labels...)
		r.count(r.gratuitous, n.Gratuitous, labels...)
		r.count(r.conflicts, n.Conflicts, labels...)
		r.count(r.errors, n.SendErrors, labels...)
	}
	for reason, n := range r.counts.all() {
		r.count(r.changes, n, string(reason))
	}
}

// gossip counts each speaker once.
func (r reader) gossip() {
	view := r.opt.Gossip.View()
	if view == nil {
		return
	}
	states := map[decide.State]int{}
	for _, m := range view.Members {
		states[m.State]++
	}
	dead := view.Known - view.Alive - view.Awaited
	r.gauge(r.members, dead, "dead")
	r.gauge(r.members, states[decide.Draining], decide.Draining.String())
	r.gauge(r.members, states[decide.Restarting], decide.Restarting.String())
	r.gauge(r.members, view.Known-dead-states[decide.Draining]-states[decide.Restarting], "alive")
}

func (r reader) trouble() {
	rep := r.reported.Load()
	if rep == nil {
		return
	}
	addresses := map[string]bool{}
	for _, c := range rep.Conflicts {
		addresses[c.Address.String()] = true
	}
	r.gauge(r.conflicting, len(addresses))
	reasons := map[string]bool{}
	for _, t := range rep.Troubles {
		reasons[t.Reason] = true
	}
	for _, t := range rep.Node {
		reasons[t.Reason] = true
	}
	for reason := range reasons {
		r.gauge(r.problems, 1, reason)
	}
}

func (r reader) sessions() {
	for _, s := range r.opt.BGP.Sessions() {
		r.gauge(r.sessionUp, truth(s.State == string(bgp.Established)), s.Peer)
		for _, f := range s.Families {
			r.gauge(r.advertised, s.Advertised[f], s.Peer, strings.ToLower(f.String()))
		}
	}
	for peer, n := range r.opt.BGP.Counters() {
		r.count(r.sessionTransitions, n.Ups, peer, "up")
		r.count(r.sessionTransitions, n.Downs, peer, "down")
		r.count(r.updates, n.Sent, peer, "sent")
		r.count(r.updates, n.Received, peer, "received")
		r.count(r.refused, n.Refused, peer)
	}
}

func (r reader) paths() {
	for _, s := range r.opt.BFD.Sessions() {
		r.gauge(r.pathUp, truth(s.State == bfd.Up), s.Key)
		r.count(r.pathTransitions, s.Earlier.Ups+s.Ups, s.Key, "up")
		r.count(r.pathTransitions, s.Earlier.Losses+s.Losses, s.Key, "down")
	}
}

// truth is 1 for true, 0 for false.
func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
