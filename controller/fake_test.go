package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
)

// cluster models an API server with the Source, Writer and Events that look at it: versions, conflicts, watches that lag behind, requests
// that take time and fail. It fails the test on nonsense: a write that changes nothing, an address that two Services hold.
type cluster struct {
	t       testing.TB
	latency time.Duration // of a request
	lag     time.Duration // of the watch
	changed chan struct{}

	mu       sync.Mutex
	version  int
	real     map[config.Key]*config.Service // in the API server
	shown    map[config.Key]*config.Service // as watched
	rest     config.Snapshot                // everything but Services; shown at once
	left     map[config.Key]config.Released
	refuse   func(kube.ServiceStatus) error // may be nil
	inflight map[config.Key]bool
	writes   []kube.ServiceStatus // that succeeded
	events   []kube.Event
	objects  []string // writes to config objects
	most     int      // requests under way at once
}

func newCluster(t testing.TB) *cluster {
	return &cluster{
		t: t, latency: 5 * time.Millisecond, lag: 3 * time.Millisecond, changed: make(chan struct{}, 1),
		real: map[config.Key]*config.Service{}, shown: map[config.Key]*config.Service{}, left: map[config.Key]config.Released{},
		inflight: map[config.Key]bool{}, rest: config.Snapshot{Synced: true},
	}
}

func (c *cluster) Changed() <-chan struct{} { return c.changed }

func (c *cluster) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *cluster) Snapshot() *config.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.rest
	s.Services = slices.SortedFunc(maps.Values(c.shown), func(a, b *config.Service) int { return a.Key.Compare(b.Key) })
	for _, r := range c.left {
		s.Released = append(s.Released, r)
	}
	s.Objects = slices.Clone(s.Objects)
	return &s
}

// put makes or changes a Service as a user would; what is zero in the status stays as it is.
func (c *cluster) put(s config.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	s.Version = strconv.Itoa(c.version)
	if was := c.real[s.Key]; was != nil {
		s.UID, s.Created = was.UID, was.Created
		s.Ingress, s.Allocated, s.Announced = was.Ingress, was.Allocated, was.Announced
	} else if s.UID == "" {
		s.UID, s.Created = "uid-"+s.Version, time.Now()
	}
	if s.Families == nil {
		s.Families = []config.Family{config.IPv4}
	}
	c.real[s.Key] = &s
	c.show(s.Key, &s)
}

// show lets the watch bring a version after its lag. The lock is held.
func (c *cluster) show(k config.Key, s *config.Service) {
	time.AfterFunc(c.lag, func() {
		c.mu.Lock()
		if have := c.shown[k]; s != nil && (have == nil || number(have.Version) < number(s.Version)) && c.real[k] != nil {
			c.shown[k] = s
		}
		if s == nil && c.real[k] == nil {
			delete(c.shown, k)
		}
		c.mu.Unlock()
		c.signal()
	})
}

func number(version string) int {
	n, err := strconv.Atoi(version)
	if err != nil {
		panic("fake: version " + version)
	}
	return n
}

func (c *cluster) delete(k config.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.real, k)
	c.show(k, nil)
}

// change changes what is not a Service.
func (c *cluster) change(f func(*config.Snapshot)) {
	c.mu.Lock()
	f(&c.rest)
	c.mu.Unlock()
	c.signal()
}

func (c *cluster) begin(k config.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inflight[k] {
		c.t.Errorf("two writes to Service %s at once", k)
	}
	c.inflight[k] = true
	c.most = max(c.most, len(c.inflight))
}

func (c *cluster) WriteService(ctx context.Context, w kube.ServiceStatus) error {
	c.begin(w.Key)
	select {
	case <-time.After(c.latency):
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inflight, w.Key)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.refuse != nil {
		if err := c.refuse(w); err != nil {
			return err
		}
	}
	have := c.real[w.Key]
	if have == nil {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, w.Key.String())
	}
	if have.UID != w.UID || have.Version != w.Version {
		return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, w.Key.String(), errors.New("changed"))
	}
	c.apply(w, *have)
	return nil
}

// apply makes the next version of a Service. The lock is held.
func (c *cluster) apply(w kube.ServiceStatus, s config.Service) {
	before := s
	if w.Ingress != nil {
		s.Ingress = *w.Ingress
	}
	if w.Allocated != nil {
		s.Allocated = *w.Allocated
	}
	if w.Announced != nil {
		s.Announced = *w.Announced
	}
	if slices.Equal(before.Ingress, s.Ingress) && before.Allocated == s.Allocated && before.Announced == s.Announced {
		c.t.Errorf("a write to Service %s that changes nothing: %+v", w.Key, w)
	}
	c.version++
	s.Version = strconv.Itoa(c.version)
	c.real[w.Key] = &s
	c.shown[w.Key] = &s // the writer puts the answer into the source
	c.writes = append(c.writes, w)
	if w.Ingress != nil {
		c.distinct(s)
	}
	c.signal()
}

// distinct checks that no other Service holds an address of this one. The lock is held.
func (c *cluster) distinct(s config.Service) {
	for _, o := range c.real {
		if o.Key == s.Key {
			continue
		}
		for _, a := range o.Ingress {
			if slices.Contains(s.Ingress, a) {
				c.t.Errorf("%s is held by %s and %s", a, o.Key, s.Key)
			}
		}
	}
}

func (c *cluster) ReleaseService(_ context.Context, r config.Released) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.left[r.Key]; !ok {
		c.t.Errorf("release of %s, which is not to be released", r.Key)
	}
	delete(c.left, r.Key)
	c.signal()
	return nil
}

func (c *cluster) WriteReady(_ context.Context, ref config.Ref, generation int64, ready config.Condition) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rest.Objects, func(o config.Object) bool { return o.Ref == ref })
	if i < 0 {
		return apierrors.NewNotFound(schema.GroupResource{Resource: ref.Kind}, ref.Name)
	}
	ready.ObservedGeneration = generation
	if c.rest.Objects[i].Ready == ready {
		c.t.Errorf("a write to %s that changes nothing", ref)
	}
	c.rest.Objects[i].Ready = ready
	c.objects = append(c.objects, fmt.Sprintf("%s Ready=%s %s", ref, ready.Status, ready.Reason))
	c.signal()
	return nil
}

func (c *cluster) WritePoolStatus(_ context.Context, name string, status config.PoolStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rest.Pools, func(p *config.Pool) bool { return p.Name == name })
	if i < 0 {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "ipaddresspools"}, name)
	}
	p := *c.rest.Pools[i]
	if p.Status == status {
		c.t.Errorf("a write to pool %s that changes nothing", name)
	}
	p.Status = status
	c.rest.Pools = slices.Clone(c.rest.Pools)
	c.rest.Pools[i] = &p
	c.objects = append(c.objects, fmt.Sprintf("pool %s assigned=%d", name, status.IPv4.Assigned))
	c.signal()
	return nil
}

func (c *cluster) Retain(_ context.Context, r kube.Retention) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse != nil {
		if err := c.refuse(kube.ServiceStatus{Key: r.Service}); err != nil {
			return err
		}
	}
	c.version++
	kept := &config.Reservation{
		Name: kube.RetentionName(r.Service), UID: "kept-" + strconv.Itoa(c.version), Addresses: r.Addresses, Service: r.Service,
		ExpiresAt: r.Until.Truncate(time.Second), Retained: true,
	}
	c.rest.Reservations = append(without(c.rest.Reservations, kept.Name), kept)
	c.objects = append(c.objects, fmt.Sprint("keep ", r.Addresses, " for ", r.Service))
	c.signal()
	time.AfterFunc(time.Until(kept.ExpiresAt), func() { c.expire(kept) })
	return nil
}

// expire makes a reservation an expired one, as the source does when its time comes.
func (c *cluster) expire(r *config.Reservation) {
	c.change(func(s *config.Snapshot) {
		if i := slices.Index(s.Reservations, r); i >= 0 {
			expired := *r
			expired.Expired = true
			s.Reservations = slices.Clone(s.Reservations)
			s.Reservations[i] = &expired
		}
	})
}

func without(list []*config.Reservation, name string) []*config.Reservation {
	return slices.DeleteFunc(slices.Clone(list), func(r *config.Reservation) bool { return r.Name == name })
}

func (c *cluster) DeleteReservation(_ context.Context, name, uid string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.rest.Reservations, func(r *config.Reservation) bool { return r.Name == name && r.UID == uid })
	if i < 0 || !c.rest.Reservations[i].Retained {
		c.t.Errorf("deletion of IPReservation %s, which is not there or not Herald's", name)
	}
	c.rest.Reservations = without(c.rest.Reservations, name)
	c.objects = append(c.objects, "discard "+name)
	c.signal()
	return nil
}

func (c *cluster) Emit(e kube.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, e)
}

func (c *cluster) service(k config.Key) config.Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.real[k]; s != nil {
		return *s
	}
	return config.Service{}
}

// forget empties the records of what happened and returns how many writes there were.
func (c *cluster) forget() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.writes) + len(c.objects)
	c.writes, c.events, c.objects = nil, nil, nil
	return n
}

// records is what happened so far.
type records struct {
	writes  []kube.ServiceStatus
	objects []string
	most    int
	left    int
	pool    config.PoolStatus // of the first pool
}

func (c *cluster) records() records {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := records{writes: slices.Clone(c.writes), objects: slices.Clone(c.objects), most: c.most, left: len(c.left)}
	if len(c.rest.Pools) > 0 {
		r.pool = c.rest.Pools[0].Status
	}
	return r
}

// assignments counts the writes that gave or took addresses.
func (c *cluster) assignments() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.writes {
		if w.Ingress != nil {
			n++
		}
	}
	return n
}

func (c *cluster) eventReasons(k config.Key) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, e := range c.events {
		if e.Service == k {
			out = append(out, e.Reason)
		}
	}
	return out
}

// start runs a controller that leads at once, and returns the function that ends it.
func (c *cluster) start() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	ctl := c.controller(func(ctx context.Context, lead func(context.Context)) error {
		lead(ctx)
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- ctl.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("Run: %v", err)
		}
	}
}

func (c *cluster) controller(elect func(context.Context, func(context.Context)) error) *Controller {
	return New(Options{
		Source: c, Writer: c, Events: c, Elect: elect, EnsureKey: func(context.Context) error { return nil },
		Metrics: NewMetrics(), Log: slog.New(slog.DiscardHandler),
	})
}

func key(name string) config.Key { return config.Key{Namespace: "default", Name: name} }

func service(name string) config.Service { return config.Service{Key: key(name)} }

func addrs(text ...string) []netip.Addr {
	out := make([]netip.Addr, len(text))
	for i, s := range text {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

func pool(name, from, to string) *config.Pool {
	return &config.Pool{Name: name, AutoAssign: true, Ranges: []config.Range{{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}}}
}
