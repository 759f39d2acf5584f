package kube

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
)

// watched is a table of Services with what it told.
type watched struct {
	*table[*corev1.Service]
	changes, versions int
	left              []string
}

func newWatched() *watched {
	w := &watched{}
	w.table = newTable(trimService, sameService, func() { w.changes++ })
	w.newer = func() { w.versions++ }
	w.gone = func(s *corev1.Service) { w.left = append(w.left, string(s.UID)) }
	return w
}

func svc(name, uid string, version int, label string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, UID: types.UID(uid), ResourceVersion: strconv.Itoa(version), Labels: map[string]string{"l": label},
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}}
}

func TestTable(t *testing.T) {
	type step struct {
		do       func(w *watched)
		changes  int // how many more
		versions int
		left     int
		version  string // of ns/a then; "" for absent
	}
	update := func(o *corev1.Service) func(*watched) { return func(w *watched) { _ = w.Update(o) } }
	put := func(o *corev1.Service) func(*watched) { return func(w *watched) { w.put(o) } }
	remove := func(o *corev1.Service) func(*watched) { return func(w *watched) { _ = w.Delete(o) } }
	replace := func(objs ...any) func(*watched) { return func(w *watched) { _ = w.Replace(objs, "") } }
	destroy := func(o *corev1.Service) func(*watched) { return func(w *watched) { w.drop(o, true) } }
	tests := []struct {
		name  string
		steps []step
	}{
		{"an empty list is news once", []step{{replace(), 1, 0, 0, ""}, {replace(), 0, 1, 0, ""}}},
		{"added, changed, gone", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{update(svc("a", "u", 6, "y")), 1, 0, 0, "6"},
			{remove(svc("a", "u", 7, "y")), 1, 0, 1, ""},
			{remove(svc("a", "u", 7, "y")), 0, 0, 0, ""},
		}},
		{"a change of nothing that is read", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{update(svc("a", "u", 6, "x")), 0, 1, 0, "6"},
		}},
		{"own write, then its echo", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{put(svc("a", "u", 9, "y")), 1, 0, 0, "9"},
			{update(svc("a", "u", 9, "y")), 0, 1, 0, "9"},
		}},
		{"own write, then an event from before it", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{put(svc("a", "u", 10, "y")), 1, 0, 0, "10"},
			{update(svc("a", "u", 9, "z")), 0, 0, 0, "10"},
			{update(svc("a", "u", 11, "z")), 1, 0, 0, "11"},
		}},
		{"the watch is ahead of the answer to a write", []step{
			{update(svc("a", "u", 11, "x")), 1, 0, 0, "11"},
			{put(svc("a", "u", 9, "y")), 0, 0, 0, "11"},
		}},
		{"the answer to a write does not bring back what is gone", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{remove(svc("a", "u", 7, "x")), 1, 0, 1, ""},
			{put(svc("a", "u", 6, "y")), 0, 0, 0, ""},
			{update(svc("a", "v", 8, "x")), 1, 0, 0, "8"},
			{put(svc("a", "u", 9, "y")), 0, 0, 0, "8"},
		}},
		{"a successor of the same name", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{update(svc("a", "v", 6, "x")), 1, 0, 1, "6"},
		}},
		{"own deletion, then events from before it", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{put(svc("a", "u", 10, "y")), 1, 0, 0, "10"},
			{destroy(svc("a", "u", 10, "y")), 1, 0, 1, ""},
			{update(svc("a", "u", 9, "z")), 0, 0, 0, ""},
			{update(svc("a", "u", 10, "y")), 0, 0, 0, ""},
			{remove(svc("a", "u", 11, "y")), 0, 0, 0, ""},
			{update(svc("a", "u", 10, "y")), 1, 0, 0, "10"}, // forgotten: nothing like this comes from a watch
		}},
		{"own deletion, which a finalizer holds up", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{destroy(svc("a", "u", 5, "x")), 1, 0, 1, ""},
			{update(svc("a", "u", 6, "x")), 1, 0, 0, "6"},
			{remove(svc("a", "u", 7, "x")), 1, 0, 1, ""},
		}},
		{"own deletion, and a successor that is known before the watch tells of either", []step{
			{update(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{destroy(svc("a", "u", 5, "x")), 1, 0, 1, ""},
			{update(svc("a", "v", 7, "x")), 1, 0, 0, "7"},
			{update(svc("a", "u", 5, "x")), 0, 0, 0, "7"},
			{remove(svc("a", "u", 6, "x")), 0, 0, 0, "7"},
			{update(svc("a", "v", 7, "x")), 0, 1, 0, "7"},
		}},
		{"own deletion, of what the watch has replaced already", []step{
			{update(svc("a", "v", 7, "x")), 1, 0, 0, "7"},
			{destroy(svc("a", "u", 5, "x")), 0, 0, 0, "7"},
		}},
		{"a list is the truth, older or not", []step{
			{update(svc("a", "u", 50, "x")), 1, 0, 0, "50"},
			{replace(svc("a", "u", 5, "x")), 1, 0, 0, "5"},
			{replace(svc("a", "u", 6, "x")), 0, 1, 0, "6"},
			{replace(svc("a", "v", 7, "x")), 1, 0, 1, "7"},
			{replace(svc("b", "w", 8, "x")), 1, 0, 1, ""},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWatched()
			for i, s := range tt.steps {
				changes, versions, left := w.changes, w.versions, len(w.left)
				s.do(w)
				have, _ := w.get(config.Key{Namespace: "ns", Name: "a"})
				version := ""
				if have != nil {
					version = have.ResourceVersion
					if have.ManagedFields != nil {
						t.Errorf("step %d: not trimmed", i)
					}
				}
				got := fmt.Sprint(w.changes-changes, w.versions-versions, len(w.left)-left, version)
				if want := fmt.Sprint(s.changes, s.versions, s.left, s.version); got != want {
					t.Errorf("step %d: changes, newer versions, gone, version: got %s, want %s", i, got, want)
				}
			}
		})
	}
	if err := newWatched().Add(&corev1.Node{}); err == nil {
		t.Error("a Node was accepted as a Service")
	}
}

// TestTableFollows: whatever mixture of events, lists and answers to writes arrives, the table ends with what the last event of each object says.
func TestTableFollows(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 200 {
		w := newWatched()
		truth := map[string]*corev1.Service{}
		var late []*corev1.Service // answers to writes that come after the event of the same write
		for version := 1; version < 60; version++ {
			name := strconv.Itoa(r.IntN(3))
			switch old := truth[name]; {
			case old == nil:
				truth[name] = svc(name, "u"+strconv.Itoa(version), version, "0")
				_ = w.Add(truth[name].DeepCopy())
			case r.IntN(4) == 0:
				delete(truth, name)
				_ = w.Delete(old.DeepCopy())
			default:
				next := svc(name, string(old.UID), version, strconv.Itoa(r.IntN(2)))
				truth[name] = next
				if r.IntN(2) == 0 {
					w.put(next.DeepCopy())
				}
				_ = w.Update(next.DeepCopy())
				late = append(late, next.DeepCopy())
			}
			if len(late) > 0 && r.IntN(2) == 0 {
				w.put(late[0])
				late = late[1:]
			}
			if len(w.list()) != len(truth) {
				t.Fatalf("%d objects, want %d", len(w.list()), len(truth))
			}
			for _, have := range w.list() {
				want := truth[have.Name]
				if want == nil || want.UID != have.UID || want.ResourceVersion != have.ResourceVersion {
					t.Fatalf("have %s %s, want %v", have.UID, have.ResourceVersion, want)
				}
			}
		}
	}
}

// TestTableListedWhileWritten: answers to writes come while a list is taken in. The race detector judges; what the list does not know yet
// may come before or after it, but each object is there.
func TestTableListedWhileWritten(t *testing.T) {
	const objects, rounds = 20, 300
	var told atomic.Int64
	w := newTable(trimService, sameService, func() { told.Add(1) })
	name := func(i int) string { return strconv.Itoa(i % objects) }
	list := func(version int) []any {
		out := make([]any, objects)
		for i := range out {
			out[i] = svc(name(i), "u", version, "x")
		}
		return out
	}
	if err := w.Replace(list(1), ""); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range rounds * objects {
			w.put(svc(name(i), "u", 1000+i, "y"))
		}
	})
	for i := range rounds {
		if err := w.Replace(list(2+i), ""); err != nil {
			t.Fatal(err)
		}
	}
	writer.Wait()
	if len(w.list()) != objects || told.Load() == 0 {
		t.Errorf("%d objects, told of %d changes; want %d and some", len(w.list()), told.Load(), objects)
	}
}

func TestTrimNode(t *testing.T) {
	beat := func(at int64, ready corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n", Annotations: map[string]string{"beat": strconv.FormatInt(at, 10)}},
			Spec:       corev1.NodeSpec{PodCIDR: "10.0.0.0/24"},
			Status: corev1.NodeStatus{
				Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
				Images:    []corev1.ContainerImage{{Names: []string{strconv.FormatInt(at, 10)}}},
				Conditions: []corev1.NodeCondition{
					{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, LastHeartbeatTime: metav1.Unix(at, 0)},
					{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.Unix(at, 0)},
				},
			},
		}
	}
	a, b, c := beat(1, corev1.ConditionTrue), beat(2, corev1.ConditionTrue), beat(3, corev1.ConditionFalse)
	for _, n := range []*corev1.Node{a, b, c} {
		trimNode(n)
	}
	if !sameNode(a, b) {
		t.Error("a heartbeat is a change")
	}
	if sameNode(b, c) {
		t.Error("Ready turned False and nothing changed")
	}
}

func TestTrimSlice(t *testing.T) {
	make := func(service string, rewritten string) *discoveryv1.EndpointSlice {
		yes, node := true, "n"
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "herald-system", Name: "s", Annotations: map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": rewritten},
				Labels: map[string]string{discoveryv1.LabelServiceName: service, "other": rewritten},
			},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}},
		}
	}
	s := &Source{opts: SourceOptions{Namespace: "herald-system", GossipService: "speakers"}}
	trim := trimSlice(s.isGossip)
	a, b, gossip := make("web", "1"), make("web", "2"), make("speakers", "1")
	for range 2 { // trimming twice is trimming once
		trim(a)
		trim(b)
		trim(gossip)
	}
	if !sameSlice(a, b) {
		t.Error("a slice that was rewritten with the same endpoints is a change")
	}
	if a.Endpoints[0].Addresses != nil {
		t.Error("addresses of a Service's endpoints are kept")
	}
	if len(gossip.Endpoints[0].Addresses) != 1 {
		t.Error("addresses of speakers are not kept")
	}
}
