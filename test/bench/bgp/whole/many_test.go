package whole

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/e2e/scene"
)

const (
	servicesEnv = "HERALD_BENCH_SERVICES"
	workers     = 16
	tries       = 20
	idle        = 30 * time.Second
	// proxyLabel keeps the node's kube-proxy out of it: Herald is measured.
	proxyLabel = "service.kubernetes.io/service-proxy-name"
)

// TestManyRoutes has thousands of Services made through the API, with the controller at work, and measures the speaker of a node until four
// routers have the routes of all, and after that.
func TestManyRoutes(t *testing.T) {
	n := figures.Number(t, servicesEnv, 10_000)
	s := open(t, 1)
	all := s.stations()
	pid := s.speaker()
	used := s.cpu(pid)
	began := time.Now()
	s.create(n)
	created := time.Since(began)
	s.received(n, all)
	s.report.Add("", figures.Text(time.Since(began)-created), "%d Services made in %s by %d workers: after the last until 4 FRR peers have all routes", n, figures.Text(created), workers)
	s.announced()
	s.report.Add("20s", figures.Text(s.cpu(pid)-used), "processor time of the speaker for that, and until all Services are said to be announced")
	s.standing(pid, fmt.Sprintf("with %d Services at 4 peers", n))

	s.report.Add("100ms", figures.Span(s.oneMore(n, all)), "one more Service at %d: from the call that makes it until all 4 FRR have its route, median of %d", n, tries)
	s.report.Add("100ms", figures.Span(s.ready(all[len(all)-1])), "an endpoint of one of %d becomes ready: from that call until FRR has the route, median of %d", n, tries)
	s.restart(n+tries, pid)
}

// standing reports what it costs to have all this, and do nothing.
func (s *stage) standing(pid int, when string) {
	s.t.Helper()
	s.report.Add("150 MiB", mebibytes(s.memory(pid, "VmRSS")), "memory (RSS) of the speaker %s; at most it had %s", when, mebibytes(s.memory(pid, "VmHWM")))
	used := s.cpu(pid)
	time.Sleep(idle)
	s.report.Add("1 %", fmt.Sprintf("%.2f %%", 100*(s.cpu(pid)-used).Seconds()/idle.Seconds()), "of a processor for the speaker %s, when nothing changes for %s", when, idle)
}

// speaker returns the process of the node's speaker.
func (s *stage) speaker() int {
	s.t.Helper()
	p, err := s.Nodes[0].Kubelet().Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID))
	s.must(err)
	if !strings.HasPrefix(filepath.Base(name), "herald-speaker") {
		s.t.Fatalf("process %d is %s, not the speaker", p.PID, name)
	}
	return p.PID
}

func (s *stage) cpu(pid int) time.Duration {
	s.t.Helper()
	used, err := figures.CPU(pid)
	s.must(err)
	return used
}

func (s *stage) memory(pid int, field string) float64 {
	s.t.Helper()
	size, err := figures.Memory(pid, field)
	s.must(err)
	return size
}

func serviceName(i int) string { return fmt.Sprintf("bench-%05d", i) }

// create makes the first n Services.
func (s *stage) create(n int) {
	s.t.Helper()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(s.t.Context())
	for range workers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := s.createOne(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.must(group.Wait())
}

// createOne makes a Service with a ready endpoint.
func (s *stage) createOne(ctx context.Context, i int) error {
	if err := s.createSlice(ctx, i); err != nil {
		return err
	}
	o := scene.Service(serviceName(i), scene.Selecting(""), scene.FromPool("bench"), scene.SingleStack(corev1.IPv4Protocol))
	o.Labels = map[string]string{proxyLabel: "nobody"}
	_, err := s.Services().Create(ctx, o, metav1.CreateOptions{})
	return err
}

func (s *stage) createSlice(ctx context.Context, i int) error {
	labels := map[string]string{proxyLabel: "nobody", discoveryv1.LabelServiceName: serviceName(i), discoveryv1.LabelManagedBy: "herald-bench"}
	ready, node, port, name := true, s.Nodes[0].Name, int32(8080), "http"
	_, err := s.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: serviceName(i), Namespace: metav1.NamespaceDefault, Labels: labels},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.2"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}, metav1.CreateOptions{})
	return err
}

// announced waits until every Service is said to be announced, which the controller writes last.
func (s *stage) announced() {
	s.t.Helper()
	s.until(2*time.Second, "all Services to be said to be announced", func(ctx context.Context) (bool, error) {
		list, err := s.Services().List(ctx, metav1.ListOptions{LabelSelector: proxyLabel})
		if err != nil {
			return false, err
		}
		for i := range list.Items {
			if err := scene.IsAnnounced(&list.Items[i]); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	runtime.GC()     // of this process, so that it does not disturb
	time.Sleep(calm) // what was written last has been read
}

// oneMore makes one Service at a time and looks for its route at all routers.
func (s *stage) oneMore(n int, all []*station) (took []time.Duration) {
	s.t.Helper()
	taken := s.addresses()
	for i := range tries {
		s.must(s.createSlice(s.t.Context(), n+i)) // beforehand: that it takes two calls is no matter of Herald's
		time.Sleep(calm / 2)
		expected := firstFree(taken)
		began := time.Now()
		o := scene.Service(serviceName(n+i), scene.Selecting(""), scene.FromPool("bench"), scene.SingleStack(corev1.IPv4Protocol),
			scene.Annotate(scene.IPsAnnotation, expected.String()))
		o.Labels = map[string]string{proxyLabel: "nobody"}
		_, err := s.Services().Create(s.t.Context(), o, metav1.CreateOptions{})
		s.must(err)
		for _, st := range all {
			s.until(time.Millisecond, "one more route", func(ctx context.Context) (bool, error) { return st.vty.Has(ctx, netip.PrefixFrom(expected, 32)) })
		}
		took = append(took, time.Since(began))
		taken[expected] = true
		time.Sleep(calm / 2)
	}
	return took
}

// addresses are those that are assigned.
func (s *stage) addresses() map[netip.Addr]bool {
	s.t.Helper()
	list, err := s.Services().List(s.t.Context(), metav1.ListOptions{LabelSelector: proxyLabel})
	s.must(err)
	taken := make(map[netip.Addr]bool, len(list.Items))
	for i := range list.Items {
		ips, err := scene.Ingress(&list.Items[i])
		s.must(err)
		for _, ip := range ips {
			taken[ip] = true
		}
	}
	return taken
}

// firstFree is an address of the pool that nobody has.
func firstFree(taken map[netip.Addr]bool) netip.Addr {
	a := netip.MustParseAddr("10.64.0.1")
	for taken[a] {
		a = a.Next()
	}
	return a
}

// ready takes the only endpoint of a Service away and gives it back.
func (s *stage) ready(at *station) (took []time.Duration) {
	s.t.Helper()
	slices := s.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	o, err := s.Services().Get(s.t.Context(), serviceName(0), metav1.GetOptions{})
	s.must(err)
	ips, err := scene.Ingress(o)
	s.must(err)
	route := netip.PrefixFrom(ips[0], 32)
	set := func(ready, has bool) time.Duration {
		slice, err := slices.Get(s.t.Context(), serviceName(0), metav1.GetOptions{})
		s.must(err)
		slice.Endpoints[0].Conditions.Ready = &ready
		began := time.Now()
		_, err = slices.Update(s.t.Context(), slice, metav1.UpdateOptions{})
		s.must(err)
		s.until(time.Millisecond, "the route to follow", func(ctx context.Context) (bool, error) {
			is, err := at.vty.Has(ctx, route)
			return is == has, err
		})
		return time.Since(began)
	}
	for range tries {
		set(false, false)
		time.Sleep(calm / 2)
		took = append(took, set(true, true))
		time.Sleep(calm / 2)
	}
	return took
}

// restart ends the speaker as a kubelet does that starts its container again, and measures until it is where it was.
func (s *stage) restart(n, before int) {
	s.t.Helper()
	began := time.Now()
	s.must(s.Nodes[0].Kubelet().Signal(s.Namespace, s.Name("speaker"), "", unix.SIGTERM))
	var started time.Time
	s.until(5*time.Millisecond, "the speaker to run again", func(context.Context) (bool, error) {
		p, err := s.Nodes[0].Kubelet().Find(s.Namespace, s.Name("speaker"), "")
		started = time.Now()
		return err == nil && p.PID != before, errors.Join(err, errors.New("it has not ended"))
	})
	s.until(20*time.Millisecond, "the speaker to have told all again", func(ctx context.Context) (bool, error) {
		of, err := s.Sessions(ctx, s.Nodes[0].Name)
		if err != nil {
			return false, err
		}
		for _, session := range of {
			if session.Since.Time.Before(began) {
				return false, fmt.Errorf("the session to %s is the old one", session.Peer)
			}
		}
		return s.told(ctx, n)
	})
	took := time.Since(started)
	pid := s.speaker()
	s.report.Add("", figures.Text(took), "restart with %d Services: from the start of the process until its status says that 4 peers were told all", n)
	s.report.Add("20s", figures.Text(s.cpu(pid)), "restart with %d Services: processor time of the speaker until then", n)
	s.announced()
	s.standing(pid, "after the restart")
}
