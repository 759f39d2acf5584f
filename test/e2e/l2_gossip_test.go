package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
)

// TestGossipBlocked lets nothing of the gossip pass to and from the node that answers, while the LAN is whole. Each side believes the other dead;
// both hear each other's claim on the wire, so that one of them gives way. When gossip passes again, one goes on.
func TestGossipBlocked(t *testing.T) {
	s := on(t)
	ip := s.only("ungossiped")
	old := s.Node(s.owner(ip))
	t.Cleanup(func() { s.must(errors.Join(old.LAN.Drop(context.Background()), s.WaitSpeakers(context.Background()))) })
	s.must(old.LAN.Drop(t.Context(), "udp dport 7947", "tcp dport 7947"))
	s.alone(old)
	now := s.owner(ip)
	s.staysWith(ip, now)
	s.must(old.LAN.Drop(t.Context()))
	s.must(s.WaitSpeakers(t.Context()))
	s.owner(ip)
	s.stays("one node answers", quiet, func(ctx context.Context) error { _, err := s.Owner(ctx, ip); return err })
}

// alone waits until a node's speaker sees nobody else, and says so.
func (s *stage) alone(n *lab.Node) {
	s.t.Helper()
	s.eventually(n.Name+" to be alone", func(ctx context.Context) error {
		status, err := s.Speaker(ctx, n.Name)
		if err == nil && (status.Gossip == nil || status.Gossip.Alive > 1) {
			err = fmt.Errorf("it sees %+v", status.Gossip)
		}
		return err
	})
}

// TestPartitionHealed cuts the node that answers off the other nodes, but not off the client: both sides answer. When that is over, one goes on and
// corrects the client's cache.
func TestPartitionHealed(t *testing.T) {
	s := on(t)
	ip := s.only("parted")
	old := s.Node(s.owner(ip))
	t.Cleanup(func() { s.must(errors.Join(old.LAN.Drop(context.Background()), s.WaitSpeakers(context.Background()))) })
	var others []string
	for _, n := range s.Nodes {
		if n != old {
			others = append(others, fmt.Sprintf("%q", n.LAN.SwitchIfname()))
		}
	}
	set := "{ " + strings.Join(others, ", ") + " }"
	s.must(old.LAN.Drop(t.Context(), "oifname "+set, "iifname "+set))
	s.eventually("both sides to answer", func(ctx context.Context) error {
		names, err := s.Answering(ctx, ip)
		if err == nil && len(names) != 2 {
			err = fmt.Errorf("%v answer", names)
		}
		return err
	})
	time.Sleep(quiet)
	var owner string
	heard := s.heard(func() {
		s.must(old.LAN.Drop(t.Context()))
		owner = s.owner(ip)
		s.must(s.WaitSpeakers(t.Context()))
	})
	if owner == old.Name {
		t.Errorf("%s, which was alone, keeps the address from the majority", owner)
	}
	s.staysWith(ip, owner)
	mac, err := scene.MAC(s.Node(owner))
	s.must(err)
	said := false
	for _, a := range heard.Of(ip) {
		said = said || a.MAC.String() == mac
	}
	if !said {
		t.Error("the winner did not correct the neighbours' caches")
	}
}
