package main

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
)

// metrics are read from the rooms when they are asked for, so series of what is gone disappear by themselves.
type metrics struct {
	announced, members, problems             *prometheus.Desc
	requests, replies, gratuitous, conflicts *prometheus.Desc
	sessionUp, advertised                    *prometheus.Desc
	changes                                  *prometheus.Desc
	transitions, updates                     *prometheus.Desc
	pathUp, pathTransitions                  *prometheus.Desc
}

func newMetrics() metrics {
	return metrics{
		announced:       desc("herald_announced_addresses", "Addresses that this node announces.", "protocol"),
		members:         desc("herald_gossip_members", "Speakers known to gossip, by state.", "state"),
		problems:        desc("herald_config_problems", "Objects with something wrong.", "kind"),
		requests:        desc("herald_l2_requests_total", "ARP requests and neighbour solicitations for announced addresses.", "interface", "protocol"),
		replies:         desc("herald_l2_replies_total", "Answers to them.", "interface", "protocol"),
		gratuitous:      desc("herald_l2_gratuitous_total", "Unasked announcements.", "interface", "protocol"),
		conflicts:       desc("herald_l2_conflicts_total", "Claims by others of addresses that this node announces.", "interface", "protocol"),
		changes:         desc("herald_l2_ownership_changes_total", "How often this node came to answer for an address, by the reason why.", "reason"),
		transitions:     desc("herald_bgp_session_transitions_total", "How often the session came up or went down.", "peer", "state"),
		updates:         desc("herald_bgp_updates_total", "UPDATE messages sent and received.", "peer", "direction"),
		pathUp:          desc("herald_bfd_session_up", "Whether BFD sees the path to the peer.", "peer"),
		pathTransitions: desc("herald_bfd_session_transitions_total", "How often BFD saw the path come up or fail.", "peer", "state"),
		sessionUp:       desc("herald_bgp_session_up", "Whether the BGP session is established.", "peer"),
		advertised:      desc("herald_bgp_advertised_prefixes", "Prefixes that the peer was told.", "peer", "family"),
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// collector reads the rooms.
type collector struct {
	*rooms
	metrics
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.announced, c.members, c.problems, c.requests, c.replies, c.gratuitous, c.conflicts, c.sessionUp, c.advertised, c.changes,
		c.transitions, c.updates, c.pathUp, c.pathTransitions,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	holdings := map[string]int{"ARP": 0, "NDP": 0}
	for _, h := range c.l2.Actual() {
		if config.FamilyOf(h.Address) == config.IPv4 {
			holdings["ARP"]++
		} else {
			holdings["NDP"]++
		}
	}
	for protocol, n := range holdings {
		gauge(c.announced, n, protocol)
	}
	for _, n := range c.l2.Counts() {
		labels := []string{n.Interface, string(n.Protocol)}
		count(c.requests, n.Requests, labels...)
		count(c.replies, n.Replies, labels...)
		count(c.gratuitous, n.Gratuitous, labels...)
		count(c.conflicts, n.Conflicts, labels...)
	}
	for reason, n := range c.speaker.OwnershipChanges() {
		count(c.changes, n, string(reason))
	}
	if view := c.gossip.View(); view != nil {
		gauge(c.members, view.Alive, "alive")
		gauge(c.members, view.Known-view.Alive, "dead")
	}
	wrong := map[string]int{}
	for _, p := range c.source.Snapshot().Problems {
		wrong[p.Kind]++
	}
	for kind, n := range wrong {
		gauge(c.problems, n, kind)
	}
	c.sessions(gauge)
	c.histories(count)
	c.paths(gauge, count)
}

// histories reports what the BGP sessions of this node have been through.
func (c collector) histories(count func(*prometheus.Desc, uint64, ...string)) {
	for peer, n := range c.bgp.Counters() {
		count(c.transitions, n.Ups, peer, "up")
		count(c.transitions, n.Downs, peer, "down")
		count(c.updates, n.Sent, peer, "sent")
		count(c.updates, n.Received, peer, "received")
	}
}

// paths reports those that BFD watches.
func (c collector) paths(gauge func(*prometheus.Desc, int, ...string), count func(*prometheus.Desc, uint64, ...string)) {
	for _, s := range c.bfd.Sessions() {
		up := 0
		if s.State == bfd.Up {
			up = 1
		}
		gauge(c.pathUp, up, s.Key)
		count(c.pathTransitions, s.Ups, s.Key, "up")
		count(c.pathTransitions, s.Losses, s.Key, "down")
	}
}

// sessions reports those that this node holds.
func (c collector) sessions(gauge func(*prometheus.Desc, int, ...string)) {
	routes := map[config.Family]int{} // every peer may be told something else; the most told one comes nearest
	for _, s := range c.bgp.Sessions() {
		up := 0
		if s.State == "Established" {
			up = 1
		}
		gauge(c.sessionUp, up, s.Peer)
		for _, f := range s.Families {
			gauge(c.advertised, s.Advertised[f], s.Peer, strings.ToLower(f.String()))
			routes[f] = max(routes[f], s.Advertised[f])
		}
	}
	gauge(c.announced, routes[config.IPv4]+routes[config.IPv6], "BGP")
}
