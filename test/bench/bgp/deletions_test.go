package bgp

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/heraldlb/herald/test/lab/router"
)

// deletions notes which routes go out of a router's kernel.
type deletions struct {
	watch  *router.Watch
	joined sync.WaitGroup

	mu   sync.Mutex
	list []netip.Prefix
}

func countDeletions(t *testing.T, st *station) *deletions {
	t.Helper()
	w, err := router.NewWatch(st.host)
	must(t, err)
	d := &deletions{watch: w}
	d.joined.Go(func() {
		for e := range w.Events() {
			if e.Deleted {
				d.mu.Lock()
				d.list = append(d.list, e.Route.Prefix)
				d.mu.Unlock()
			}
		}
	})
	return d
}

func (d *deletions) seen() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.list)
}

// close ends the counting; the error says whether some may have been missed.
func (d *deletions) close() ([]netip.Prefix, error) {
	err := d.watch.Close()
	d.joined.Wait()
	return d.list, err
}
