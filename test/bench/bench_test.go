package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/probe"
	"github.com/heraldlb/herald/test/lab/router"
)

func TestMain(m *testing.M) { lab.Main(m, lab.Build{Herald: true}) }

// tries is how often things are measured that take a moment; rounds, those that take a while.
const (
	tries   = 20
	rounds  = 7
	patient = time.Minute
	pause   = 300 * time.Millisecond // between tries: what one has begun shall not disturb the next
)

// bench is one run of all measurements.
type bench struct {
	*scene.Scene
	t *testing.T
}

// TestFigures measures everything and prints the table.
func TestFigures(t *testing.T) {
	netlab.Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := scene.Open(ctx, lab.Options{Dir: os.Getenv("HERALD_BENCH_DIR")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("ending the laboratory: %v", err)
		}
	})
	var figures []*figure
	for _, m := range []struct {
		name    string
		measure func(*bench) []*figure
	}{
		{"layer 2", (*bench).layer2},
		{"BGP", (*bench).bgp},
		{"link cut", (*bench).linkCut},
		{"speaker killed", (*bench).speakerKilled},
		{"2000 Services", (*bench).flood},
	} {
		t.Run(m.name, func(t *testing.T) {
			figures = append(figures, m.measure(&bench{s, t})...)
		})
	}
	t.Logf("router: %s\n%s", s.Router.Kind(), table(figures))
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// try is one new Service, and when what happened to it.
type try struct {
	asked     time.Time // just before the API server was asked
	created   time.Time // its answer
	endpoints time.Time // its EndpointSlice was seen
	assigned  time.Time // its address was seen in its status
}

// service creates a Service with a given address in front of the web servers and watches what becomes of it. The watches tell when the
// API server said so: the speakers hear it at the same time.
func (b *bench) service(ctx context.Context, name string, ip netip.Addr) try {
	b.t.Helper()
	services, err := b.Services().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	b.must(err)
	defer services.Stop()
	slices, err := b.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + name})
	b.must(err)
	defer slices.Stop()
	o := scene.Service(name, scene.SingleStack(corev1.IPv4Protocol), scene.Annotate(scene.IPsAnnotation, ip.String()))
	r := try{asked: time.Now()}
	_, err = b.Services().Create(ctx, o, metav1.CreateOptions{})
	b.must(err)
	r.created = time.Now()
	for r.endpoints.IsZero() || r.assigned.IsZero() {
		var event watch.Event
		select {
		case event = <-services.ResultChan():
		case event = <-slices.ResultChan():
		case <-ctx.Done():
			b.t.Fatalf("Service %s: %v", name, ctx.Err())
		}
		r.take(event, time.Now())
	}
	return r
}

func (r *try) take(event watch.Event, now time.Time) {
	switch o := event.Object.(type) {
	case *corev1.Service:
		if r.assigned.IsZero() && len(o.Status.LoadBalancer.Ingress) > 0 {
			r.assigned = now
		}
	case *discoveryv1.EndpointSlice:
		if r.endpoints.IsZero() && len(o.Endpoints) > 0 {
			r.endpoints = now
		}
	}
}

// stages are the figures that every kind of announcement has.
type stages struct{ created, endpoints, assigned, seen *figure }

func newStages(what string, aim time.Duration) stages {
	return stages{
		created:   &figure{what: "  of which: the API server answered"},
		endpoints: &figure{what: "  of which: Kubernetes told of its endpoints"},
		assigned:  &figure{what: "  of which: its address was in its status"},
		seen:      &figure{what: what, aim: aim},
	}
}

func (s stages) add(r try, seen time.Time) {
	s.created.add(r.created.Sub(r.asked))
	s.endpoints.add(r.endpoints.Sub(r.asked))
	s.assigned.add(r.assigned.Sub(r.asked))
	s.seen.add(seen.Sub(r.asked))
}

// layer2 measures the time from asking for a Service to the first answer to ARP.
func (b *bench) layer2() []*figure {
	s := newStages("new Service to first ARP answer on the LAN", 60*time.Millisecond)
	for i := range tries {
		ip := netip.AddrFrom4([4]byte{192, 168, 100, byte(201 + i)})
		ctx, cancel := context.WithTimeout(b.t.Context(), patient)
		answered := make(chan probe.Answer, 1)
		go func() {
			answer, err := b.FirstAnswer(ctx, ip, time.Millisecond)
			if err != nil {
				b.t.Error(err)
			}
			answered <- answer
		}()
		name := fmt.Sprintf("bench-l2-%d", i)
		r := b.service(ctx, name, ip)
		s.add(r, (<-answered).Time)
		b.remove(ctx, name)
		cancel()
		time.Sleep(pause)
	}
	return []*figure{s.seen, s.created, s.endpoints, s.assigned}
}

// bgp measures the time from asking for a Service to its route in the router's kernel.
func (b *bench) bgp() []*figure {
	s := newStages("new Service to route in the router's kernel", 100*time.Millisecond)
	heard := &figure{what: "  of which: the first UPDATE reached the router"}
	all := &figure{what: "new Service to route by all nodes"}
	for i := range tries {
		ip := netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)})
		ctx, cancel := context.WithTimeout(b.t.Context(), patient)
		watch, err := router.NewWatch(b.RouterHost)
		b.must(err)
		listener, err := newUpdates(b.RouterHost, "eth0", ip)
		b.must(err)
		update := make(chan time.Time, 1)
		go func() { update <- listener.first(ctx) }()
		name := fmt.Sprintf("bench-bgp-%d", i)
		r := b.service(ctx, name, ip)
		first, full := b.route(ctx, watch, ip)
		s.add(r, first)
		heard.add((<-update).Sub(r.asked))
		all.add(full.Sub(r.asked))
		b.must(watch.Close())
		b.remove(ctx, name)
		cancel()
		time.Sleep(pause)
	}
	return []*figure{s.seen, s.created, s.endpoints, s.assigned, heard, all}
}

// route waits until the router has a route to ip, and until that leads to all nodes.
func (b *bench) route(ctx context.Context, w *router.Watch, ip netip.Addr) (first, full time.Time) {
	b.t.Helper()
	for {
		select {
		case e := <-w.Events():
			if e.Deleted || e.Route.Prefix.Addr() != ip {
				continue
			}
			if first.IsZero() {
				first = e.Time
			}
			if len(e.Route.NextHops) == len(b.Nodes) {
				return first, e.Time
			}
		case <-ctx.Done():
			b.t.Fatalf("no route to %s by all nodes: %v", ip, ctx.Err())
		}
	}
}

// linkCut measures for how long nobody answers when the node that does loses its cable.
func (b *bench) linkCut() []*figure {
	f := &figure{what: "node's link cut: time without an answer to ARP (3 nodes)", aim: time.Second}
	b.outages(f, "cut", func(old string) {
		b.must(b.Node(old).LAN.Cut())
	}, func(old string) {
		b.must(b.Node(old).LAN.Restore())
	})
	return []*figure{f}
}

// speakerKilled measures the same when the speaker dies, and is started again by the kubelet.
func (b *bench) speakerKilled() []*figure {
	f := &figure{what: "speaker killed (kill -9): time without an answer to ARP"}
	b.outages(f, "kill", func(old string) {
		b.must(b.Node(old).Kubelet().Signal(b.Namespace, b.Name("speaker"), "", unix.SIGKILL))
		time.Sleep(time.Second)
	}, func(string) {})
	return []*figure{f}
}

// outages measures some times what happens to a Service's address when something is done to the node that answers for it.
func (b *bench) outages(f *figure, name string, harm, mend func(node string)) {
	b.t.Helper()
	ctx := b.t.Context()
	_, err := b.Services().Create(ctx, scene.Service("bench-"+name, scene.SingleStack(corev1.IPv4Protocol)), metav1.CreateOptions{})
	b.must(err)
	var ip netip.Addr
	b.must(b.Wait(ctx, "its address", func(ctx context.Context) error {
		o, err := b.Services().Get(ctx, "bench-"+name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := scene.IsAnnounced(o); err != nil {
			return err
		}
		ips, err := scene.Ingress(o)
		ip = ips[0]
		return err
	}))
	for range rounds {
		f.add(b.outage(ctx, ip, harm, mend))
	}
	b.remove(ctx, "bench-"+name)
}

func (b *bench) outage(ctx context.Context, ip netip.Addr, harm, mend func(node string)) time.Duration {
	b.t.Helper()
	owner := func(not string) (name string) {
		b.t.Helper()
		ctx, cancel := context.WithTimeout(ctx, patient)
		defer cancel()
		b.must(b.Wait(ctx, "one node to answer", func(ctx context.Context) (err error) {
			if name, err = b.Owner(ctx, ip); err == nil && name == not {
				err = errors.New("it is the old one")
			}
			return err
		}))
		return name
	}
	old := owner("")
	cold, err := b.Watch(ip)
	b.must(err)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan probe.Report, 1)
	go func() {
		report, err := cold.Run(watching)
		if err != nil {
			b.t.Error(err)
		}
		done <- report
	}()
	time.Sleep(pause)
	harm(old)
	owner("")
	time.Sleep(2 * time.Second)
	stop()
	report := <-done
	mend(old)
	b.must(b.WaitSpeakers(ctx))
	time.Sleep(pause)
	return report.LongestGap().Duration()
}

// flood creates 2,000 Services.
func (b *bench) flood() []*figure {
	const n, workers = 2000, 16
	creating := &figure{what: "2,000 Services: created by 16 workers"}
	lag := &figure{what: "2,000 Services: last creation's return to last address", aim: time.Second}
	for i := range 3 {
		f, err := b.NewFlood(b.t.Context(), fmt.Sprintf("bench-%d", i))
		b.must(err)
		began := time.Now()
		created, err := f.Create(b.t.Context(), n, workers, scene.FromPool("many"))
		b.must(err)
		ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
		last, err := f.Wait(ctx, n)
		b.must(errors.Join(err, f.Check(netip.MustParsePrefix("10.200.0.0/20")), f.Close(ctx)))
		cancel()
		creating.add(created.Sub(began))
		lag.add(max(0, last.Sub(created)))
		time.Sleep(5 * time.Second) // what the controllers of Kubernetes have to clear up
	}
	return []*figure{creating, lag}
}

func (b *bench) remove(ctx context.Context, name string) {
	b.t.Helper()
	err := b.Services().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		b.t.Fatal(err)
	}
}
