package scene

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

const (
	// floodLabel marks the Services of one flood.
	floodLabel = "herald-flood"
	// proxyLabel names another kube-proxy than those there are: what three of them on one machine do with thousands of Services would be
	// measured instead of Herald.
	proxyLabel = "service.kubernetes.io/service-proxy-name"
)

// Flood is many Services created as fast as the API server takes them, watched from before the first one's creation.
type Flood struct {
	scene *Scene
	name  string
	watch watch.Interface
	done  chan struct{}

	mu  sync.Mutex
	own map[string]*Flooded
}

// Flooded is one Service of a flood.
type Flooded struct {
	Addresses []netip.Addr
	Assigned  time.Time // when the watch told that all families have an address; zero before
	Writes    int       // how often status.loadBalancer was seen to change
}

// NewFlood begins to watch. Close ends it.
func (s *Scene) NewFlood(ctx context.Context, name string) (*Flood, error) {
	options := metav1.ListOptions{LabelSelector: floodLabel + "=" + name}
	list, err := s.Services().List(ctx, options)
	if err != nil {
		return nil, err
	}
	w, err := toolswatch.NewRetryWatcherWithContext(context.WithoutCancel(ctx), list.ResourceVersion, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = options.LabelSelector
			return s.Services().Watch(ctx, o)
		},
	})
	if err != nil {
		return nil, err
	}
	f := &Flood{scene: s, name: name, watch: w, done: make(chan struct{}), own: make(map[string]*Flooded)}
	go f.count()
	return f, nil
}

func (f *Flood) count() {
	defer close(f.done)
	for event := range f.watch.ResultChan() {
		now := time.Now()
		if o, ok := event.Object.(*corev1.Service); ok && event.Type != watch.Deleted {
			f.see(o, now)
		}
	}
}

func (f *Flood) see(o *corev1.Service, now time.Time) {
	list, err := Ingress(o)
	if err != nil {
		return // a name instead of an address: not ours, and missed in the end
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	own := f.own[o.Name]
	if own == nil {
		own = &Flooded{}
		f.own[o.Name] = own
	}
	if fmt.Sprint(list) != fmt.Sprint(own.Addresses) {
		own.Writes++
	}
	own.Addresses = list
	if own.Assigned.IsZero() && Complete(o) == nil {
		own.Assigned = now
	}
}

// Seen returns what is known of each Service, by its name.
func (f *Flood) Seen() map[string]Flooded {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[string]Flooded, len(f.own))
	for name, own := range f.own {
		seen[name] = *own
	}
	return seen
}

// Create creates n Services by a number of workers at a time, each waiting for the API server's answer before it goes on, and returns when the last
// answer came. The Services have no endpoints.
func (f *Flood) Create(ctx context.Context, n, workers int, edits ...Edit) (time.Time, error) {
	group, ctx := errgroup.WithContext(ctx)
	numbers := make(chan int)
	group.Go(func() error {
		defer close(numbers)
		for i := range n {
			select {
			case numbers <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for i := range numbers {
				if err := f.create(ctx, i, edits); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return time.Now(), err
}

func (f *Flood) create(ctx context.Context, i int, edits []Edit) error {
	o := Service(fmt.Sprintf("%s-%04d", f.name, i), append([]Edit{Selecting(""), SingleStack(corev1.IPv4Protocol)}, edits...)...)
	o.Labels = map[string]string{floodLabel: f.name, proxyLabel: "nobody"}
	_, err := f.scene.Services().Create(ctx, o, metav1.CreateOptions{})
	return err
}

// Wait waits until n Services have their addresses and returns when the last one got its.
func (f *Flood) Wait(ctx context.Context, n int) (last time.Time, err error) {
	err = f.scene.Wait(ctx, fmt.Sprintf("addresses of %d Services", n), func(context.Context) error {
		assigned := 0
		for _, own := range f.Seen() {
			if !own.Assigned.IsZero() {
				assigned++
			}
			if own.Assigned.After(last) {
				last = own.Assigned
			}
		}
		if assigned != n {
			return fmt.Errorf("%d of %d have one", assigned, n)
		}
		return nil
	})
	return last, err
}

// Check returns what is wrong with how the addresses were given: one held by two Services, one taken from no pool's prefix, or a status
// written more than once.
func (f *Flood) Check(within netip.Prefix) error {
	holder := make(map[netip.Addr]string)
	var errs []error
	seen := f.Seen()
	for _, name := range sortedKeys(seen) {
		own := seen[name]
		if own.Writes != 1 {
			errs = append(errs, fmt.Errorf("%s: its addresses were written %d times, not once", name, own.Writes))
		}
		for _, a := range own.Addresses {
			if other, taken := holder[a]; taken {
				errs = append(errs, fmt.Errorf("%s is held by %s and %s", a, other, name))
			}
			if !within.Contains(a) {
				errs = append(errs, fmt.Errorf("%s of %s is not in %s", a, name, within))
			}
			holder[a] = name
		}
	}
	if more := len(errs) - 10; more > 0 {
		errs = append(errs[:10], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// Close deletes the Services, waits until they are gone, and ends the watch.
func (f *Flood) Close(ctx context.Context) error {
	defer func() {
		f.watch.Stop()
		<-f.done
	}()
	options := metav1.ListOptions{LabelSelector: floodLabel + "=" + f.name}
	return f.scene.Wait(ctx, "the Services to be gone", func(ctx context.Context) error {
		// The API server gives a request up after a minute, however far it has come.
		err := f.scene.API.CoreV1().RESTClient().Delete().Namespace(metav1.NamespaceDefault).Resource("services").
			VersionedParams(&options, scheme.ParameterCodec).Do(ctx).Error()
		if err != nil {
			return err
		}
		list, err := f.scene.Services().List(ctx, options)
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
}

func sortedKeys(m map[string]Flooded) []string { return slices.Sorted(maps.Keys(m)) }
