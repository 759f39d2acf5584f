package kube

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
)

// TestAPIServer is about what only a real API server can tell: which patches it takes, what it refuses, what its watches send.
func TestAPIServer(t *testing.T) {
	s := startAPIServer(t)
	s.kubectl("", "create", "namespace", "herald-system")
	t.Run("Service", func(t *testing.T) { testService(t, s) })
	t.Run("Released", func(t *testing.T) { testReleased(t, s) })
	t.Run("Config", func(t *testing.T) { testConfig(t, s) })
	t.Run("Passwords", func(t *testing.T) { testPasswords(t, s) })
	t.Run("Reservations", func(t *testing.T) { testReservations(t, s) })
	t.Run("Speaker", func(t *testing.T) { testSpeaker(t, s) })
	t.Run("Heartbeat", func(t *testing.T) { testHeartbeat(t, s) })
	t.Run("Events", func(t *testing.T) { testEvents(t, s) })
	t.Run("Secret", func(t *testing.T) { testSecret(t, s) })
	t.Run("Elect", func(t *testing.T) { testElect(t, s) })
	t.Run("Forbidden", func(t *testing.T) { testForbidden(t, s) })
	t.Run("Latency", func(t *testing.T) { testLatency(t, s) })
	t.Run("Leaves", func(t *testing.T) { testLeaves(t, s) })
	t.Run("State", func(t *testing.T) { testState(t, s) })
	t.Run("Outage", func(t *testing.T) { testOutage(t, s) })
}

func service(name, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}], allocateLoadBalancerNodePorts: false%s}
`, name, more)
}

func find(s *Source, name string) *config.Service {
	for _, v := range s.Snapshot().Services {
		if v.Name == name {
			return v
		}
	}
	return nil
}

func seen(t *testing.T, s *Source, name string) *config.Service {
	t.Helper()
	eventually(t, "Service "+name+" in the snapshot", func() bool { return find(s, name) != nil })
	return find(s, name)
}

func get(t *testing.T, c *Client, name string) *corev1.Service {
	t.Helper()
	v, err := c.core.CoreV1().Services("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func addrs(texts ...string) *[]netip.Addr {
	out := []netip.Addr{}
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return &out
}

func testService(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Role: Controller})
	w := NewWriter(c, src)
	s.apply(service("web", ""))
	v := seen(t, src, "web")
	s.kubectl("", "patch", "service", "web", "--subresource=status", "--type=merge", "-p",
		`{"status":{"conditions":[{"type":"other.example/X","status":"True","reason":"R","message":"theirs","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)

	t.Run("a write over an older version is a conflict", func(t *testing.T) {
		err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Version: v.Version + "0", Ingress: addrs("192.0.2.1")})
		if !IsConflict(err) {
			t.Fatalf("got %v", err)
		}
		stale := NewSource(c, src.opts) // knows the Service as it was, and is not told more
		stale.services.set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: get(t, c, "web").UID, ResourceVersion: v.Version}})
		err = NewWriter(c, stale).WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Version: v.Version, Ingress: addrs("192.0.2.1")})
		if !IsConflict(err) {
			t.Fatalf("got %v, want a conflict from the API server", err)
		}
	})

	eventually(t, "the newer version", func() bool { return find(src, "web").Version == get(t, c, "web").ResourceVersion })
	v = find(src, "web")
	yes := &config.Condition{Status: "True", Reason: "Allocated", Message: "pool a"}
	no := &config.Condition{Status: "False", Reason: "NoReadyEndpoints", Message: "none"}
	if err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Version: v.Version, Ingress: addrs("192.0.2.1", "2001:db8::1"), Allocated: yes, Announced: no}); err != nil {
		t.Fatal(err)
	}
	next := find(src, "web") // without waiting: a write is read at once
	if next.Version == v.Version || !slices.Equal(next.Ingress, *addrs("192.0.2.1", "2001:db8::1")) || next.Allocated != *yes || next.Announced != *no {
		t.Fatalf("own write not in the snapshot: %+v", next)
	}
	real := get(t, c, "web")
	if real.ResourceVersion != next.Version || len(real.Status.Conditions) != 3 || *real.Status.LoadBalancer.Ingress[0].IPMode != corev1.LoadBalancerIPModeVIP {
		t.Fatalf("status: %+v", real.Status)
	}

	t.Run("nothing to write is not written", func(t *testing.T) {
		if err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Version: next.Version, Ingress: addrs("192.0.2.1", "2001:db8::1"), Allocated: yes, Announced: no}); err != nil {
			t.Fatal(err)
		}
		if got := get(t, c, "web").ResourceVersion; got != next.Version {
			t.Errorf("version %s became %s", next.Version, got)
		}
	})

	t.Run("what is nil stays, what is empty goes", func(t *testing.T) {
		before := get(t, c, "web").Status
		if err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Announced: &config.Condition{Status: "True", Reason: "Announced", Message: "x"}}); err != nil {
			t.Fatal(err)
		}
		after := get(t, c, "web").Status
		if diff := cmp.Diff(before.LoadBalancer, after.LoadBalancer); diff != "" {
			t.Error(diff)
		}
		if err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: v.UID, Ingress: addrs(), Announced: &config.Condition{}}); err != nil {
			t.Fatal(err)
		}
		after = get(t, c, "web").Status
		if len(after.LoadBalancer.Ingress) != 0 || len(after.Conditions) != 2 {
			t.Errorf("got %+v", after)
		}
	})

	t.Run("another Service of the same name is a conflict", func(t *testing.T) {
		if err := w.WriteService(context.Background(), ServiceStatus{Key: v.Key, UID: "other", Ingress: addrs("192.0.2.1")}); !IsConflict(err) {
			t.Errorf("got %v", err)
		}
		if err := w.WriteService(context.Background(), ServiceStatus{Key: config.Key{Namespace: "default", Name: "none"}, UID: "x"}); !IsNotFound(err) {
			t.Errorf("got %v", err)
		}
	})
}

func testReleased(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	status := func(name string) {
		s.kubectl("", "patch", "service", name, "--subresource=status", "--type=merge", "-p",
			`{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.7","ipMode":"VIP"}]},"conditions":[{"type":"heraldlb.io/Allocated","status":"True","reason":"Allocated","message":"x","lastTransitionTime":"2026-01-01T00:00:00Z"},{"type":"other.example/X","status":"True","reason":"R","message":"theirs","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	}
	plain := func(name string) {
		s.kubectl("", "patch", "service", name, "--type=merge", "-p", `{"spec":{"type":"ClusterIP","allocateLoadBalancerNodePorts":null}}`)
	}
	for _, name := range []string{"before", "during", "deleted", "and-back"} {
		s.apply(service(name, ""))
		status(name)
	}
	plain("before")
	src := s.source(t, c, SourceOptions{Role: Controller})
	w := NewWriter(c, src)
	released := func() []string {
		var out []string
		for _, r := range src.Snapshot().Released {
			out = append(out, r.Name)
		}
		return out
	}
	eventually(t, "the Service that left before", func() bool { return slices.Equal(released(), []string{"before"}) })
	plain("during")
	s.kubectl("", "delete", "service", "deleted")
	plain("and-back")
	eventually(t, "those that left", func() bool { return slices.Equal(released(), []string{"and-back", "before", "during"}) })
	for _, r := range src.Snapshot().Released {
		// Of one that left before nobody knows what it had: the API server has taken it out of the status already.
		if want := addrs("192.0.2.7"); r.Name != "before" && !slices.Equal(r.Ingress, *want) {
			t.Errorf("%s gives back %v, want %v", r.Key, r.Ingress, *want)
		}
	}
	s.kubectl("", "patch", "service", "and-back", "--type=merge", "-p", `{"spec":{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false}}`)
	eventually(t, "the one that came back", func() bool { return slices.Equal(released(), []string{"before", "during"}) })
	for _, r := range src.Snapshot().Released {
		if err := w.ReleaseService(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		status := get(t, c, r.Name).Status
		if len(status.LoadBalancer.Ingress) != 0 || len(status.Conditions) != 1 || status.Conditions[0].Type != "other.example/X" {
			t.Errorf("%s: %+v", r.Key, status)
		}
	}
	if got := released(); got != nil {
		t.Errorf("still released: %v", got)
	}
}

func testConfig(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Role: Controller})
	w := NewWriter(c, src)
	s.apply(`
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: p}
spec: {addresses: [192.0.2.0/24, "2001:db8::/64"]}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: l}
spec: {ipAddressPools: [missing]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPPeer
metadata: {name: r}
spec: {myASN: 64500, peerASN: 64501, peerAddress: 192.0.2.254, holdTime: 30s, nodeSelectors: [{matchLabels: {a: b}}]}
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: b}
spec: {peers: [r]}
---
apiVersion: heraldlb.io/v1beta1
kind: BFDProfile
metadata: {name: f}
---
apiVersion: heraldlb.io/v1beta1
kind: Community
metadata: {name: c}
spec: {communities: [{name: edge, value: "64500:1"}]}
`)
	eventually(t, "all objects", func() bool { return len(src.Snapshot().Objects) == 6 })
	snap := src.Snapshot()
	if len(snap.Problems) != 1 || snap.Problems[0].Reason != parse.UnknownPool || snap.Peers[0].HoldTime != 30*time.Second {
		t.Fatalf("%+v", snap.Problems)
	}
	for _, o := range snap.Objects {
		if err := w.WriteReady(context.Background(), o.Ref, o.Generation, config.Condition{Status: "True", Reason: "Accepted", Message: "in force"}); err != nil {
			t.Fatal(err)
		}
	}
	counts := config.PoolStatus{IPv4: config.PoolCounts{Total: 256, Available: 256}, IPv6: config.PoolCounts{Total: 1 << 62, Available: 1 << 62}}
	if err := w.WritePoolStatus(context.Background(), "p", counts); err != nil {
		t.Fatal(err)
	}
	snap = src.Snapshot()
	if snap.Pools[0].Status != counts {
		t.Errorf("status %+v", snap.Pools[0].Status)
	}
	for _, o := range snap.Objects {
		if o.Ready.Status != "True" || o.Ready.ObservedGeneration != o.Generation || o.Generation == 0 {
			t.Errorf("%+v", o)
		}
	}
	version := func() string {
		return s.kubectl("", "get", "ipaddresspool", "p", "-o", "jsonpath={.metadata.resourceVersion}")
	}
	before := version()
	_ = w.WritePoolStatus(context.Background(), "p", counts)
	_ = w.WriteReady(context.Background(), config.Ref{Kind: parse.KindPool, Name: "p"}, 1, config.Condition{Status: "True", Reason: "Accepted", Message: "in force"})
	if after := version(); before != after {
		t.Error("the same was written again")
	}
	if err := w.WriteReady(context.Background(), config.Ref{Kind: parse.KindPool, Name: "none"}, 1, config.Condition{Status: "True"}); !IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}
