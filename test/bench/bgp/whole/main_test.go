package whole

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

const (
	openLimit = 5 * time.Minute  // for the laboratory to come up, Herald included
	patience  = 10 * time.Minute // until the bench gives up on something
	calm      = time.Second      // before something is done, and after it is over
)

func TestMain(m *testing.M) {
	peer.Dispatch()
	lab.Main(m, lab.Build{Herald: true})
}

// stage is a laboratory of its own for one test.
type stage struct {
	*scene.Scene
	t      *testing.T
	report figures.Report
}

// open brings up a laboratory with so many nodes. It prints what was measured when the test ends.
func open(t *testing.T, nodes int) *stage {
	t.Helper()
	netlab.Need(t)
	if err := peer.Available(peer.FRR); err != nil {
		t.Skipf("the figures are of FRR as router: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), openLimit)
	defer cancel()
	s, err := scene.Open(ctx, lab.Options{Nodes: nodes})
	if err != nil {
		t.Fatalf("no laboratory: %v", err)
	}
	st := &stage{Scene: s, t: t}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("end the laboratory: %v", err)
		}
	})
	t.Cleanup(func() {
		load, _ := os.ReadFile("/proc/loadavg")
		t.Logf("medians (least..most)\n%s\nload of the machine at the end: %s", &st.report, load)
	})
	return st
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a condition, looking as often as said, and returns how long that took.
func (s *stage) until(every time.Duration, what string, holds func(context.Context) (bool, error)) time.Duration {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := holds(ctx)
		if ok {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}

func mebibytes(v float64) string { return fmt.Sprintf("%.0f MiB", v) }
