package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config"
)

// testState lets a speaker start while the API server is away. It ends with an API server that runs.
func testState(t *testing.T, s *apiServer) {
	dir := t.TempDir()
	opts := SourceOptions{Role: Speaker, Node: "n1", Namespace: "herald-system", GossipService: "speakers", GossipSecret: "gossip", GossipKey: "key", StateDir: dir, Log: discard()}
	c := s.client(adminToken)
	s.apply(service("kept", ""))
	var last *config.Snapshot
	t.Run("a run that ends in order", func(t *testing.T) {
		src := NewSource(c, opts)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- src.Run(ctx) }()
		eventually(t, "everything", func() bool {
			return src.Snapshot().Synced && string(src.GossipKey()) == "sesame" && len(src.Seeds()) == 2
		})
		if !src.Stale().IsZero() {
			t.Error("stale, though the API server answers")
		}
		eventually(t, "the file", func() bool { _, err := os.Stat(filepath.Join(dir, stateFile)); return err == nil })
		s.apply(service("kept-late", "")) // within the pace: it must be kept at the end
		seen(t, src, "kept-late")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		last = src.Snapshot()
	})
	s.stopAPI()
	t.Run("a run without the API server", func(t *testing.T) {
		src := s.source(t, c, opts)
		eventually(t, "what the last run knew", func() bool { return src.Snapshot().Synced })
		same := cmp.Options{
			cmpopts.SortSlices(func(a, b *config.Service) bool { return a.Name < b.Name }),
			cmp.AllowUnexported(config.All[string](), config.All[config.Key]()),
			cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmpopts.EquateEmpty(),
		}
		if diff := cmp.Diff(last, src.Snapshot(), same); diff != "" {
			t.Errorf("the snapshot of the last run and this one (-last +this):\n%s", diff)
		}
		if string(src.GossipKey()) != "sesame" || len(src.Seeds()) != 2 {
			t.Errorf("key %q, seeds %v", src.GossipKey(), src.Seeds())
		}
		if at := src.Stale(); time.Since(at) > time.Hour || at.IsZero() {
			t.Errorf("stale since %v", at)
		}
		s.startAPI()
		s.kubectl("", "delete", "service", "kept")
		eventually(t, "the API server's word", func() bool { return src.Stale().IsZero() && find(src, "kept") == nil && find(src, "kept-late") != nil })
	})
	s.kubectl("", "delete", "service", "kept-late")
}

// TestDamagedState: nothing is made of a file that is damaged, and a warning says so.
func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("herald objects 1\nnonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	c, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"}) // nobody listens
	if err != nil {
		t.Fatal(err)
	}
	src := NewSource(c, SourceOptions{Role: Speaker, StateDir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	src.restoreState(filepath.Join(dir, stateFile))
	if src.Snapshot().Synced || !src.Stale().IsZero() {
		t.Error("something was restored")
	}
	if !strings.Contains(log.String(), "not used") {
		t.Errorf("log: %s", &log)
	}
}

// TestStateNeverReplacesAList: what the API server has listed stays, and the rest is what was kept.
func TestStateNeverReplacesAList(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, stateFile)
	c, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	make := func() *Source {
		return NewSource(c, SourceOptions{Role: Speaker, StateDir: dir, Log: slog.New(slog.DiscardHandler)})
	}
	node := func(name string) any { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	before := make()
	for _, tbl := range []interface{ Replace([]any, string) error }{
		before.services, before.slices, before.pools, before.l2Adverts, before.peers, before.bgpAdverts, before.bfdProfiles, before.communities, before.passwords,
	} {
		if err := tbl.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.nodes.Replace([]any{node("old"), node("both")}, ""); err != nil {
		t.Fatal(err)
	}
	if !before.complete() {
		t.Fatal("not complete, though all is listed")
	}
	if err := before.saveState(path); err != nil {
		t.Fatal(err)
	}
	after := make()
	after.restoreState(path)
	if !after.Snapshot().Synced || len(after.Snapshot().Nodes) != 2 || after.complete() {
		t.Fatalf("restored: %+v", after.Snapshot())
	}
	if err := after.nodes.Replace([]any{node("both")}, ""); err != nil {
		t.Fatal(err)
	}
	after.restoreState(path) // must not bring the node back
	if n := after.Snapshot().Nodes; len(n) != 1 || after.Stale().IsZero() {
		t.Errorf("after a list: %v, stale since %v", n, after.Stale())
	}
}

// TestStateWithoutPasswords: a speaker that may not read passwords does without them, from the file as well.
func TestStateWithoutPasswords(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, stateFile)
	c, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	open := func() *Source {
		return NewSource(c, SourceOptions{Role: Speaker, StateDir: dir, Log: slog.New(slog.DiscardHandler)})
	}
	list := func(s *Source) {
		for _, tbl := range []interface{ Replace([]any, string) error }{
			s.services, s.slices, s.nodes, s.pools, s.l2Adverts, s.peers, s.bgpAdverts, s.bfdProfiles, s.communities,
		} {
			if err := tbl.Replace(nil, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := open()
	before.refuse(passwordFeed)
	list(before)
	if !before.complete() {
		t.Fatal("the test is wrong: not complete")
	}
	if err := before.saveState(path); err != nil {
		t.Fatal(err)
	}
	after := open()
	after.restoreState(path)
	if !after.Snapshot().Synced {
		t.Error("waits for passwords that the last run did without")
	}
	list(after)
	after.refuse(passwordFeed)
	if !after.complete() {
		t.Error("stale for ever, though the API server has said all it will")
	}
}

// testLeaves asks whether a speaker that ends comes back.
func testLeaves(t *testing.T, s *apiServer) {
	s.apply(`
apiVersion: v1
kind: Node
metadata: {name: n7, labels: {role: edge}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: speaker, namespace: herald-system}
spec:
  selector: {matchLabels: {app: speaker}}
  template:
    metadata: {labels: {app: speaker}}
    spec: {nodeSelector: {role: edge}, containers: [{name: c, image: x}]}
`)
	c := s.client(adminToken)
	ask := func(c *Client, ds, node, want string) {
		t.Helper()
		got := ""
		eventually(t, "an answer, which an API server that is slow does not give in time", func() bool {
			got = c.Leaves(context.Background(), "herald-system", ds, node)
			return want == "" || got != ""
		})
		if want == "" != (got == "") || !strings.Contains(got, want) {
			t.Errorf("of %s on %s: %q, want %q", ds, node, got, want)
		}
	}
	ask(c, "speaker", "n7", "")
	ask(c, "other", "n7", "does not exist")
	ask(c, "speaker", "gone", "does not exist")
	ask(s.client(nobodyToken), "speaker", "n7", "permission")
	s.kubectl("", "label", "node", "n7", "role-")
	ask(c, "speaker", "n7", "does not select")
	s.kubectl("", "label", "node", "n7", "role=edge")
	ask(c, "speaker", "n7", "")
	s.kubectl("", "patch", "daemonset", "speaker", "-n", "herald-system", "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/hold"]}}`)
	s.kubectl("", "delete", "daemonset", "speaker", "-n", "herald-system", "--wait=false")
	ask(c, "speaker", "n7", "being deleted")
	s.kubectl("", "patch", "daemonset", "speaker", "-n", "herald-system", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
	away, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ask(away, "speaker", "n7", "")
}

func TestUnwanted(t *testing.T) {
	taint := func(key string, effect corev1.TaintEffect) []corev1.Taint {
		return []corev1.Taint{{Key: key, Effect: effect}}
	}
	for name, c := range map[string]struct {
		node corev1.Node
		pod  corev1.PodSpec
		want string
	}{
		"plain":                {},
		"evicted":              {node: corev1.Node{Spec: corev1.NodeSpec{Taints: taint("x", corev1.TaintEffectNoExecute)}}, want: "taint x"},
		"tainted, but stays":   {node: corev1.Node{Spec: corev1.NodeSpec{Taints: taint("x", corev1.TaintEffectNoSchedule)}}},
		"not ready, but stays": {node: corev1.Node{Spec: corev1.NodeSpec{Taints: taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)}}},
		"tolerates": {
			node: corev1.Node{Spec: corev1.NodeSpec{Taints: taint("x", corev1.TaintEffectNoExecute)}},
			pod:  corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "x", Operator: corev1.TolerationOpExists}}},
		},
		"shutting down": {
			node: corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Message: "node is shutting down"}}}},
			want: "shuts down",
		},
		"affinity": {
			pod: corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "a", Operator: corev1.NodeSelectorOpExists}}}},
			}}}},
			want: "does not select",
		},
	} {
		ds := &appsv1.DaemonSet{}
		ds.Spec.Template.Spec = c.pod
		if got := unwanted(ds, &c.node); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestStateKeepsWhatIsNeeded: of the cluster's EndpointSlices, only those of the Services that are announced, and of the speakers.
func TestStateKeepsWhatIsNeeded(t *testing.T) {
	path := filepath.Join(t.TempDir(), stateFile)
	c, err := newClient(&rest.Config{Host: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	src := NewSource(c, SourceOptions{Role: Speaker, Namespace: "herald", GossipService: "speakers", Log: slog.New(slog.DiscardHandler)})
	slice := func(namespace, service string) any {
		labels := map[string]string{discoveryv1.LabelServiceName: service}
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service + "-x", Labels: labels}}
	}
	for _, err := range []error{
		src.services.Replace([]any{&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}}}, ""),
		src.slices.Replace([]any{slice("a", "web"), slice("a", "db"), slice("b", "web"), slice("herald", "speakers"), slice("a", "speakers")}, ""),
		src.saveState(path),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	_, objects, err := readState(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, raw := range objects["endpointslices"] {
		var o discoveryv1.EndpointSlice
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		got = append(got, o.Namespace+"/"+o.Name)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a/web-x", "herald/speakers-x"}, got); diff != "" {
		t.Errorf("EndpointSlices on disk (-want +got):\n%s", diff)
	}
	if len(objects["services"]) != 1 {
		t.Errorf("%d Services on disk, want 1", len(objects["services"]))
	}
}

// TestStatePause: what is written may be large and change all the time.
func TestStatePause(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: 10 * time.Second, 100 * time.Millisecond: 10 * time.Second, 2 * time.Second: 100 * time.Second,
	} {
		if got := statePause(took); got != want {
			t.Errorf("after a write of %v: %v, want %v", took, got, want)
		}
	}
}
