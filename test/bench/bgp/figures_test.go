package bgp

import (
	"fmt"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

const (
	many   = 10_000
	rounds = 5                // of loading and withdrawing everything
	tries  = 20               // of one more route
	idle   = 30 * time.Second // watched for what it costs to do nothing
	away   = 2 * time.Second  // of a speaker that restarts
)

// TestFigures measures everything and prints the table.
func TestFigures(t *testing.T) {
	netlab.Need(t)
	if err := peer.Available(peer.FRR); err != nil {
		t.Skipf("the figures are of FRR as router: %v", err)
	}
	r := &figures.Report{}
	t.Run("four peers", func(t *testing.T) { fourPeers(t, r) })
	for _, kind := range []peer.Kind{peer.FRR, peer.BIRD} {
		t.Run("restart at "+string(kind), func(t *testing.T) {
			if err := peer.Available(kind); err != nil {
				t.Skip(err)
			}
			restart(t, r, kind)
		})
	}
	t.Logf("medians (least..most)\n%s", r)
}

// fourPeers loads four routers, again with one of them hung, and measures what it costs.
func fourPeers(t *testing.T, r *figures.Report) {
	s := newStage(t)
	var all []*station
	for range 4 {
		all = append(all, s.router(peer.FRR, true))
	}
	began := time.Now()
	s.tell(0)
	for _, st := range all {
		s.until(5*time.Millisecond, "the session", func() bool {
			x, err := st.Session(s.Context())
			must(t, err)
			return x.Established
		})
	}
	r.Add("1s", figures.Text(time.Since(began)), "4 sessions up, from when the engine is told of them (polled by vtysh)")

	load, withdraw := s.rounds(all)
	r.Add("2s", figures.Span(load), "%d routes to 4 FRR peers, median of %d", many, rounds)
	r.Add("1.2s", figures.Span(withdraw), "%d routes withdrawn from 4 FRR peers, median of %d", many, rounds)

	must(t, all[3].Freeze())
	load, withdraw = s.rounds(all[:3])
	must(t, all[3].Thaw())
	r.Add("the same", figures.Span(load), "%d routes to the other 3 with one peer hung, median of %d", many, rounds)
	r.Add("the same", figures.Span(withdraw), "%d routes withdrawn from the other 3 with one peer hung, median of %d", many, rounds)
	s.received(0, all...)

	before := s.engine.cpu()
	s.tell(many)
	s.received(many, all...)
	r.Add("20s", figures.Text(s.engine.cpu()-before), "processor time of the engine for %d routes to 4 peers", many)
	r.Add("100ms", figures.Span(s.oneMore(all)), "one more route at %d, until FRR has it, median of %d", many, tries)
	r.Add("150 MiB", fmt.Sprintf("%.0f MiB", s.engine.memory("VmRSS")), "memory (RSS) of the engine's process with %d routes at 4 peers", many+tries)
	r.Add("", fmt.Sprintf("%.0f MiB", s.engine.memory("VmHWM")), "the most it ever had")
	before = s.engine.cpu()
	time.Sleep(idle)
	r.Add("1 %", fmt.Sprintf("%.2f %%", 100*(s.engine.cpu()-before).Seconds()/idle.Seconds()), "of a processor, when nothing changes for %s", idle)
}

// rounds loads everything and takes it back, several times. With a hung router it waits for the others only.
func (s *stage) rounds(routers []*station) (load, withdraw []time.Duration) {
	s.Helper()
	for range rounds {
		began := time.Now()
		s.tell(many)
		s.received(many, routers...)
		load = append(load, time.Since(began))
		began = time.Now()
		s.tell(0)
		s.received(0, routers...)
		withdraw = append(withdraw, time.Since(began))
	}
	return load, withdraw
}

// oneMore adds a route at a time and looks for it at the last router.
func (s *stage) oneMore(routers []*station) (took []time.Duration) {
	s.Helper()
	for i := range tries {
		began := time.Now()
		s.tell(many + i + 1)
		for _, r := range routers {
			s.until(time.Millisecond, "one more route", func() bool {
				has, err := r.vty.Has(s.Context(), prefix(many+i))
				must(s.T, err)
				return has
			})
		}
		took = append(took, time.Since(began))
	}
	return took
}

// restart has the engine go away for a moment, with two routers that have many routes in their kernels, and counts what they take out.
func restart(t *testing.T, r *figures.Report, kind peer.Kind) {
	const routes = 20_000
	s := newStage(t)
	two := []*station{s.router(kind, false), s.router(kind, false)}
	var counts []*deletions
	s.tell(routes)
	for _, st := range two {
		s.until(500*time.Millisecond, "the routes in the kernel", func() bool { return kernelRoutes(t, st) == routes })
		counts = append(counts, countDeletions(t, st))
	}
	s.engine.tell(order{Restart: true})
	<-s.engine.done
	time.Sleep(away)
	s.engine = startEngine(t, s.node, s.dir)
	began := time.Now()
	s.tell(routes - 1) // the last is gone meanwhile: that it goes shows that the restart is over
	for i, st := range two {
		s.until(20*time.Millisecond, "the end of the restart", func() bool { return counts[i].seen() > 0 })
		if n := kernelRoutes(t, st); n != routes-1 {
			t.Errorf("%s has %d routes after the restart, want %d", kind, n, routes-1)
		}
	}
	took := time.Since(began)
	for i, c := range counts {
		gone, err := c.close()
		must(t, err)
		if len(gone) != 1 || gone[0] != prefix(routes-1) {
			t.Errorf("%s router %d took out %d routes, want the one that is gone; the first: %v", kind, i+1, len(gone), gone[:min(3, len(gone))])
		}
		r.Add("0", fmt.Sprint(len(gone)-1), "routes deleted at %s %d of 2 by a restart of %s with %d routes", kind, i+1, away, routes)
	}
	r.Add("", figures.Text(took), "%s: from the new process to the end of the restart at both routers", kind)
}

func kernelRoutes(t *testing.T, st *station) int {
	t.Helper()
	list, err := router.Routes(st.host)
	must(t, err)
	return len(list)
}
