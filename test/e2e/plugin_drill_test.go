package e2e

import (
	"encoding/json"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// exercised is a part of what drill prints.
type exercised struct {
	Done  bool
	NoARP string
	Legs  []struct {
		What, Trouble        string
		Connects, Failed     int
		OutageMilliseconds   int64
		ArpAnsweredBy        []string
		ReportedAfterSeconds float64
	}
	MedianMilliseconds, LongestMilliseconds int64
}

// drill runs a drill on the LAN, and checks that something was measured.
func (s *stage) drill(args ...string) exercised {
	s.t.Helper()
	got, err := s.pluginOnLAN(s.t.Context(), slices.Concat([]string{"drill"}, args, []string{"-y", "-o", "json"})...)
	s.must(err)
	var r exercised
	if err := json.Unmarshal([]byte(got.out), &r); err != nil || got.status != 0 || !r.Done {
		s.t.Fatalf("drill %v ended with %d, %v: %s%s", args, got.status, err, got.out, got.err)
	}
	for _, l := range r.Legs {
		s.t.Logf("%s: %d of %d connects failed, outage %d ms, reported after %.1f s, ARP by %v", l.What, l.Failed, l.Connects, l.OutageMilliseconds, l.ReportedAfterSeconds, l.ArpAnsweredBy)
		if l.Connects == 0 {
			s.t.Errorf("%s: nothing was measured", l.What)
		}
	}
	if r.LongestMilliseconds > takeover.Milliseconds() {
		s.t.Errorf("the outage was %d ms", r.LongestMilliseconds)
	}
	return r
}

// TestPluginDrill measures the failovers that an operator can ask for. Afterwards everything is as it was.
func TestPluginDrill(t *testing.T) {
	s := on(t)
	ip := s.only("drilled")
	s.reached(ip)
	owner := s.owner(ip)
	r := s.drill("l2", "drilled")
	if len(r.Legs) != 2 || r.NoARP != "" || len(r.Legs[0].ArpAnsweredBy) == 0 {
		t.Errorf("there and back by ARP: %+v", r)
	}
	s.moves(ip, owner)

	s.create("drilled-bgp", scene.SingleStack(corev1.IPv4Protocol), scene.FromPool("routed"))
	_, ips := s.announced("drilled-bgp")
	s.routed(ips[0], s.allNodes()...)
	s.reached(ips[0])
	r = s.drill("bgp", "drilled-bgp", "--node=node-2")
	if len(r.Legs) != 2 || r.Legs[0].What != "drain node-2" {
		t.Errorf("drained, and not: %+v", r)
	}
	s.routed(ips[0], s.allNodes()...)
}
