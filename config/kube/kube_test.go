package kube

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// lines is a log that a test reads.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// containing returns the lines so far that contain s.
func (l *lines) containing(s string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, s) {
			out = append(out, line)
		}
	}
	return out
}

// resources are what a Source watches, sorted.
func (s *Source) resources() []string {
	var all []string
	for _, f := range s.feeds {
		all = append(all, f.resource)
	}
	slices.Sort(all)
	return all
}

// toldOnce waits until a log names all these resources, and checks that it names each once, in lines that contain want, and says nothing
// else. How many lines these are depends on how long the machine takes to ask for all.
func toldOnce(t *testing.T, log *lines, want string, resources []string) {
	t.Helper()
	attr := regexp.MustCompile(`resources=("[^"]*"|\S+)`)
	named := func() []string {
		var all []string
		for _, line := range log.containing(want) {
			for _, m := range attr.FindAllStringSubmatch(line, -1) {
				all = append(all, strings.Split(strings.Trim(m[1], `"`), ",")...)
			}
		}
		slices.Sort(all)
		return all
	}
	eventually(t, "a line in the log for all resources", func() bool { return len(named()) >= len(resources) })
	if diff := cmp.Diff(resources, named()); diff != "" {
		t.Errorf("resources in the log (-want +got):\n%s", diff)
	}
	if all, good := log.containing(""), log.containing(want); len(all) != len(good) || len(good) > 3 {
		t.Errorf("logged %q, want few lines, all with %q", all, want)
	}
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("did not happen: %s", what)
		case <-tick.C:
		}
	}
}

// start runs something until the test ends, and waits for it.
func start(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func gr(resource string) schema.GroupResource { return schema.GroupResource{Resource: resource} }

// runHealth runs a health until the test ends.
func runHealth(t *testing.T) (*health, *lines) {
	log := &lines{}
	h := newHealth(log.logger())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return h, log
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := runHealth(t)

		refused := &net.OpError{Op: "dial", Err: context.DeadlineExceeded}
		missing := apierrors.NewNotFound(gr("x"), "")
		forbidden := apierrors.NewForbidden(gr("x"), "", nil)
		type outcome struct {
			resource string
			err      error
		}
		steps := []struct {
			outcomes []outcome
			log      []string // parts of the lines
			bad      bool     // Err afterwards
		}{
			{[]outcome{{"services", nil}}, nil, false},
			{[]outcome{{"services", refused}, {"nodes", refused}}, []string{"unreachable; what is in force stays in force\" resources=nodes,services"}, true},
			{[]outcome{{"services", refused}, {"bgppeers", refused}}, nil, true},
			{[]outcome{{"services", nil}}, nil, true},
			{[]outcome{{"nodes", apierrors.NewServiceUnavailable("x")}}, nil, true},
			{[]outcome{{"nodes", nil}, {"bgppeers", nil}}, []string{"API server reachable again"}, false},
			{[]outcome{{"nodes", refused}, {"nodes", nil}}, nil, false},
			{[]outcome{{"bgppeers", missing}, {"ipaddresspools", missing}}, []string{"resources=bgppeers,ipaddresspools"}, true},
			{[]outcome{{"bgppeers", missing}}, nil, true},
			{[]outcome{{"nodes", forbidden}, {"bgppeers", nil}}, []string{"not allowed to use", "available again\" resources=bgppeers"}, true},
			{[]outcome{{"nodes", apierrors.NewUnauthorized("x")}}, []string{"refuses our credentials"}, true},
			{[]outcome{{"nodes", nil}, {"ipaddresspools", nil}}, []string{"available again\" resources=ipaddresspools,nodes"}, false},
			{[]outcome{
				{"services", apierrors.NewResourceExpired("x")},
				{"services", apierrors.NewTooManyRequests("x", 1)},
				{"services", apierrors.NewTimeoutError("too large resource version", 1)},
			}, nil, false},
		}
		for i, s := range steps {
			before := len(log.containing(""))
			for _, o := range s.outcomes {
				h.report(o.resource, o.err)
			}
			time.Sleep(2 * gathering)
			synctest.Wait()
			got := log.containing("")[before:]
			ok := len(got) == len(s.log)
			for j := range s.log {
				ok = ok && strings.Contains(got[j], s.log[j])
			}
			if !ok {
				t.Errorf("step %d: logged %q, want %q", i, got, s.log)
			}
			if bad := h.err() != nil; bad != s.bad {
				t.Errorf("step %d: err %v, want one: %t", i, h.err(), s.bad)
			}
		}
	})
}

// TestHealthGathers: what comes slowly, one resource after the other, is told in one line; what never ends is told all the same.
func TestHealthGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, log := runHealth(t)
		forbidden := apierrors.NewForbidden(gr("x"), "", nil)
		for _, resource := range []string{"a", "b", "c", "d", "e"} {
			h.report(resource, forbidden)
			time.Sleep(gathering * 9 / 10)
		}
		time.Sleep(gathering)
		synctest.Wait()
		if got := log.containing(""); len(got) != 1 || !strings.Contains(got[0], "resources=a,b,c,d,e") {
			t.Fatalf("logged %q, want one line for all", got)
		}
		for i := range 30 {
			h.report(fmt.Sprintf("r%02d", i), forbidden)
			time.Sleep(gathering / 2)
		}
		if got := log.containing("r00"); len(got) != 1 {
			t.Errorf("logged %q, want one line for what came in %s", got, gatheringMost)
		}
	})
}

// TestNobodyThere: without an API server a Source says so once, is not synced, and ends when told to.
func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	client, err := newClient(&rest.Config{Host: "http://" + address})
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	s := NewSource(client, SourceOptions{Namespace: "herald-system", Role: Controller, Log: log.logger()})
	start(t, s.Run)
	eventually(t, "an error for each resource", func() bool { return s.Err() != nil && strings.Count(s.Err().Error(), "\n") == len(s.feeds)-1 })
	eventually(t, "a line in the log", func() bool { return len(log.containing("")) > 0 })
	if got := log.containing(""); len(got) != 1 || !strings.Contains(got[0], "API server unreachable") {
		t.Errorf("logged %q, want one line", got)
	}
	if s.Snapshot().Synced {
		t.Error("synced with nobody")
	}
}

// TestRefused: an API server that refuses is reported once for all resources, with what to do.
func TestRefused(t *testing.T) {
	for code, want := range map[int]string{
		http.StatusNotFound: "install Herald's CRDs", http.StatusForbidden: "grant this ServiceAccount", http.StatusUnauthorized: "refuses our credentials",
	} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			var mu sync.Mutex
			asked := map[string]int{}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked[r.URL.Path]++
				mu.Unlock()
				http.Error(w, "no", code)
			}))
			defer server.Close()
			client, err := newClient(&rest.Config{Host: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			log := &lines{}
			s := NewSource(client, SourceOptions{Namespace: "herald-system", Role: Speaker, Node: "n", GossipSecret: "g", Log: log.logger()})
			start(t, s.Run)
			eventually(t, "several attempts at each resource", func() bool {
				mu.Lock()
				defer mu.Unlock()
				tried := 0
				for _, n := range asked {
					if n >= 4 {
						tried++
					}
				}
				return tried == len(s.feeds)-1 // both feeds of Secrets ask at one path
			})
			toldOnce(t, log, want, s.resources())
		})
	}
}

func TestNextCondition(t *testing.T) {
	old, now := metav1.Unix(1, 0), metav1.Unix(2, 0)
	have := []metav1.Condition{
		{Type: "other", Status: "True", LastTransitionTime: old},
		{Type: "c", Status: "True", Reason: "R", Message: "m", LastTransitionTime: old, ObservedGeneration: 3},
	}
	tests := []struct {
		name    string
		want    config.Condition
		differs bool
		at      metav1.Time
	}{
		{"equal", config.Condition{Status: "True", Reason: "R", Message: "m", ObservedGeneration: 3}, false, old},
		{"message", config.Condition{Status: "True", Reason: "R", Message: "n", ObservedGeneration: 3}, true, old},
		{"generation", config.Condition{Status: "True", Reason: "R", Message: "m", ObservedGeneration: 4}, true, old},
		{"status", config.Condition{Status: "False", Reason: "R", Message: "m", ObservedGeneration: 3}, true, now},
	}
	for _, tt := range tests {
		next, differs := nextCondition(have, "c", tt.want, now)
		if differs != tt.differs || next.LastTransitionTime != tt.at || string(next.Status) != tt.want.Status || next.Message != tt.want.Message {
			t.Errorf("%s: %+v, differs %t", tt.name, next, differs)
		}
	}
	if next, differs := nextCondition(have, "new", config.Condition{Status: "True"}, now); !differs || next.LastTransitionTime != now {
		t.Errorf("a new condition: %+v, differs %t", next, differs)
	}
}

func TestSameIngress(t *testing.T) {
	vip, proxy := corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	for name, tt := range map[string]struct {
		have []corev1.LoadBalancerIngress
		same bool
	}{
		"what we write": {ingress(want), true},
		"none":          {nil, false},
		"two":           {append(ingress(want), ingress(want)...), false},
		"without mode":  {[]corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, false},
		"mode VIP":      {[]corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &vip}}, true},
		"mode Proxy":    {[]corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &proxy}}, false},
		"hostname too":  {[]corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &vip, Hostname: "x"}}, false},
	} {
		if got := sameIngress(tt.have, want); got != tt.same {
			t.Errorf("%s: %t", name, got)
		}
	}
	if !sameIngress(nil, nil) || ingress(nil) != nil {
		t.Error("no addresses is not null")
	}
}

func TestEventBuild(t *testing.T) {
	e := NewEvents(&Client{}, EventsOptions{Component: "heraldlb.io/controller", Instance: strings.Repeat("i", 200), Log: discard()})
	at := time.Unix(100, 5)
	got := e.build(Event{
		Service: config.Key{Namespace: "ns", Name: strings.Repeat("n", 253)}, UID: "u", Warning: true,
		Reason: "AllocationFailed", Action: "Allocate", Note: strings.Repeat("ü", 1000),
	}, at)
	if got.Namespace != "ns" || got.Regarding.Kind != "Service" || got.Regarding.UID != "u" || got.Type != corev1.EventTypeWarning || len(got.Name) > 253 ||
		len(got.Note) > 1024 || !utf8.ValidString(got.Note) || len(got.ReportingInstance) > 128 || !got.EventTime.Time.Equal(at) {
		t.Errorf("got %+v", got)
	}
	pool := e.build(Event{Object: config.Ref{Kind: "IPAddressPool", Name: "p"}, Reason: "X"}, at)
	if pool.Namespace != "default" || pool.Regarding.APIVersion != "heraldlb.io/v1beta1" || pool.Regarding.Name != "p" || pool.Type != corev1.EventTypeNormal {
		t.Errorf("got %+v", pool)
	}
}

func TestEventsNeverBlock(t *testing.T) {
	log := &lines{}
	e := NewEvents(&Client{}, EventsOptions{Log: log.logger()})
	for range eventQueue + 1 {
		e.Emit(Event{Reason: "X"})
	}
	if got := log.containing("event dropped"); len(got) != 1 {
		t.Errorf("logged %q", got)
	}
}

// TestTerm: lead runs at most while its term lasts, and finish waits for it.
func TestTerm(t *testing.T) {
	for range 200 {
		var running sync.WaitGroup
		led := false
		tm := &term{log: discard(), over: make(chan struct{}), lead: func(ctx context.Context) { led = true; <-ctx.Done() }}
		leading, stop := context.WithCancel(context.Background())
		running.Go(func() { tm.begin(context.Background(), leading) })
		running.Go(stop)
		tm.finish()
		was := led // written before over is closed, or never
		running.Wait()
		if led != was {
			t.Fatal("lead ran after the term was finished")
		}
	}
}
