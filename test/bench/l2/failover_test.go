package l2

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab"
)

// What is promised of a hard failure, in milliseconds.
const (
	takeoverMedian = 400
	takeoverMost   = 750
)

// warm is the load of a client that has used the address before.
func warm() load { return load{connections: 100} }

// TestSpeakerKilled kills the speaker that answers. The kubelet starts it again, so the address may stay or move; a client that knows the way
// notices nothing, as the node forwards.
func TestSpeakerKilled(t *testing.T) {
	s := on(t)
	ip := s.addresses("killed", 1)[0]
	gap := s.figure(millis, takeoverMedian, takeoverMost, "speaker kill -9: a cold client waits for")
	lost := s.figure(count, 0, 0, "speaker kill -9: connections of a warm client that failed")
	moved := s.figure(count, none, none, "speaker kill -9: times that the address moved")
	for range runs(t) {
		old := s.owner(ip)
		seen := s.watch(one(ip), warm(), func() {
			before, err := old.Kubelet().Find(s.Namespace, s.Name("speaker"), "")
			s.must(err)
			s.signalSpeaker(old, unix.SIGKILL)
			s.eventually("the speaker to run again", func(context.Context) error {
				now, err := old.Kubelet().Find(s.Namespace, s.Name("speaker"), "")
				if err == nil && now.PID == before.PID {
					err = errors.New("it has not died")
				}
				return err
			})
			s.owner(ip)
			time.Sleep(2 * calm)
		})
		gap.took(seen.wait())
		_, failed := seen.connected()
		lost.add(float64(failed))
		moved.add(float64(seen.moves()))
		s.explain("killed", seen)
		s.settled()
	}
}

// TestLinkCut pulls the LAN cable of the node that answers, and plugs it in again.
func TestLinkCut(t *testing.T) {
	on(t).failover("node's link cut", failure{
		harm: func(s *stage, n *lab.Node) { s.must(n.LAN.Cut()) },
		mend: func(s *stage, n *lab.Node) { s.must(n.LAN.Restore()) },
	})
}

// TestNodeHung lets a node fall silent whose carrier stays.
func TestNodeHung(t *testing.T) {
	on(t).failover("node silent, its carrier stays", failure{
		harm: func(s *stage, n *lab.Node) { s.must(errors.Join(n.LAN.Block(), n.Mgmt.Block())) },
		mend: func(s *stage, n *lab.Node) { s.must(errors.Join(n.LAN.Unblock(), n.Mgmt.Unblock())) },
	})
}

// TestNodeFrozen stops every process of the node that answers; its kernel goes on.
func TestNodeFrozen(t *testing.T) {
	on(t).failover("node frozen (SIGSTOP)", failure{
		harm: func(s *stage, n *lab.Node) { s.signalAll(n, unix.SIGSTOP) },
		mend: func(s *stage, n *lab.Node) { s.signalAll(n, unix.SIGCONT) },
	})
}

// TestNodeOff takes the power from the node that answers: no process, no carrier.
func TestNodeOff(t *testing.T) {
	on(t).failover("node without power", failure{
		harm: func(s *stage, n *lab.Node) { s.must(n.PowerOff()) },
		mend: func(s *stage, n *lab.Node) { s.must(n.PowerOn()) },
	})
}

// failure is what happens to a node, and how it ends.
type failure struct{ harm, mend func(*stage, *lab.Node) }

// failover measures what a failure of the node that answers costs, and what its return changes.
func (s *stage) failover(what string, f failure) {
	s.t.Helper()
	ip := s.addresses("failing", 1)[0]
	first := s.figure(millis, takeoverMedian, takeoverMost, "%s: the new owner answers after", what)
	outage := s.figure(millis, none, takeoverMost, "%s: a warm client has no new connection for", what)
	silent := s.figure(millis, none, none, "%s, then back: the old owner answers for", what)
	moved := s.figure(count, 0, 0, "%s, then back: addresses that move", what)
	for range runs(s.t) {
		s.once(ip, f, first, outage, silent, moved)
	}
}

func (s *stage) once(ip addr, f failure, first, outage, silent, moved *figure) {
	s.t.Helper()
	old := s.owner(ip)
	var harmed time.Time
	s.t.Cleanup(func() {
		if s.t.Failed() {
			f.mend(s, old)
		}
	})
	seen := s.watch(one(ip), warm(), func() {
		harmed = time.Now()
		f.harm(s, old)
		s.another(ip, old)
		time.Sleep(calm)
	})
	s.explain("failed", seen)
	if at := firstBy(seen.reports[ip], s.mac(old), harmed); !at.IsZero() {
		first.took(at.Sub(harmed))
	}
	outage.took(seen.outage())

	owner := s.owner(ip)
	var mended time.Time
	back := s.watch(one(ip), load{}, func() {
		mended = time.Now()
		f.mend(s, old)
		s.settled()
		time.Sleep(calm)
	})
	s.explain("back", back)
	if last, answers := lastOf(back.reports[ip], s.mac(owner), mended); answers > 0 {
		silent.took(last.Sub(mended))
	} else {
		silent.took(0)
	}
	if now := s.owner(ip); now != owner {
		moved.add(1)
	} else {
		moved.add(0)
	}
}
