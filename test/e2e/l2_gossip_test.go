package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/probe"
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
	s.settles(ip) // the other side finds out, and takes over, in its own time
	s.must(old.LAN.Drop(t.Context()))
	s.must(s.WaitSpeakers(t.Context()))
	s.settles(ip)
}

// settles waits until one node has answered for an address alone for a while, and returns its name.
func (s *stage) settles(ip netip.Addr) (node string) {
	s.t.Helper()
	s.eventually("one node to go on answering for "+ip.String(), func(ctx context.Context) (err error) {
		if node, err = s.Owner(ctx, ip); err != nil {
			return err
		}
		for end := time.Now().Add(quiet); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if err := s.ownedBy(ctx, ip, node); err != nil {
				return err
			}
		}
		return nil
	})
	return node
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
	s.heard(func(heard *probe.Announcements) {
		s.must(old.LAN.Drop(t.Context()))
		s.must(s.WaitSpeakers(t.Context()))
		owner := s.settles(ip)
		if owner == old.Name {
			t.Errorf("%s, which was alone, keeps the address from the majority", owner)
		}
		mac, err := scene.MAC(s.Node(owner))
		s.must(err)
		if !announcedAt(heard, ip, mac) {
			t.Error("the winner did not correct the neighbours' caches")
		}
	})
}
