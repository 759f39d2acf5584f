package assign

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// watcher sees every version of every Service, as the API server tells it.
type watcher struct {
	s    *stage
	done sync.WaitGroup

	mu       sync.Mutex
	services map[string]*sighting // by name
	last     time.Time            // of the last event
	changed  chan struct{}        // closed with the next event
}

// sighting is what was seen of one Service.
type sighting struct {
	object     *corev1.Service
	assigned   time.Time // when it first had an address
	allocating int       // versions in which its addresses or the condition Allocated changed
	announcing int       // versions in which the condition Announced changed
	other      int       // other versions
}

const (
	allocated = "heraldlb.io/Allocated"
	announced = "heraldlb.io/Announced"
)

// watch begins to watch.
func (s *stage) watch() *watcher {
	s.t.Helper()
	w := &watcher{s: s, services: make(map[string]*sighting), changed: make(chan struct{})}
	list, err := s.load.CoreV1().Services(metav1.NamespaceDefault).List(s.ctx, metav1.ListOptions{})
	s.must(err)
	for i := range list.Items {
		w.services[list.Items[i].Name] = &sighting{object: &list.Items[i]}
	}
	ctx, cancel := context.WithCancel(s.ctx)
	events, err := watchtools.NewRetryWatcherWithContext(ctx, list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return s.load.CoreV1().Services(metav1.NamespaceDefault).Watch(ctx, o)
		},
	})
	s.must(err)
	w.done.Go(func() {
		for e := range events.ResultChan() {
			if o, ok := e.Object.(*corev1.Service); ok {
				w.take(e.Type, o, time.Now())
			}
		}
	})
	s.t.Cleanup(func() {
		cancel()
		w.done.Wait()
	})
	return w
}

func (w *watcher) take(kind watch.EventType, o *corev1.Service, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = now
	close(w.changed)
	w.changed = make(chan struct{})
	if kind == watch.Deleted {
		delete(w.services, o.Name)
		return
	}
	seen := w.services[o.Name]
	if seen == nil || seen.object.UID != o.UID {
		w.services[o.Name] = &sighting{object: o}
		return
	}
	was := seen.object
	seen.object = o
	if seen.assigned.IsZero() && len(o.Status.LoadBalancer.Ingress) > 0 {
		seen.assigned = now
	}
	allocating := !equality.Semantic.DeepEqual(was.Status.LoadBalancer, o.Status.LoadBalancer) || condition(was, allocated) != condition(o, allocated)
	announcing := condition(was, announced) != condition(o, announced)
	if allocating {
		seen.allocating++
	}
	if announcing {
		seen.announcing++
	}
	if !allocating && !announcing {
		seen.other++
	}
}

func condition(o *corev1.Service, kind string) metav1.Condition {
	i := slices.IndexFunc(o.Status.Conditions, func(c metav1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return metav1.Condition{}
	}
	return o.Status.Conditions[i]
}

// wait waits until ok holds of what was seen.
func (w *watcher) wait(what string, ok func(map[string]*sighting) bool) {
	w.s.t.Helper()
	for {
		w.mu.Lock()
		good, next := ok(w.services), w.changed
		w.mu.Unlock()
		if good {
			return
		}
		select {
		case <-next:
		case <-w.s.ctx.Done():
			w.s.t.Fatalf("waiting for %s: %v", what, context.Cause(w.s.ctx))
		}
	}
}

// get returns what was seen of one Service.
func (w *watcher) get(name string) sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.services[name]; s != nil {
		return *s
	}
	return sighting{}
}

// all returns what was seen of those Services whose names begin like this.
func (w *watcher) all(prefix string) map[string]sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]sighting)
	for name, s := range w.services {
		if strings.HasPrefix(name, prefix) {
			out[name] = *s
		}
	}
	return out
}

// waitAssigned waits until n Services whose names begin like this have an address.
func (w *watcher) waitAssigned(prefix string, n int) {
	w.s.t.Helper()
	w.wait(strconv.Itoa(n)+" Services with an address", func(all map[string]*sighting) bool {
		have := 0
		for name, s := range all {
			if strings.HasPrefix(name, prefix) && len(s.object.Status.LoadBalancer.Ingress) > 0 {
				have++
			}
		}
		return have >= n
	})
}

// quiet waits until nothing has been seen for a while.
func (w *watcher) quiet(long time.Duration) {
	w.s.t.Helper()
	for {
		w.mu.Lock()
		left, next := long-time.Since(w.last), w.changed
		w.mu.Unlock()
		if left <= 0 {
			return
		}
		select {
		case <-next:
		case <-time.After(left):
		case <-w.s.ctx.Done():
			w.s.t.Fatalf("waiting for silence: %v", context.Cause(w.s.ctx))
		}
	}
}

// distinct fails the test if two Services have one address.
func (w *watcher) distinct() {
	w.s.t.Helper()
	holder := make(map[netip.Addr]string)
	for name, s := range w.all("") {
		for _, i := range s.object.Status.LoadBalancer.Ingress {
			a, err := netip.ParseAddr(i.IP)
			if err != nil {
				w.s.t.Errorf("%s has the address %q", name, i.IP)
			}
			if other, ok := holder[a]; ok {
				w.s.t.Errorf("%s and %s both have %s", name, other, a)
			}
			holder[a] = name
		}
	}
}
