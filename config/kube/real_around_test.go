package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
)

func testEvents(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	e := NewEvents(c, EventsOptions{Component: "heraldlb.io/controller", Instance: "pod-1", Log: discard()})
	start(t, e.Run)
	e.Emit(Event{Service: config.Key{Namespace: "default", Name: "web"}, UID: "u", Reason: "AddressAssigned", Action: "Allocate", Note: "192.0.2.1 from pool a"})
	e.Emit(Event{Object: config.Ref{Kind: parse.KindPool, Name: "p"}, Reason: "X", Action: "Y", Warning: true})
	eventually(t, "both events", func() bool {
		list, err := c.core.EventsV1().Events("default").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, ev := range list.Items {
			if ev.ReportingController == "heraldlb.io/controller" && ev.ReportingInstance == "pod-1" {
				found++
			}
		}
		return found == 2
	})
}

func testSecret(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	made := 0
	ensure := func() error {
		return c.EnsureSecret(context.Background(), "herald-system", "made", "key", func() []byte { made++; return []byte{byte(made)} })
	}
	for range 3 {
		if err := ensure(); err != nil {
			t.Fatal(err)
		}
	}
	s.kubectl("", "-n", "herald-system", "patch", "secret", "made", "--type=json", "-p", `[{"op":"remove","path":"/data"}]`)
	if err := ensure(); err != nil || made != 2 {
		t.Fatalf("%v, made %d times", err, made)
	}
	secret, err := c.core.CoreV1().Secrets("herald-system").Get(context.Background(), "made", metav1.GetOptions{})
	if err != nil || secret.Data["key"][0] != 2 {
		t.Errorf("%v, %v", secret, err)
	}
	if err := s.client(nobodyToken).EnsureSecret(context.Background(), "herald-system", "made", "key", nil); err == nil || !strings.Contains(err.Error(), "allow this ServiceAccount") {
		t.Errorf("got %v", err)
	}
}

func testElect(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	var mu sync.Mutex
	var leading, most int
	lead := make(chan string, 10)
	stand := func(ctx context.Context, who string) error {
		return c.Elect(ctx, ElectOptions{Namespace: "herald-system", Lease: "test", Identity: who, Log: discard()}, func(ctx context.Context) {
			mu.Lock()
			leading++
			most = max(most, leading)
			mu.Unlock()
			lead <- who
			<-ctx.Done()
			mu.Lock()
			leading--
			mu.Unlock()
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- stand(ctx, "a") }()
	if who := <-lead; who != "a" {
		t.Fatal(who)
	}
	start(t, func(ctx context.Context) error { return stand(ctx, "b") })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	released := time.Now()
	if who := <-lead; who != "b" {
		t.Fatal(who)
	}
	t.Logf("taken over %s after the release", time.Since(released).Round(time.Millisecond))
	mu.Lock()
	defer mu.Unlock()
	if most != 1 {
		t.Errorf("%d leaders at the same time", most)
	}
}

func testForbidden(t *testing.T, s *apiServer) {
	log := &lines{}
	src := NewSource(s.client(nobodyToken), SourceOptions{Namespace: "herald-system", Role: Controller, Log: log.logger()})
	start(t, src.Run)
	toldOnce(t, log, "not allowed to use", src.resources())

	leases := &lines{}
	start(t, func(ctx context.Context) error {
		return s.client(nobodyToken).Elect(ctx, ElectOptions{Namespace: "herald-system", Lease: "test", Identity: "x", Log: leases.logger()}, func(context.Context) {
			t.Error("elected without being allowed to")
		})
	})
	toldOnce(t, leases, "not allowed to use", []string{"leases"})
}

// testLatency is no test of a limit: it prints how long a Service takes from its creation into a snapshot, and a write from there.
func testLatency(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Role: Controller})
	w := NewWriter(c, src)
	var in, out []time.Duration
	for i := range 20 {
		name := fmt.Sprintf("latency-%d", i)
		begun := time.Now()
		_, err := c.core.CoreV1().Services("default").Create(context.Background(), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}, AllocateLoadBalancerNodePorts: new(bool)},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		created := time.Since(begun)
		for find(src, name) == nil {
			<-src.Changed()
		}
		in = append(in, time.Since(begun)-created)
		v, begun := find(src, name), time.Now()
		if err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Version: v.Version, Ingress: addrs("192.0.2.1")}); err != nil {
			t.Fatal(err)
		}
		out = append(out, time.Since(begun))
	}
	slices.Sort(in)
	slices.Sort(out)
	t.Logf("from the answer to the creation into a snapshot: median %s, longest %s; a status write: median %s, longest %s", in[10], in[19], out[10], out[19])
}

func testOutage(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	log := &lines{}
	src := s.source(t, c, SourceOptions{Role: Controller, Log: log.logger()})
	before := src.Snapshot()
	if len(before.Services) == 0 {
		t.Fatal("nothing to lose")
	}
	s.stopAPI()
	eventually(t, "a line in the log", func() bool { return len(log.containing("unreachable")) == 1 })
	if src.Snapshot() != before || src.Err() == nil {
		t.Error("an outage changes the snapshot")
	}
	s.startAPI()
	eventually(t, "the API server again", func() bool { return src.Err() == nil })
	s.apply(service("after", ""))
	seen(t, src, "after")
	eventually(t, "a line in the log", func() bool { return len(log.containing("reachable again")) == 1 })
	if got := log.containing(""); len(got) != 2 {
		t.Errorf("logged %q", got)
	}
}
