package e2e

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// manyPrefix is the IPv4 part of the pool "many".
var manyPrefix = netip.MustParsePrefix("10.200.0.0/20")

// flood creates n Services, from the pool "many", that go with the test.
func (s *stage) flood(name string) *scene.Flood {
	s.t.Helper()
	f, err := s.NewFlood(s.t.Context(), name)
	s.must(err)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s.must(f.Close(ctx))
	})
	return f
}

// TestManyServices creates 2,000 Services as fast as the API server takes them: each gets an address of its own, in one write.
func TestManyServices(t *testing.T) {
	const (
		n       = 2000
		workers = 16
		limit   = 30 * time.Second // the aim is 1 s, with programs built for use; here they look for data races
	)
	s := on(t)
	f := s.flood("many")
	began := time.Now()
	created, err := f.Create(t.Context(), n, workers, scene.FromPool("many"))
	s.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	last, err := f.Wait(ctx, n)
	s.must(err)
	t.Logf("%d Services were created in %s; the last address was given %s after that", n,
		created.Sub(began).Round(time.Millisecond), last.Sub(created).Round(time.Millisecond))
	if last.Sub(created) > limit {
		t.Errorf("that is more than %s", limit)
	}
	s.must(f.Check(manyPrefix))
}

// TestLeaderKilled kills the leading controller while Services are being created: the other goes on, and no address is given twice.
func TestLeaderKilled(t *testing.T) {
	const n = 300
	s := on(t)
	leader, err := s.Controller(t.Context())
	s.must(err)
	f := s.flood("killed")
	type result struct {
		at  time.Time
		err error
	}
	done := make(chan result, 1)
	go func() {
		at, err := f.Create(t.Context(), n, 4, scene.FromPool("many"))
		done <- result{at, err}
	}()
	s.eventually("the first addresses", func(context.Context) error {
		for _, own := range f.Seen() {
			if !own.Assigned.IsZero() {
				return nil
			}
		}
		return errors.New("none yet")
	})
	s.kill(leader)
	created := <-done
	s.must(created.err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	last, err := f.Wait(ctx, n)
	s.must(err)
	t.Logf("%s was killed; the last address was given %s after the last Service's creation", leader, last.Sub(created.at).Round(time.Millisecond))
	s.must(f.Check(manyPrefix))
}

// TestLeaderFrozen freezes the leading controller, until the other has taken over, and thaws it in the middle of its work: for a moment both
// believe that they lead, and still no address is given twice.
func TestLeaderFrozen(t *testing.T) {
	const n = 100
	s := on(t)
	leader, err := s.Controller(t.Context())
	s.must(err)
	f := s.flood("frozen")
	s.signalPod(leader, unix.SIGSTOP)
	t.Cleanup(func() { s.signalPod(leader, unix.SIGCONT) })
	began := time.Now()
	created, err := f.Create(t.Context(), n, 4, scene.FromPool("many"))
	s.must(err)
	s.eventually("another to lead", func(ctx context.Context) error {
		now, err := s.Controller(ctx)
		if err == nil && now == leader {
			err = errors.New("it is still the old one")
		}
		return err
	})
	t.Logf("another controller led after %s", time.Since(began).Round(time.Millisecond))
	s.signalPod(leader, unix.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	last, err := f.Wait(ctx, n)
	s.must(err)
	t.Logf("the last address was given %s after the last Service's creation", last.Sub(created).Round(time.Millisecond))
	time.Sleep(quiet)
	s.must(f.Check(manyPrefix))
}

// signalPod sends a signal to the process of a Pod of the installation, wherever it runs.
func (s *stage) signalPod(pod string, signal unix.Signal) {
	s.t.Helper()
	s.eventually(pod+" to run somewhere", func(context.Context) error { // it may just be started, or started again
		for _, n := range s.Nodes {
			if _, err := n.Kubelet().Find(s.Namespace, pod, ""); err == nil {
				return n.Kubelet().Signal(s.Namespace, pod, "", signal)
			}
		}
		return errors.New("no node runs it")
	})
}

// kill ends the process of a Pod of the installation without warning.
func (s *stage) kill(pod string) {
	s.t.Helper()
	s.signalPod(pod, unix.SIGKILL)
}
