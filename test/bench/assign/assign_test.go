package assign

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/test/bench/figures"
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
	r := &figures.Report{}
	for _, n := range sizes(t) {
		t.Run(fmt.Sprintf("%d Services", n), func(t *testing.T) { many(t, r, n) })
	}
	t.Run("deletion", func(t *testing.T) { deletion(t, r) })
	t.Logf("\n%s", r)
}

// many takes one control plane through a flood of Services, a restart and a backlog.
func many(t *testing.T, r *figures.Report, n int) {
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
func (s *stage) flood(r *figures.Report, w *watcher, n int) {
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
	r.Add("", perSecond(n, took), "%d Services: created by %d workers", n, workers)
	r.Add("1s", figures.Text(assigned.Sub(latest)), "%d Services: from the last creation to the last assignment", n)
	r.Add("", figures.Text(quantile(waits, 0.5)), "%d Services: from creation to assignment, median", n)
	r.Add("", figures.Text(quantile(waits, 0.99)), "%d Services: from creation to assignment, 99 %%", n)
	r.Add("1", fmt.Sprintf("%.3f", float64(writes)/float64(n)), "%d Services: writes per assignment", n)
	if writes != n || others != 0 {
		s.t.Errorf("%d writes for %d assignments, and %d that change nothing of ours", writes, n, others)
	}
	w.quiet(calm)
	large := s.oneMore(w)
	compare(r, n, small, large)
}

// compare reports what one more Service took beside few and beside n others.
func compare(r *figures.Report, n int, small, large price) {
	for _, row := range []struct {
		aim          string
		small, large time.Duration
		what         string
	}{
		{"1.5", small.created, large.created, "one more Service: from the request to create it to the address"},
		{"", small.server, large.server, "one more Service: of that, until the API server tells of it"},
		{"1.5", small.ours, large.ours, "one more Service: of that, from then on"},
		{"1.5", small.exposed, large.exposed, "one more Service: from the request to make a ClusterIP Service one of type LoadBalancer to the address"},
		{"", small.bare, large.bare, "a bare client's patch of a Service's status, until the API server tells of it"},
	} {
		r.Add("", figures.Text(row.small), "%s, beside %d, median of %d", row.what, few, tries)
		r.Add(row.aim, fmt.Sprintf("%.2f", float64(row.large)/float64(row.small)), "the same beside %d: %s, as a multiple", n, figures.Text(row.large))
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// price is what one Service takes until the sight of its address.
type price struct {
	created time.Duration // from the request to create it
	server  time.Duration // of that, until the API server tells of it: it looks for a ClusterIP
	ours    time.Duration // of that, the rest
	exposed time.Duration // from the request to make a ClusterIP Service one of type LoadBalancer
	bare    time.Duration // for comparison: a patch of a status by a client that does nothing else
}

// oneMore measures the price of one more Service, each part as the median of several.
func (s *stage) oneMore(w *watcher) price {
	s.t.Helper()
	var created, server, ours, exposed, bare []time.Duration
	for i := range tries {
		began := time.Now()
		s.must(s.create(name("more", i)))
		seen := w.waitFor(name("more", i))
		created, server, ours = append(created, seen.assigned.Sub(began)), append(server, seen.appeared.Sub(began)), append(ours, seen.assigned.Sub(seen.appeared))
		s.leave(w, name("more", i))

		s.must(s.createAs(name("expose", i), corev1.ServiceTypeClusterIP))
		time.Sleep(breath)
		began = time.Now()
		s.must(s.expose(name("expose", i)))
		exposed = append(exposed, w.waitFor(name("expose", i)).assigned.Sub(began))
		s.leave(w, name("expose", i))
		bare = append(bare, s.touch(w, i))
	}
	return price{quantile(created, 0.5), quantile(server, 0.5), quantile(ours, 0.5), quantile(exposed, 0.5), quantile(bare, 0.5)}
}

// breath lets what was done before come to an end, so that one try does not wait for the one before.
const breath = 30 * time.Millisecond

// leave deletes a Service, and waits until all that follows is done.
func (s *stage) leave(w *watcher, name string) {
	s.t.Helper()
	s.deleteMany([]string{name})
	w.wait("the end of "+name, func(all map[string]*sighting) bool { return all[name] == nil })
	time.Sleep(breath)
}

// touch writes the status of a Service of the small flood, as a client that does nothing else, and returns how long it took to be seen.
func (s *stage) touch(w *watcher, i int) time.Duration {
	s.t.Helper()
	of := name("few", i%few)
	before := w.get(of)
	began := time.Now()
	body := fmt.Sprintf(`{"status":{"conditions":[{"type":"example.com/Touched","status":"True","reason":"Bench","message":"%d","lastTransitionTime":null}]}}`, i)
	_, err := s.bare.CoreV1().Services(metav1.NamespaceDefault).Patch(s.ctx, of, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status")
	s.must(err)
	w.wait("another version of "+of, func(all map[string]*sighting) bool {
		return all[of].object.ResourceVersion != before.object.ResourceVersion
	})
	took := time.Since(began)
	time.Sleep(breath)
	return took
}

// resync takes every watch away from the controller, which lists all again. Nothing may be written.
func (s *stage) resync(r *figures.Report, w *watcher, c *process, n int) {
	s.t.Helper()
	s.progress("resync")
	w.quiet(calm)
	when := fmt.Sprintf("resync of %d Services", n)
	s.idle(r, w, "after-resync", when, func() {
		s.cluster.StopAPIServer()
		s.must(s.cluster.StartAPIServer(s.ctx))
		s.must(s.create("after-resync")) // the controller is back when it has an address
	})
	r.Add("", fmt.Sprintf("%.0f MiB", c.memory("VmRSS")), "%s: memory of the controller that saw them all come", when)
}

// restart ends the controller and starts it anew.
func (s *stage) restart(r *figures.Report, w *watcher, c *process, n int) *process {
	s.t.Helper()
	s.progress("restart")
	c.stop()
	when := fmt.Sprintf("restart with %d Services", n)
	var began time.Time
	s.idle(r, w, "after-restart", when, func() {
		began = time.Now()
		c = s.controller()
		s.must(s.create("after-restart"))
	})
	r.Add("2s", figures.Text(w.get("after-restart").assigned.Sub(began)), "%s: from the start of the process to a new assignment", when)
	r.Add("120 MiB", fmt.Sprintf("%.0f MiB", c.memory("VmRSS")), "%s: memory (at most it was %.0f MiB)", when, c.memory("VmHWM"))
	r.Add("", figures.Text(c.cpu()), "%s: processor time", when)
	return c
}

// rounds is how often the backlog is worked off: one pace hangs on what else the machine does.
const rounds = 5

// backlog lets a bare client write all statuses, takes them away, and lets the controller do the same, several times in turn.
func (s *stage) backlog(r *figures.Report, w *watcher, n int) {
	s.t.Helper()
	s.progress("backlog")
	var all []*corev1.Service
	for _, seen := range w.all("") {
		if len(seen.object.Status.LoadBalancer.Ingress) > 0 {
			all = append(all, seen.object)
		}
	}
	var shares, bares, ours, used, first []float64
	for range rounds {
		s.clear(w, all)
		bare := s.patchAll(s.bare, all, false)
		s.clear(w, all)
		o := s.workOff(w, len(all))
		s.progress("backlog: a bare client %s, the controller %s", perSecond(len(all), bare), perSecond(len(all), o.took))
		shares = append(shares, bare.Seconds()/o.took.Seconds())
		bares, ours = append(bares, float64(len(all))/bare.Seconds()), append(ours, float64(len(all))/o.took.Seconds())
		used, first = append(used, o.used.Seconds()), append(first, o.first.Seconds())
	}
	r.Add("", fmt.Sprintf("%.0f/s", median(bares)), "backlog of %d: a bare client writes the same statuses, %d at once; medians of %d", n, writers, rounds)
	r.Add("0.8", fmt.Sprintf("%.2f", median(shares)), "backlog of %d: the controller's pace (%.0f/s) as a share of that; each time %.2f", n, median(ours), shares)
	r.Add("", fmt.Sprintf("%.2fs", median(used)), "backlog of %d: processor time of the controller", n)
	r.Add("", fmt.Sprintf("%.3fs", median(first)), "backlog of %d: from the start of the process to the first assignment", n)
}

// clear takes the statuses away and waits until that is seen.
func (s *stage) clear(w *watcher, all []*corev1.Service) {
	s.t.Helper()
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
}

// worked is how a controller worked a backlog off.
type worked struct {
	first time.Duration // from its start to the first assignment
	took  time.Duration // from the first to the last
	used  time.Duration // processor time
}

// workOff starts a controller, lets it work off a backlog of n, and ends it.
func (s *stage) workOff(w *watcher, n int) worked {
	s.t.Helper()
	began := time.Now()
	c := s.controller()
	defer c.stop()
	w.waitAssigned("", n)
	used := c.cpu()
	first, last := time.Now(), time.Time{}
	for _, seen := range w.all("") {
		if !seen.assigned.IsZero() && seen.assigned.Before(first) {
			first = seen.assigned
		}
		last = later(last, seen.assigned)
	}
	return worked{first.Sub(began), last.Sub(first), used}
}

// deletion takes Services away from a pool that is full, once with nobody waiting for their addresses and once with others waiting.
func deletion(t *testing.T, r *figures.Report) {
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
	r.Add("100ms", figures.Text(w.get("next").assigned.Sub(began)), "after the deletion of %d of %d: from a request to the address", gone, held)

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
	r.Add("", figures.Text(max(0, last.Sub(ended))), "%d deleted from a full pool of %d with as many waiting: until the last of these has an address", gone, held)
	w.distinct()
}
