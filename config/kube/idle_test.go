package kube_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/controller"
	"github.com/heraldlb/herald/speaker"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

const idleObjects = `
apiVersion: v1
kind: Node
metadata: {name: n1}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
---
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/24]}
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: lan}
`

// idleService is a Service with an EndpointSlice that a controller of Kubernetes would keep.
const idleService = `
---
apiVersion: v1
kind: Service
metadata: {name: s%[1]d}
spec: {type: LoadBalancer, ports: [{port: 80}], allocateLoadBalancerNodePorts: false}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s%[1]d, labels: {kubernetes.io/service-name: s%[1]d}}
addressType: IPv4
endpoints:
- {addresses: [10.1.%[1]d.1], nodeName: n1, conditions: {ready: true}}
- {addresses: [10.1.%[1]d.2], nodeName: n1, conditions: {ready: true}}
`

// idleServices is how many there are.
const idleServices = 20

// TestIdle runs the controller and a speaker at a real API server, and counts the requests by which they write. While nothing happens that
// concerns users, only objects are written anew as they are all day in every cluster, there must be none: no event and no status.
func TestIdle(t *testing.T) {
	s := kube.StartServer(t)
	objects := idleObjects
	for i := range idleServices {
		objects += fmt.Sprintf(idleService, i)
	}
	s.Apply(objects)
	s.Kubectl("patch", "node", "n1", "--subresource=status", "--type=merge", "-p", `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`)
	ctl, spk := startController(t, s), startSpeaker(t, s, "n1")
	_, load := s.Client()

	kube.Eventually(t, "all Services announced", func() bool {
		for _, svc := range ctl.source.Snapshot().Services {
			if svc.Announced.Status != "True" {
				return false
			}
		}
		return len(ctl.source.Snapshot().Services) == idleServices
	})
	quiet(ctl, spk)
	t.Logf("to get there the controller wrote %v, the speaker %v", ctl.client.Writes(), spk.client.Writes())
	if n := ctl.client.Writes()[kube.Write{Kind: "Event", Result: kube.WriteOK}]; n < idleServices {
		t.Errorf("%d events; the test does not see those that must be", n)
	}

	t.Run("EndpointSlices", func(t *testing.T) {
		still(t, "1,000 updates of EndpointSlices", func() { touchSlices(t, load, ctl, spk) }, ctl, spk)
	})
	t.Run("Nodes", func(t *testing.T) {
		still(t, "heartbeats of nodes", func() { beat(t, load, ctl, spk) }, ctl, spk)
	})
	t.Run("Resync", func(t *testing.T) {
		still(t, "an outage of the API server, and lists after it", func() {
			s.Restart()
			mark(t, load, "n2", "after-restart", ctl, spk)
		}, ctl, spk)
	})
	t.Run("another leader", func(t *testing.T) {
		next := startController(t, s)
		quiet(ctl, spk, next)
		if diff := cmp.Diff(map[kube.Write]uint64{}, next.client.Writes()); diff != "" {
			t.Errorf("another controller that takes over wrote:\n%s", diff)
		}
	})
}

// daemon is one that runs.
type daemon struct {
	client *kube.Client
	source *kube.Source
}

// still fails the test if daemons write something because of what happens.
func still(t *testing.T, what string, happens func(), daemons ...daemon) {
	t.Helper()
	var before []map[kube.Write]uint64
	for _, d := range daemons {
		before = append(before, d.client.Writes())
	}
	happens()
	quiet(daemons...)
	for i, d := range daemons {
		if diff := cmp.Diff(before[i], d.client.Writes()); diff != "" {
			t.Errorf("%s made daemon %d write:\n%s", what, i, diff)
		}
	}
}

// calm is how many looks, 20 ms apart, find nothing written by daemons that have nothing to write: they look at most every second. A machine
// that is slow makes fewer looks.
const calm = 150

// quiet waits until nothing has been written for a while.
func quiet(daemons ...daemon) {
	sum := func() (n uint64) {
		for _, d := range daemons {
			for _, k := range d.client.Writes() {
				n += k
			}
		}
		return n
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := sum()
	for looks := 0; looks < calm; looks++ {
		<-tick.C
		if n := sum(); n != last {
			last, looks = n, 0
		}
	}
}

// touchSlices writes EndpointSlices as the endpoint controller does when Pods come and go and enough stay, and waits until both daemons have seen it.
func touchSlices(t *testing.T, load kubernetes.Interface, daemons ...daemon) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range idleServices {
		wg.Go(func() {
			for n := range 1000 / idleServices {
				slice := slice(i)
				slice.Annotations = map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": fmt.Sprint(n)}
				slice.Endpoints[1].Addresses[0] = fmt.Sprintf("10.1.%d.%d", i, n+2)
				*slice.Endpoints[1].Conditions.Ready = n%2 == 1
				if n%3 == 0 {
					slice.Endpoints = slice.Endpoints[:1]
				}
				if n == 1000/idleServices-1 { // by which the end is seen; n2 has no speaker
					slice.Endpoints = append(slice.Endpoints, endpoint(fmt.Sprintf("10.1.%d.200", i), "n2"))
				}
				if _, err := load.DiscoveryV1().EndpointSlices("default").Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, d := range daemons {
		kube.Eventually(t, "the last EndpointSlices", func() bool {
			for _, svc := range d.source.Snapshot().Services {
				if svc.Endpoints.Ready["n2"] == 0 {
					return false
				}
			}
			return true
		})
	}
}

func slice(i int) *discoveryv1.EndpointSlice {
	name := fmt.Sprint("s", i)
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{endpoint(fmt.Sprintf("10.1.%d.1", i), "n1"), endpoint(fmt.Sprintf("10.1.%d.2", i), "n1")},
	}
}

func endpoint(address, node string) discoveryv1.Endpoint {
	ready := true
	return discoveryv1.Endpoint{Addresses: []string{address}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
}

// beat writes Nodes as kubelets do, and waits until the daemons have seen it.
func beat(t *testing.T, load kubernetes.Interface, daemons ...daemon) {
	t.Helper()
	for n := range 100 {
		patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T00:00:%02dZ"}],"images":[{"names":["i%d"]}]}}`, n%60, n)
		if _, err := load.CoreV1().Nodes().Patch(t.Context(), "n1", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	mark(t, load, "n2", "after-heartbeats", daemons...)
}

// mark changes an address of a Node without a speaker, and waits until the daemons have seen it, and so all that was before.
func mark(t *testing.T, load kubernetes.Interface, node, name string, daemons ...daemon) {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(len(name))})
	patch := fmt.Sprintf(`{"status":{"addresses":[{"type":"InternalIP","address":"%s"}]}}`, addr)
	kube.Eventually(t, "a change of a Node", func() bool {
		_, err := load.CoreV1().Nodes().Patch(t.Context(), node, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
		return err == nil
	})
	for _, d := range daemons {
		kube.Eventually(t, "the change of the Node "+name, func() bool {
			for _, n := range d.source.Snapshot().Nodes {
				if n.Name == node {
					return len(n.Addresses) > 0 && n.Addresses[len(n.Addresses)-1] == addr
				}
			}
			return false
		})
	}
}

func startController(t *testing.T, s kube.Server) daemon {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	client, _ := s.Client()
	source := kube.NewSource(client, kube.SourceOptions{Namespace: "herald-system", Role: kube.Controller, Log: log})
	events := kube.NewEvents(client, kube.EventsOptions{Component: "heraldlb.io/controller", Instance: "c", Log: log})
	c := controller.New(controller.Options{
		Source: source, Writer: kube.NewWriter(client, source), Events: events, Metrics: controller.NewMetrics(), Log: log,
		Elect:     func(ctx context.Context, lead func(context.Context)) error { lead(ctx); return nil },
		EnsureKey: func(context.Context) error { return nil },
	})
	for _, run := range []func(context.Context) error{events.Run, source.Run, c.Run} {
		kube.Start(t, run)
	}
	kube.Eventually(t, "a synced controller", func() bool { return source.Snapshot().Synced })
	return daemon{client, source}
}

func startSpeaker(t *testing.T, s kube.Server, node string) daemon {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	client, _ := s.Client()
	source := kube.NewSource(client, kube.SourceOptions{Namespace: "herald-system", Role: kube.Speaker, Node: node, Log: log})
	writer := kube.NewWriter(client, source)
	recorder := speaker.NewRecorder("v0", time.Now(), func(ctx context.Context, st v1beta1.SpeakerStatusStatus) error {
		return writer.WriteSpeakerStatus(ctx, node, st)
	}, log)
	h := &host{node: node, layer2: make(chan struct{}, 1), said: make(chan struct{}, 1), links: []config.Interface{{
		Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01", Up: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}}}
	sp := speaker.New(speaker.Options{
		Node: node, Started: time.Now(), GossipPort: 7947, Source: source, Links: h, Gossip: gossip{h}, L2: layer2{h}, BGP: router{h},
		Reporter: recorder, Log: log,
	})
	for _, run := range []func(context.Context) error{source.Run, recorder.Run, sp.Run} {
		kube.Start(t, run)
	}
	return daemon{client, source}
}

// host is a node whose speaker hears no other. It answers for what it is told to.
type host struct {
	node   string
	links  []config.Interface
	layer2 chan struct{}
	said   chan struct{}

	mu     sync.Mutex
	self   decide.Member
	actual []config.L2Holding
}

type (
	gossip struct{ *host }
	layer2 struct{ *host }
	router struct{ *host }
)

func (h *host) Interfaces() []config.Interface { return h.links }
func (h *host) Changed() <-chan struct{}       { return nil }

func (g gossip) Changed() <-chan struct{}   { return g.said }
func (g gossip) Urgent() <-chan struct{}    { return nil }
func (g gossip) SetSeeds([]netip.AddrPort)  {}
func (g gossip) Resync()                    {}
func (g gossip) Publish(self decide.Member) { g.mu.Lock(); g.self = self; g.mu.Unlock() }

func (g gossip) View() *member.View {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &member.View{Known: 1, Alive: 1, Members: []decide.Member{g.self}}
}

func (l layer2) Changed() <-chan struct{} { return l.layer2 }
func (l layer2) Conflicts() []l2.Conflict { return nil }
func (l layer2) Denied() bool             { return false }
func (l layer2) Announce(netip.Addr)      {}

func (l layer2) Actual() []config.L2Holding {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.actual
}

func (l layer2) Set(want []decide.L2Address, _ []config.Interface) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := map[netip.Addr]time.Time{}
	for _, h := range l.actual {
		since[h.Address] = h.Since
	}
	var next []config.L2Holding
	for _, a := range want {
		h := config.L2Holding{Address: a.Addr, Interface: a.Interfaces[0], Since: since[a.Addr]}
		if h.Since.IsZero() {
			h.Since = time.Now()
		}
		next = append(next, h)
	}
	changed := len(next) != len(l.actual)
	for i := range next {
		changed = changed || next[i] != l.actual[i]
	}
	l.actual = next
	if changed {
		select {
		case l.layer2 <- struct{}{}:
		default:
		}
	}
}

func (router) Set(bgp.Desired)            {}
func (router) Sessions() []config.Session { return nil }
