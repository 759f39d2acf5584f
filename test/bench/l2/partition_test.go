package l2

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/lab"
)

// TestPartition cuts two nodes off the other three on the LAN, while the client reaches all of them, and heals that.
func TestPartition(t *testing.T) {
	for _, tt := range []struct {
		long  time.Duration
		times func(runs int) int
	}{
		{10 * time.Second, func(runs int) int { return max(1, runs/4) }},
		{60 * time.Second, func(runs int) int { return max(1, runs/10) }},
	} {
		t.Run(tt.long.String(), func(t *testing.T) {
			s := on(t)
			ips := s.addresses("split", spread)
			healed := s.figure(millis, none, 500, "partition of %s healed: until one node answers for each of %d addresses", tt.long, spread)
			moved := s.figure(count, none, none, "partition of %s healed: addresses that changed hands for those cut off", tt.long)
			outage := s.figure(millis, none, takeoverMost, "partition of %s: a client that reaches both sides waits for", tt.long)
			for i := range tt.times(runs(t)) {
				few := []*lab.Node{s.Nodes[i%len(s.Nodes)], s.Nodes[(i+2)%len(s.Nodes)]}
				s.split(ips, few, tt.long, healed, moved, outage)
			}
		})
	}
}

func (s *stage) split(ips []addr, few []*lab.Node, long time.Duration, healed, moved, outage *figure) {
	s.t.Helper()
	s.t.Cleanup(func() { s.must(s.heal(context.Background(), few)) })
	before := s.owners(ips)
	var at time.Time
	seen := s.watch(ips, load{}, func() {
		s.must(s.part(s.t.Context(), few))
		time.Sleep(long)
		at = time.Now()
		s.must(s.heal(s.t.Context(), few))
		s.settled()
		time.Sleep(calm)
	})
	s.explain(fmt.Sprintf("split of %s and %s", few[0].Name, few[1].Name), seen)
	outage.took(seen.wait())
	after := s.owners(ips)
	changed := 0
	for ip, r := range seen.reports {
		if after[ip] == nil {
			s.t.Errorf("nobody answers for %s", ip)
			continue
		}
		if after[ip] != before[ip] {
			changed++
		}
		last, answers := lastOf(r, s.mac(after[ip]), at)
		if answers == 0 {
			healed.took(0)
			continue
		}
		healed.took(last.Sub(at))
	}
	moved.add(float64(changed))
}

// part lets no frame pass between some nodes and the others; everything else on the LAN is left alone.
func (s *stage) part(ctx context.Context, few []*lab.Node) error {
	var others []string
	for _, n := range s.Nodes {
		if !slices.Contains(few, n) {
			others = append(others, fmt.Sprintf("%q", n.LAN.SwitchIfname()))
		}
	}
	set := "{ " + strings.Join(others, ", ") + " }"
	for _, n := range few {
		if err := n.LAN.Drop(ctx, "oifname "+set, "iifname "+set); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) heal(ctx context.Context, few []*lab.Node) error {
	for _, n := range few {
		if err := n.LAN.Drop(ctx); err != nil {
			return err
		}
	}
	return nil
}
