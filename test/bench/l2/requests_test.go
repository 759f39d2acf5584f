package l2

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	foreignRate = 20000 // requests per second
	ownRate     = 5000
	requesting  = 10 * time.Second
)

// TestForeignRequests asks for addresses that nobody has, as a scan of a large subnet does.
func TestForeignRequests(t *testing.T) {
	s := on(t)
	s.addresses("foreign", 5)
	idle := s.figure(percent, none, none, "speaker without requests: share of a core")
	foreign := s.figure(percent, none, 1, "20,000 ARP requests/s for foreign addresses: speaker's share of a core")
	for _, share := range s.shares(func(ctx context.Context) error { <-ctx.Done(); return nil }) {
		idle.add(share)
	}
	var ips []addr
	for i := range 4096 {
		ips = append(ips, netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)}))
	}
	requests, err := probe.NewRequests(s.Client, lanIf, ips...)
	s.must(err)
	shares := s.shares(func(ctx context.Context) error {
		sent, err := requests.Send(ctx, foreignRate)
		t.Logf("%.0f requests/s", float64(sent)/requesting.Seconds())
		return err
	})
	for _, share := range shares {
		foreign.add(share)
	}
}

// shares returns what share of a core, in percent, each speaker used while something went on.
func (s *stage) shares(meanwhile func(context.Context) error) []float64 {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), requesting)
	defer cancel()
	before := s.processorTimes()
	began := time.Now()
	s.must(meanwhile(ctx))
	took := time.Since(began)
	var shares []float64
	for i, after := range s.processorTimes() {
		shares = append(shares, 100*float64(after-before[i])/float64(took))
	}
	return shares
}

// processorTimes are those of the speakers, in the order of the nodes.
func (s *stage) processorTimes() (times []time.Duration) {
	s.t.Helper()
	for _, n := range s.Nodes {
		times = append(times, s.processorTime(n))
	}
	return times
}

func (s *stage) processorTime(n *lab.Node) time.Duration {
	s.t.Helper()
	p, err := n.Kubelet().Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	used, err := figures.CPU(p.PID)
	s.must(err)
	return used
}

func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v) }

// memory is what a process has in use, in MiB.
func memory(s *stage, pid int) float64 {
	s.t.Helper()
	mib, err := figures.Memory(pid, "VmRSS")
	s.must(err)
	return mib
}

// TestOwnRequests asks for 1,000 addresses that one node has, as fast as many clients together do.
func TestOwnRequests(t *testing.T) {
	s := on(t)
	s.confine(s.Nodes[0].Name)
	ips := s.many(1000, corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol)
	latency, err := probe.NewLatency(s.Client, lanIf)
	s.must(err)
	requests, err := probe.NewRequests(s.Client, lanIf, ips...)
	s.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), requesting)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return latency.Run(ctx) })
	sent := 0
	group.Go(func() (err error) { sent, err = requests.Send(ctx, ownRate); return err })
	before := s.processorTime(s.Nodes[0])
	s.must(group.Wait())
	used := s.processorTime(s.Nodes[0]) - before
	took := latency.Took()
	slices.Sort(took)
	t.Logf("%.0f requests/s, %d answers in time order, median %s", float64(sent)/requesting.Seconds(), len(took), took[len(took)/2])
	s.figure(micros, none, 1000, "5,000 ARP requests/s for 1,000 addresses of one node: 99 %% are answered within").add(float64(took[len(took)*99/100]) / float64(time.Microsecond))
	s.figure(count, none, 0, "5,000 ARP requests/s for 1,000 addresses of one node: without an answer").add(float64(latency.Unanswered()))
	s.figure(percent, none, none, "5,000 ARP requests/s for 1,000 addresses of one node: its speaker's share of a core").add(100 * float64(used) / float64(requesting))
}
