package l2

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// TestFalseAlarms waits for ownership changes where nothing is wrong but that the machine is busy, or the network loses packets.
func TestFalseAlarms(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(*stage)
	}{
		{"both cores busy", (*stage).burn},
		{"10 % loss on the gossip port", (*stage).loseGossip},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := on(t)
			ips := s.addresses("soak", 10)
			changes := s.figure(count, none, 0, "%s for %s: changes of owner", tt.name, soak(t))
			gap := s.figure(millis, none, none, "%s for %s: a cold client waits for", tt.name, soak(t))
			tt.harm(s)
			seen := s.watch(ips, load{}, func() { time.Sleep(soak(t)) })
			changes.add(float64(seen.moves()))
			gap.took(seen.wait())
			s.explain(tt.name, seen)
		})
	}
}

// burn keeps every core busy until the end of the test.
func (s *stage) burn() {
	s.t.Helper()
	for range runtime.NumCPU() {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		s.must(cmd.Start())
		s.t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// loseGossip lets each gossip packet and segment be lost with a probability of 10 % on its way to and from each node.
func (s *stage) loseGossip() {
	s.t.Helper()
	const port = 7947
	for _, n := range s.Nodes {
		s.t.Cleanup(func() { s.must(n.LAN.Drop(context.Background())) })
	}
	// On the sending side's port only: each packet meets the lottery once.
	for _, n := range s.Nodes {
		var matches []string
		for _, protocol := range []string{"udp", "tcp"} {
			matches = append(matches, fmt.Sprintf("iifname %q %s dport %d numgen random mod 10 < 1", n.LAN.SwitchIfname(), protocol, port))
		}
		s.must(n.LAN.Drop(s.t.Context(), matches...))
	}
}
