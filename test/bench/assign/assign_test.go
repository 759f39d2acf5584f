package assign

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/lab/netlab"
)

const (
	tries = 50              // for the price of one more Service
	few   = 10              // Services beside it in the small case
	calm  = 4 * time.Second // without an event: then all that follows from what was done has been written
)

// TestFigures measures everything and prints the table.
func TestFigures(t *testing.T) {
	netlab.Need(t)
	r := &report{}
	for _, n := range sizes(t) {
		t.Run(fmt.Sprintf("%d Services", n), func(t *testing.T) { many(t, r, n) })
	}
	t.Run("deletion", func(t *testing.T) { deletion(t, r) })
	t.Logf("\n%s", r)
}

// many takes one control plane through a flood of Services, a restart and a backlog.
func many(t *testing.T, r *report, n int) {
	s := open(t)
	s.pool("bench", "172.16.0.0/14")
	w := s.watch()
	c := s.controller()
	s.flood(r, w, n)
	s.resync(r, w, c, n)
	c = s.restart(r, w, c, n)
	c.stop()
	s.backlog(r, w, n)
	w.distinct()
}

// flood creates Services with the controller running, and before and after that one by one.
func (s *stage) flood(r *report, w *watcher, n int) {
	s.t.Helper()
	s.createMany("few", few)
	w.waitAssigned("few", few)
	w.quiet(calm)
	small := s.oneMore(w)
	s.progress("%d Services", n)
	began := time.Now()
	created := s.createMany("flood", n)
	took := time.Since(began)
	w.waitAssigned("flood", n)
	var latest, assigned time.Time
	var waits []time.Duration
	writes, others := 0, 0
	for name, seen := range w.all("flood") {
		latest, assigned = later(latest, created[name]), later(assigned, seen.assigned)
		waits = append(waits, max(0, seen.assigned.Sub(created[name])))
		writes += seen.allocating
		others += seen.other
	}
	r.add("", perSecond(n, took), "%d Services: created by %d workers", n, workers)
	r.add("1s", text(assigned.Sub(latest)), "%d Services: from the last creation to the last assignment", n)
	r.add("", text(quantile(waits, 0.5)), "%d Services: from creation to assignment, median", n)
	r.add("", text(quantile(waits, 0.99)), "%d Services: from creation to assignment, 99 %%", n)
	r.add("1", fmt.Sprintf("%.3f", float64(writes)/float64(n)), "%d Services: writes per assignment", n)
	if writes != n || others != 0 {
		s.t.Errorf("%d writes for %d assignments, and %d that change nothing of ours", writes, n, others)
	}
	w.quiet(calm)
	large := s.oneMore(w)
	r.add("", text(small.whole), "one more Service beside %d: from the request to the assignment, median of %d", few, tries)
	r.add("1.5", multiple(large.whole, small.whole), "one more Service beside %d: %s, as a multiple", n, text(large.whole))
	r.add("", text(small.ours), "one more Service beside %d: from when the API server tells of it to the assignment", few)
	r.add("1.5", multiple(large.ours, small.ours), "one more Service beside %d: %s, as a multiple", n, text(large.ours))
}

func multiple(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// price is what one Service takes: from the request for it, and from when the API server tells of it (its own work left out), to the sight
// of its address.
type price struct{ whole, ours time.Duration }

// oneMore measures the price of one more Service, as the median of several.
func (s *stage) oneMore(w *watcher) price {
	s.t.Helper()
	var whole, ours []time.Duration
	for i := range tries {
		name := name("more", i)
		began := time.Now()
		s.must(s.create(name))
		w.waitAssigned(name, 1)
		seen := w.get(name)
		whole, ours = append(whole, seen.assigned.Sub(began)), append(ours, seen.assigned.Sub(seen.appeared))
		s.deleteMany([]string{name})
		w.wait("the end of "+name, func(all map[string]*sighting) bool { return all[name] == nil })
	}
	return price{quantile(whole, 0.5), quantile(ours, 0.5)}
}

// resync takes every watch away from the controller, which lists all again. Nothing may be written.
func (s *stage) resync(r *report, w *watcher, c *process, n int) {
	s.t.Helper()
	s.progress("resync")
	w.quiet(calm)
	s.cluster.StopAPIServer()
	s.must(s.cluster.StartAPIServer(s.ctx))
	s.must(s.create("after-resync")) // the controller is back when it has an address
	w.waitAssigned("after-resync", 1)
	w.quiet(calm)
	r.add("0", fmt.Sprint(s.excess(s.writes())), "resync of %d Services: writes", n)
	r.add("", fmt.Sprintf("%.0f MiB", c.memory("VmRSS")), "resync of %d Services: memory of the controller that saw them all come", n)
}

// oneService is what a Service that comes meanwhile needs: its creation, its assignment, what is said of its announcement, and the counts of
// the pool, which an API server that comes back may be told twice.
const oneService = 5

// excess returns how many writes are too many, which is a failure.
func (s *stage) excess(writes int) int {
	s.t.Helper()
	if writes > oneService {
		s.t.Errorf("%d writes, when %d would do", writes, oneService)
	}
	return max(0, writes-oneService)
}

// restart ends the controller and starts it anew.
func (s *stage) restart(r *report, w *watcher, c *process, n int) *process {
	s.t.Helper()
	s.progress("restart")
	c.stop()
	before := s.writes()
	began := time.Now()
	c = s.controller()
	s.must(s.create("after-restart"))
	w.waitAssigned("after-restart", 1)
	seen := w.get("after-restart")
	r.add("2s", text(seen.assigned.Sub(began)), "restart with %d Services: from the start of the process to a new assignment", n)
	w.quiet(calm)
	r.add("0", fmt.Sprint(s.excess(s.writes()-before)), "restart with %d Services: writes", n)
	r.add("120 MiB", fmt.Sprintf("%.0f MiB", c.memory("VmRSS")), "restart with %d Services: memory (at most it was %.0f MiB)", n, c.memory("VmHWM"))
	r.add("", text(c.cpu()), "restart with %d Services: processor time", n)
	return c
}

// backlog lets a bare client write all statuses, takes them away, and lets the controller do the same.
func (s *stage) backlog(r *report, w *watcher, n int) {
	s.t.Helper()
	s.progress("backlog")
	var all []*corev1.Service
	for _, seen := range w.all("") {
		if len(seen.object.Status.LoadBalancer.Ingress) > 0 {
			all = append(all, seen.object)
		}
	}
	s.patchAll(s.bare, all, true)
	bare := s.patchAll(s.bare, all, false)
	s.patchAll(s.bare, all, true)
	w.wait("cleared Services", func(services map[string]*sighting) bool {
		for _, seen := range services {
			if len(seen.object.Status.LoadBalancer.Ingress) > 0 {
				return false
			}
			seen.assigned = time.Time{}
		}
		return true
	})
	began := time.Now()
	c := s.controller()
	w.waitAssigned("", len(all))
	used := c.cpu()
	first, last := time.Now(), time.Time{}
	for _, seen := range w.all("") {
		if !seen.assigned.IsZero() && seen.assigned.Before(first) {
			first = seen.assigned
		}
		last = later(last, seen.assigned)
	}
	took := last.Sub(first)
	r.add("", perSecond(len(all), bare), "backlog of %d: a bare client writes the same statuses, %d at once", n, writers)
	r.add("0.8", fmt.Sprintf("%.2f", bare.Seconds()/took.Seconds()), "backlog of %d: the controller's pace (%s) as a share of that", n, perSecond(len(all), took))
	r.add("", text(used), "backlog of %d: processor time of the controller", n)
	r.add("", text(first.Sub(began)), "backlog of %d: from the start of the process to the first assignment", n)
}

// deletion takes Services away from a pool that is full, once with nobody waiting for their addresses and once with others waiting.
func deletion(t *testing.T, r *report) {
	const held, gone = 2000, 200
	s := open(t)
	s.pool("bench", "172.16.0.1-172.16.7.208") // exactly as many
	w := s.watch()
	s.controller()
	s.createMany("flood", held)
	w.waitAssigned("flood", held)
	w.quiet(calm)
	names := func(from int) (out []string) {
		for i := range gone {
			out = append(out, name("flood", from+i))
		}
		return out
	}
	s.deleteMany(names(0))
	began := time.Now()
	s.must(s.create("next"))
	w.waitAssigned("next", 1)
	r.add("100ms", text(w.get("next").assigned.Sub(began)), "after the deletion of %d of %d: from a request to the address", gone, held)

	s.createMany("filler", gone-1)
	w.waitAssigned("filler", gone-1)
	s.createMany("waiting", gone)
	w.wait("Services that are told that the pool is full", func(all map[string]*sighting) bool {
		for i := range gone {
			if seen := all[name("waiting", i)]; seen == nil || condition(seen.object, allocated).Reason != "PoolExhausted" {
				return false
			}
		}
		return true
	})
	w.quiet(calm)
	s.deleteMany(names(gone))
	ended := time.Now()
	w.waitAssigned("waiting", gone)
	var last time.Time
	for _, seen := range w.all("waiting") {
		last = later(last, seen.assigned)
	}
	r.add("", text(max(0, last.Sub(ended))), "%d deleted from a full pool of %d with as many waiting: until the last of these has an address", gone, held)
	w.distinct()
}
