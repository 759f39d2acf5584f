package l2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab"
)

type addr = netip.Addr

func one(ip addr) []addr { return []addr{ip} }

// busy is the traffic under which planned changes are made.
func busy() load { return load{connections: 200, streams: 32} }

// spread is so many addresses that each node is likely to answer for some.
const spread = 15

// planned are the figures of a change that nobody is to notice.
type planned struct{ gap, failed, broken, moved *figure }

func (s *stage) planned(what string) planned {
	return planned{
		gap:    s.figure(millis, none, 100, "%s: a cold client waits for", what),
		failed: s.figure(count, none, 0, "%s: of 200 new connections/s, failed", what),
		broken: s.figure(count, none, 0, "%s: of 32 streams, broken", what),
		moved:  s.figure(count, none, 0, "%s: moves of %d addresses", what, spread),
	}
}

func (p planned) add(s *stage, what string, seen sight) {
	tried, failed := seen.connected()
	streams, broken := seen.broken()
	p.gap.took(seen.wait())
	p.failed.add(float64(failed))
	p.broken.add(float64(broken))
	p.moved.add(float64(seen.moves()))
	s.explain(what, seen)
	s.t.Logf("%s: %d connections, %d failed; %d streams, %d broken; longest time without an answer %s", what, tried, failed, streams, broken, round(seen.wait()))
}

// TestRestart restarts the speakers in place, one after another.
func TestRestart(t *testing.T) {
	s := on(t)
	ips := s.addresses("restart", spread)
	p := s.planned("speaker restarted in place")
	for i := range runs(t) {
		n := s.Nodes[i%len(s.Nodes)]
		seen := s.watch(ips, busy(), func() { s.restart(n) })
		p.add(s, "restart of "+n.Name, seen)
		s.settled()
	}
}

// restart ends a speaker as a kubelet does that starts its container again, and waits until it works.
func (s *stage) restart(n *lab.Node) {
	s.t.Helper()
	before, err := n.Kubelet().Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	s.signalSpeaker(n, unix.SIGTERM)
	s.eventually("the speaker to run again", func(context.Context) error {
		now, err := n.Kubelet().Find(s.Namespace, s.Name("speaker"), "")
		if err == nil && now.PID == before.PID {
			err = errors.New("it has not ended")
		}
		return err
	})
	time.Sleep(2 * calm)
	s.settled()
}

// TestUpgrade lets Helm replace all speakers in turn.
func TestUpgrade(t *testing.T) {
	s := on(t)
	ips := s.addresses("upgrade", spread)
	p := s.planned("Helm upgrade of all nodes")
	for i := range max(1, runs(t)/len(s.Nodes)) {
		seen := s.watch(ips, busy(), func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			s.must(s.HelmUpgrade(ctx, s.Release, s.Namespace, fmt.Sprintf("speaker: {podAnnotations: {bench: %q}}", time.Now().Format(time.RFC3339Nano))))
			s.settled()
			time.Sleep(2 * calm)
		})
		p.add(s, fmt.Sprintf("upgrade %d", i+1), seen)
	}
}

// TestDrain taints the nodes one after another, and takes the taint away again.
func TestDrain(t *testing.T) {
	s := on(t)
	ips := s.addresses("drain", spread)
	gap := s.figure(millis, none, 100, "drain (taint): a cold client waits for")
	took := s.figure(millis, none, none, "drain (taint): until the last address has moved")
	failed := s.figure(count, none, 0, "drain (taint): of 200 new connections/s, failed")
	stayed := s.figure(count, none, 0, "drain (taint): addresses that stay on the node")
	back := s.figure(count, none, 0, "drain (taint) ended: addresses that move")
	for i := range runs(t) {
		n := s.Nodes[i%len(s.Nodes)]
		own := s.owned(n, ips)
		var tainted time.Time
		seen := s.watch(ips, load{connections: 200}, func() {
			tainted = time.Now()
			s.taint(n, "heraldlb.io/drain=bench:NoSchedule")
			time.Sleep(2 * calm)
		})
		s.explain("drain of "+n.Name, seen)
		_, lost := seen.connected()
		failed.add(float64(lost))
		gap.took(seen.wait())
		stayed.add(float64(len(s.owned(n, ips))))
		for _, ip := range own {
			if at := firstBy(seen.reports[ip], s.mac(n), tainted); !at.IsZero() {
				took.took(at.Sub(tainted))
			}
		}
		returned := s.watch(ips, load{}, func() {
			s.taint(n, "heraldlb.io/drain-")
			time.Sleep(2 * calm)
		})
		back.add(float64(returned.moves()))
	}
}

func (s *stage) taint(n *lab.Node, taint string) {
	s.t.Helper()
	_, err := s.Kubectl(s.t.Context(), "taint", "node", n.Name, taint)
	s.must(err)
}
