package speaker

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/inspect"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

// node is what the metrics of one node are read from.
type node struct {
	held     []config.L2Holding
	counts   []l2.Count
	sessions []config.Session
	counters map[string]bgp.Counters
	paths    []bfd.Status
	view     *member.View
}

type nodePaths struct{ *node }

func (n *node) Actual() []config.L2Holding        { return n.held }
func (n *node) Counts() []l2.Count                { return n.counts }
func (n *node) Sessions() []config.Session        { return n.sessions }
func (n *node) Counters() map[string]bgp.Counters { return n.counters }
func (n *node) View() *member.View                { return n.view }
func (n nodePaths) Sessions() []bfd.Status        { return n.paths }

func (n *node) metrics(announcements bool) *Metrics {
	return NewMetrics(MetricsOptions{Announcements: announcements, L2: n, BGP: n, BFD: nodePaths{n}, Gossip: n})
}

func expect(t *testing.T, m *Metrics, want string, names ...string) {
	t.Helper()
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func verdict(name, addr string, by decide.Protocol, announce bool) decide.Verdict {
	return decide.Verdict{
		Service: config.Key{Namespace: "default", Name: name}, Addr: netip.MustParseAddr(addr), Protocol: by, Announce: announce,
	}
}

func established(peer string, v4, v6 int) config.Session {
	return config.Session{
		Peer: peer, State: string(bgp.Established), Families: []config.Family{config.IPv4, config.IPv6},
		Advertised: map[config.Family]int{config.IPv4: v4, config.IPv6: v6},
	}
}

// TestAnnouncements checks that what counts as announced was both decided and done.
func TestAnnouncements(t *testing.T) {
	a := netip.MustParseAddr
	n := &node{
		held: []config.L2Holding{
			{Address: a("192.0.2.1"), Interface: "eth0"},
			{Address: a("192.0.2.1"), Interface: "eth1"},
			{Address: a("192.0.2.9"), Interface: "eth0"}, // it was another Service's, and is about to go
			{Address: a("2001:db8::1"), Interface: "eth0"},
		},
		sessions: []config.Session{
			established("r1", 2, 0),
			{Peer: "r2", State: string(bgp.Active), Advertised: map[config.Family]int{config.IPv4: 2}},
			established("r3", 0, 1), // IPv4 is not agreed on, or on its way
		},
	}
	m := n.metrics(true)
	m.take(decide.Desired{
		Verdicts: [][]decide.Verdict{{
			verdict("a", "192.0.2.1", decide.L2, true),
			verdict("a", "192.0.2.1", decide.BGP, true),
			verdict("b", "192.0.2.1", decide.L2, true), // shares it
			verdict("c", "192.0.2.2", decide.L2, true), // is being probed
			verdict("d", "192.0.2.3", decide.L2, false),
			verdict("d", "192.0.2.3", decide.BGP, false), // the route is another's
			verdict("e", "192.0.2.4", decide.BGP, true),  // told to nobody who hears
			verdict("f", "198.51.100.7", decide.BGP, true),
			verdict("g", "2001:db8::1", decide.L2, true),
			verdict("g", "2001:db8::1", decide.BGP, true),
			verdict("h", "2001:db8::2", "", false),
		}},
		Routes: [][]decide.Route{{
			{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Peers: []string{"r1", "r2"}},
			{Prefix: netip.MustParsePrefix("192.0.2.3/32"), Peers: []string{"r1"}},
			{Prefix: netip.MustParsePrefix("192.0.2.4/32"), Peers: []string{"r2", "r3"}},
			{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Peers: []string{"r1"}},
			{Prefix: netip.MustParsePrefix("2001:db8::1/128"), Peers: []string{"r1"}},
		}},
	})
	const sums = `
# HELP herald_announced_addresses Addresses that this node announces, by protocol.
# TYPE herald_announced_addresses gauge
herald_announced_addresses{protocol="ARP"} 2
herald_announced_addresses{protocol="BGP"} 2
herald_announced_addresses{protocol="NDP"} 1
`
	names := []string{"herald_announcement", "herald_announced_addresses"}
	expect(t, m, sums+`
# HELP herald_announcement 1 for each address of a Service that this node announces.
# TYPE herald_announcement gauge
herald_announcement{ip="192.0.2.1",namespace="default",protocol="ARP",service="a"} 1
herald_announcement{ip="192.0.2.1",namespace="default",protocol="BGP",service="a"} 1
herald_announcement{ip="192.0.2.1",namespace="default",protocol="ARP",service="b"} 1
herald_announcement{ip="198.51.100.7",namespace="default",protocol="BGP",service="f"} 1
herald_announcement{ip="2001:db8::1",namespace="default",protocol="NDP",service="g"} 1
`, names...)
	off := n.metrics(false)
	off.take(*m.decided.Load())
	expect(t, off, sums, names...)

	n.held, n.sessions = nil, nil
	expect(t, m, `
# HELP herald_announced_addresses Addresses that this node announces, by protocol.
# TYPE herald_announced_addresses gauge
herald_announced_addresses{protocol="ARP"} 0
herald_announced_addresses{protocol="BGP"} 0
herald_announced_addresses{protocol="NDP"} 0
`, names...)
}

// full is a node of which there is something to say everywhere.
func full() *node {
	return &node{
		counts: []l2.Count{{Interface: "eth0", Protocol: l2.ARP, Requests: 7, Replies: 6, Gratuitous: 5, Conflicts: 4, SendErrors: 1}},
		sessions: []config.Session{
			established("r1", 3, 2),
			{Peer: "r2", State: string(bgp.Active)},
		},
		counters: map[string]bgp.Counters{"r1": {Sent: 9, Received: 8, Refused: 7, Ups: 2, Downs: 1}, "r2": {}},
		paths:    []bfd.Status{{Key: "r1", State: bfd.Up, Ups: 1, Losses: 2, Earlier: bfd.Tally{Ups: 2}}},
		view: &member.View{
			Known: 9, Alive: 6, Awaited: 1, // two are dead, and one that lives has not said anything yet
			Members: []decide.Member{
				{Node: "a"},
				{Node: "b"},
				{Node: "c", State: decide.Draining},
				{Node: "d", State: decide.Restarting},
				{Node: "e", State: decide.Restarting},
				{Node: "f"},
			},
		},
	}
}

func reported() Report {
	a := netip.MustParseAddr("192.0.2.1")
	return Report{
		Conflicts: []config.L2Conflict{{Address: a, Interface: "eth0", MAC: "02:00:00:00:00:01"}, {Address: a, Interface: "eth1", MAC: "02:00:00:00:00:01"}},
		Troubles:  []Trouble{{Reason: "GossipDown"}},
		Node:      []inspect.Trouble{{Reason: "ProxyARP"}, {Reason: "ProxyARP"}},
	}
}

func TestMetrics(t *testing.T) {
	n := full()
	m := n.metrics(true)
	m.hear(reported())
	m.counts.add(decide.TookOver)
	m.stage(stageDecide)()
	for _, f := range []struct {
		name, help string
		series     []string
	}{
		{"herald_bfd_session_transitions_total", "How often BFD saw the path to the peer come up and fail.", []string{`{peer="r1",state="down"} 2`, `{peer="r1",state="up"} 3`}},
		{"herald_bfd_session_up", "Whether BFD sees the path to the peer.", []string{`{peer="r1"} 1`}},
		{"herald_bgp_advertised_prefixes", "Prefixes that the peer was told, by family.", []string{`{family="ipv4",peer="r1"} 3`, `{family="ipv6",peer="r1"} 2`}},
		{"herald_bgp_refused_routes_total", "Routes that the peer offered, all of which are refused.", []string{`{peer="r1"} 7`, `{peer="r2"} 0`}},
		{"herald_bgp_session_transitions_total", "How often the BGP session came up and went down.", []string{
			`{peer="r1",state="down"} 1`, `{peer="r1",state="up"} 2`, `{peer="r2",state="down"} 0`, `{peer="r2",state="up"} 0`,
		}},
		{"herald_bgp_session_up", "Whether the BGP session is established.", []string{`{peer="r1"} 1`, `{peer="r2"} 0`}},
		{"herald_bgp_updates_total", "UPDATE messages sent and received.", []string{
			`{direction="received",peer="r1"} 8`, `{direction="received",peer="r2"} 0`, `{direction="sent",peer="r1"} 9`, `{direction="sent",peer="r2"} 0`,
		}},
		{"herald_gossip_members", "Speakers known to gossip, by state.", []string{`{state="alive"} 4`, `{state="dead"} 2`, `{state="draining"} 1`, `{state="restarting"} 2`}},
		{"herald_l2_conflicting_addresses", "Addresses that a station which is no speaker was lately heard to use.", []string{` 1`}},
		{"herald_l2_conflicts_total", "Frames in which another station claims an address that this node answers for.", []string{`{interface="eth0",protocol="ARP"} 4`}},
		{"herald_l2_gratuitous_total", "Announcements sent unasked.", []string{`{interface="eth0",protocol="ARP"} 5`}},
		{"herald_l2_ownership_changes_total", "How often this node came to answer for an address, by the reason why.", []string{
			`{reason="Elected"} 0`, `{reason="Moved"} 0`, `{reason="Returned"} 0`, `{reason="TookOver"} 1`, `{reason="Won"} 0`,
		}},
		{"herald_l2_replies_total", "Answers to ARP requests and neighbour solicitations.", []string{`{interface="eth0",protocol="ARP"} 6`}},
		{"herald_l2_requests_total", "ARP requests and neighbour solicitations for addresses that this node answers for.", []string{`{interface="eth0",protocol="ARP"} 7`}},
		{"herald_l2_send_errors_total", "Answers and announcements that could not be sent.", []string{`{interface="eth0",protocol="ARP"} 1`}},
		{"herald_speaker_problems", "1 for each thing that is wrong with this speaker or its node, by reason.", []string{`{reason="GossipDown"} 1`, `{reason="ProxyARP"} 1`}},
	} {
		kind := "gauge"
		if strings.HasSuffix(f.name, "_total") {
			kind = "counter"
		}
		text := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, kind)
		for _, s := range f.series {
			text += f.name + s + "\n"
		}
		expect(t, m, text, f.name)
	}
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// TestMetricsOfGoneThings checks that when everything goes that has a name, no series with a name is left.
func TestMetricsOfGoneThings(t *testing.T) {
	n := full()
	m := n.metrics(true)
	m.hear(reported())
	m.take(decide.Desired{Verdicts: [][]decide.Verdict{{verdict("a", "192.0.2.1", decide.L2, true)}}})
	n.held = []config.L2Holding{{Address: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"}}
	before := testutil.CollectAndCount(m)
	*n = node{}
	m.hear(Report{})
	m.take(decide.Desired{})
	// What stays: 3 protocols, 5 reasons of ownership changes, the number of conflicting addresses, 4 histograms.
	if after := testutil.CollectAndCount(m); before <= after || after != 3+5+1+4 {
		t.Errorf("%d series before, %d after; 13 should be left", before, after)
	}
}

// TestMetricsDoNotGrow checks the number of series with 10,000 Services: without announcements it is what it is with none.
func TestMetricsDoNotGrow(t *testing.T) {
	const services = 10_000
	n := full()
	n.sessions = n.sessions[:1]
	desired := decide.Desired{}
	for i := range services {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		var page []decide.Verdict
		for _, by := range []decide.Protocol{decide.L2, decide.BGP} {
			page = append(page, verdict(fmt.Sprint("s", i), a.String(), by, by == decide.BGP || i%5 == 0))
		}
		desired.Verdicts = append(desired.Verdicts, page)
		if i%5 == 0 {
			n.held = append(n.held, config.L2Holding{Address: a, Interface: "eth0"})
		}
		desired.Routes = append(desired.Routes, []decide.Route{{Prefix: netip.PrefixFrom(a, 32), Peers: []string{"r1"}}})
	}
	on, off := n.metrics(true), n.metrics(false)
	none := testutil.CollectAndCount(off)
	off.take(desired)
	on.take(desired)
	if is := testutil.CollectAndCount(off); is != none {
		t.Errorf("%d series, %d without Services, though announcements are off", is, none)
	}
	if is, want := testutil.CollectAndCount(on), none+services+services/5; is != want {
		t.Errorf("%d series, want %d: one for each address on the node that answers for it, and one by BGP", is, want)
	}
}

// TestLoopIsMeasured runs a speaker and looks at what it has measured.
func TestLoopIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		n := &node{}
		m := n.metrics(true)
		opt := w.speaker("n1").opt
		opt.Metrics = m
		s := New(opt)
		w.change(func(w *world) { w.snap = &config.Snapshot{Synced: true, Nodes: []*config.Node{{Name: "n1"}}} })
		for range 3 {
			s.step(time.Now())
			time.Sleep(time.Second)
		}
		if m.decided.Load() == nil || m.reported.Load() == nil {
			t.Error("it was not told what was decided, or reported")
		}
		if got, want := samples(t, m), map[string]uint64{stageRead: 3, stageDecide: 3, stageApply: 3, stageReport: 3}; !maps.Equal(got, want) {
			t.Errorf("measured %v, want %v", got, want)
		}
	})
}

// samples counts how often each stage was measured.
func samples(t *testing.T, m *Metrics) map[string]uint64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "herald_reconcile_duration_seconds" {
			continue
		}
		for _, x := range f.Metric {
			out[x.Label[0].GetValue()] = x.Histogram.GetSampleCount()
		}
	}
	return out
}
