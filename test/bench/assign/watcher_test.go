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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
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
	appeared   time.Time // when it was first seen
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
	services := s.load.CoreV1().Services(metav1.NamespaceDefault)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ObjectType: &corev1.Service{},
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return services.List(ctx, o) },
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				return services.Watch(ctx, o)
			},
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { w.take(o, time.Now()) },
			UpdateFunc: func(_, o any) { w.take(o, time.Now()) },
			DeleteFunc: func(o any) { w.forget(o, time.Now()) },
		},
	})
	ctx, cancel := context.WithCancel(s.ctx)
	w.done.Go(func() { informer.RunWithContext(ctx) })
	s.t.Cleanup(func() {
		cancel()
		w.done.Wait()
	})
	return w
}

// note tells those who wait that something was seen. The lock is held.
func (w *watcher) note(now time.Time) {
	w.last = now
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watcher) forget(object any, now time.Time) {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		panic(err) // the informer gives nothing else
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.services, strings.TrimPrefix(key, metav1.NamespaceDefault+"/"))
	w.note(now)
}

func (w *watcher) take(object any, now time.Time) {
	o, ok := object.(*corev1.Service)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(now)
	seen := w.services[o.Name]
	if seen == nil || seen.object.UID != o.UID {
		w.services[o.Name] = &sighting{object: o, appeared: now}
		return
	}
	was := seen.object
	if was.ResourceVersion == o.ResourceVersion {
		return // told again, after the API server was away
	}
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

// waitFor waits until one Service has an address and returns what was seen of it.
func (w *watcher) waitFor(name string) sighting {
	w.s.t.Helper()
	w.wait("an address of "+name, func(all map[string]*sighting) bool { return all[name] != nil && !all[name].assigned.IsZero() })
	return w.get(name)
}

// versions returns how many versions of Services were seen, but of the one.
func (w *watcher) versions(but string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for name, s := range w.services {
		if name != but {
			n += s.allocating + s.announcing + s.other
		}
	}
	return n
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
