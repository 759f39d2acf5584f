package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fakeAPI is an API server that holds a cluster. It objects to what a real one would refuse.
type fakeAPI struct {
	t       *testing.T
	cluster *kube.Cluster
	err     error
	mute    bool   // reports cannot be read
	drained func() // what speakers do when a node drains
	deaf    bool   // speakers do not move what they are asked to
	wrote   []string
	foreign map[string][][]byte // by group
	maps    map[string][]byte   // ConfigMaps by namespace/name
	time    time.Time
}

// now is a clock that goes on by a tenth of a second whenever it is looked at.
func (f *fakeAPI) now() time.Time {
	f.time = f.time.Add(100 * time.Millisecond)
	return f.time
}

// Annotate keeps the annotation, and moves what it asks for as speakers would.
func (f *fakeAPI) Annotate(ctx context.Context, service config.Key, name, value string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i := slices.IndexFunc(f.cluster.Services, func(s *corev1.Service) bool { return s.Namespace == service.Namespace && s.Name == service.Name })
	if i < 0 {
		f.t.Errorf("Service %s does not exist", service)
		return f.err
	}
	f.wrote = append(f.wrote, name+"="+value)
	svc := f.cluster.Services[i]
	delete(svc.Annotations, name)
	if value == "" {
		return f.err
	}
	metav1.SetMetaDataAnnotation(&svc.ObjectMeta, name, value)
	move := parse.ParseMove(value)
	if move == (config.Move{}) {
		f.t.Errorf("an annotation that asks for nothing: %q", value)
	}
	if !f.deaf {
		f.handOver(svc, move)
	}
	return f.err
}

func (f *fakeAPI) handOver(svc *corev1.Service, move config.Move) {
	from, to := f.speaker(move.From), f.speaker(move.To)
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		for i, h := range from.Status.L2.Addresses {
			if h.Address == ingress.IP {
				from.Status.L2.Addresses = slices.Delete(from.Status.L2.Addresses, i, i+1)
				to.Status.L2.Addresses = append(to.Status.L2.Addresses, h)
				break
			}
		}
	}
}

func (f *fakeAPI) speaker(node string) *v1beta1.SpeakerStatus {
	i := slices.IndexFunc(f.cluster.Speakers, func(s *v1beta1.SpeakerStatus) bool { return s.Name == node })
	if i < 0 {
		f.t.Fatalf("node %s has no speaker", node)
	}
	return f.cluster.Speakers[i]
}

// Foreign returns the objects of another group.
func (f *fakeAPI) Foreign(_ context.Context, group string) ([][]byte, error) {
	return f.foreign[group], f.err
}

// ConfigMap returns a ConfigMap.
func (f *fakeAPI) ConfigMap(_ context.Context, namespace, name string) ([]byte, error) {
	return f.maps[namespace+"/"+name], f.err
}

// DeletePod deletes a Pod; its DaemonSet starts another at once.
func (f *fakeAPI) DeletePod(ctx context.Context, namespace, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	i := slices.IndexFunc(f.cluster.Pods, func(p *corev1.Pod) bool { return p.Namespace == namespace && p.Name == name })
	if i < 0 {
		f.t.Errorf("Pod %s/%s does not exist", namespace, name)
		return f.err
	}
	f.wrote = append(f.wrote, "delete "+name)
	f.cluster.Pods[i].Name += "-new"
	return f.err
}

func (f *fakeAPI) Namespace() string { return "shop" }

func (f *fakeAPI) Read(context.Context) (*kube.Cluster, error) { return f.cluster, f.err }

func (f *fakeAPI) Drain(_ context.Context, node string, drain bool) (bool, error) {
	for _, n := range f.cluster.Nodes {
		if n.Name != node {
			continue
		}
		had := len(n.Spec.Taints) > 0
		n.Spec.Taints = nil
		if drain {
			n.Spec.Taints = []corev1.Taint{{Key: "heraldlb.io/drain", Effect: corev1.TaintEffectPreferNoSchedule}}
			if f.drained != nil {
				f.drained()
			}
		}
		return had != drain, nil
	}
	f.t.Errorf("node %s does not exist", node)
	return false, f.err
}

func (f *fakeAPI) Report(ctx context.Context, node string) (*v1beta1.SpeakerStatus, error) {
	if f.mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, s := range f.cluster.Speakers {
		if s.Name == node {
			return s, nil
		}
	}
	return nil, nil
}

// call runs a command line against an API.
func call(t *testing.T, api *fakeAPI, colour bool, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	a := &app{
		in: strings.NewReader(""), out: &o, err: &e, version: "v1.2.0", colour: colour, now: (&fakeAPI{time: time.Unix(0, 0)}).now,
		open: func(kube.Access) (API, error) { return api, nil },
	}
	status = a.run(t.Context(), args)
	return status, o.String(), e.String()
}

// golden compares with a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-golden +now; go test -update writes it anew):\n%s", file, diff)
	}
}

// troubled makes the cluster unwell in several ways at once.
func troubled(c *kube.Cluster) {
	c.Speakers[0].Status.BGP.Sessions[0].State = "Active"
	c.Speakers[0].Status.BGP.Sessions[0].LastError = "connect: connection refused"
	c.Speakers[1].Status.L2 = nil
	c.Speakers[1].Status.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Reason: "GossipDown", Message: "gossip port 7947 is taken"}}
	c.Speakers[2].Status.Conditions = append(c.Speakers[2].Status.Conditions, metav1.Condition{
		Type: "ProxyARP", Status: metav1.ConditionTrue, Reason: "ProxyARP", Message: "eth0 has proxy_arp on",
	})
	c.Speakers[2].Status.Version = "v1.1.0"
	c.Proxy = &corev1.ConfigMap{Data: map[string]string{"config.conf": "mode: ipvs\nipvs: {strictARP: false}\n"}}
	pool := c.Pools[0].DeepCopy()
	pool.Name, pool.UID, pool.CreationTimestamp = "late", "late-uid", metav1.NewTime(c.Time)
	c.Pools = append(c.Pools, pool)
	c.Leases[0].Spec.RenewTime.Time = c.Time.Add(5 * time.Minute)
	svc := c.Services[0].DeepCopy()
	svc.Name, svc.UID, svc.CreationTimestamp = "late", "svc-late-uid", metav1.NewTime(c.Time)
	svc.Annotations = map[string]string{"heraldlb.io/address-pool": "late"}
	svc.Status = corev1.ServiceStatus{}
	c.Services = append(c.Services, svc)
}

// TestGolden runs every verb in every format against a cluster that is well and one that is not.
func TestGolden(t *testing.T) {
	verbs := map[string][]string{
		"status": {"status"}, "vips": {"vips"}, "bgp": {"bgp"}, "check": {"check"},
		"explain-l2": {"explain", "service", "shop/web"}, "explain-bgp": {"explain", "svc", "api"},
	}
	for _, well := range []bool{true, false} {
		for name, args := range verbs {
			for _, format := range []string{"table", "json", "yaml"} {
				state, want := "well", 0
				c := fixture.Cluster(t)
				if !well {
					state, want = "unwell", 1
					troubled(c)
				}
				if !well && name == "explain-bgp" {
					want = 0 // of three sessions one is down
				}
				t.Run(state+"-"+name+"-"+format, func(t *testing.T) {
					status, out, errs := call(t, &fakeAPI{t: t, cluster: c}, false, append(args, "-o", format)...)
					if status != want || errs != "" {
						t.Errorf("status %d, want %d; %s", status, want, errs)
					}
					golden(t, state+"-"+name+"."+format, out)
				})
			}
		}
	}
}

func TestExplainNewService(t *testing.T) {
	c := fixture.Cluster(t)
	troubled(c)
	status, out, _ := call(t, &fakeAPI{t: t, cluster: c}, false, "explain", "service", "shop/late")
	if status != 1 {
		t.Errorf("status %d", status)
	}
	golden(t, "unwell-explain-late.table", out)
}

// TestGoldenFiles judges a directory of files, and the same from the standard input.
func TestGoldenFiles(t *testing.T) {
	for _, format := range []string{"table", "json", "yaml"} {
		status, out, errs := call(t, nil, false, "lint", "-f", "testdata/lint", "-o", format)
		if status != 1 || errs != "" {
			t.Errorf("status %d: %s", status, errs)
		}
		golden(t, "lint."+format, out)
	}
	status, out, _ := call(t, nil, false, "lint", "-f", "-")
	if want := "0 objects judged, 0 of other kinds skipped: no errors\n"; status != 0 || out != want {
		t.Errorf("of an empty input: status %d: %s", status, out)
	}
}

// TestGoldenDrain drains and undrains in every format.
func TestGoldenDrain(t *testing.T) {
	for _, format := range []string{"table", "json", "yaml"} {
		api := &fakeAPI{t: t, cluster: fixture.Cluster(t)}
		for _, verb := range [][]string{{"drain", "--wait=1ms"}, {"undrain"}} {
			_, out, errs := call(t, api, false, append(verb, "node-2", "-o", format)...)
			if errs != "" {
				t.Error(errs)
			}
			golden(t, verb[0]+"."+format, out)
		}
	}
}

// TestColour colours only where it is asked for, and never in JSON.
func TestColour(t *testing.T) {
	for _, args := range [][]string{{"status"}, {"vips"}, {"bgp"}, {"check"}, {"explain", "service", "web"}} {
		_, plain, _ := call(t, &fakeAPI{t: t, cluster: fixture.Cluster(t)}, false, args...)
		_, coloured, _ := call(t, &fakeAPI{t: t, cluster: fixture.Cluster(t)}, true, args...)
		_, json, _ := call(t, &fakeAPI{t: t, cluster: fixture.Cluster(t)}, true, append(args, "-o", "json")...)
		if strings.Contains(plain, "\x1b") || !strings.Contains(coloured, "\x1b[") || strings.Contains(json, "\x1b") {
			t.Errorf("%v: colours where they do not belong, or none where they do", args)
		}
	}
}

// TestUsage tells wrong usage, a failure and an unwell cluster apart.
func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args []string
		err  error
		want int
		says string
	}{
		{args: []string{"bogus"}, want: 2, says: `unknown command "bogus"`},
		{args: []string{"status", "extra"}, want: 2, says: "unknown command"},
		{args: []string{"status", "--bogus"}, want: 2, says: "unknown flag"},
		{args: []string{"status", "-o", "xml"}, want: 2, says: "must be one of table, json, yaml"},
		{args: []string{"explain"}, want: 2, says: "say what"},
		{args: []string{"explain", "service"}, want: 2, says: "accepts 1 arg"},
		{args: []string{"lint"}, want: 2, says: "filename"},
		{args: []string{"drain"}, want: 2, says: "accepts 1 arg"},
		{args: []string{"status"}, err: context.DeadlineExceeded, want: 1, says: "deadline exceeded"},
		{args: []string{"explain", "service", "shop/none"}, want: 1, says: "no Service shop/none"},
		{args: []string{"lint", "-f", "testdata/none.yaml"}, want: 1, says: "no such file"},
		{args: []string{"--help"}, want: 0},
		{args: []string{"--version"}, want: 0},
		{args: []string{"completion", "bash"}, want: 0},
	} {
		status, _, errs := call(t, &fakeAPI{t: t, cluster: fixture.Cluster(t), err: test.err}, false, test.args...)
		if status != test.want || !strings.Contains(errs, test.says) {
			t.Errorf("%v: status %d, want %d: %s", test.args, status, test.want, errs)
		}
	}
}

func TestDrain(t *testing.T) {
	c := fixture.Cluster(t)
	api := &fakeAPI{t: t, cluster: c}
	api.drained = func() {
		c.Speakers[1].Status.L2 = nil
		c.Speakers[1].Status.BGP.Sessions[0].Advertised = v1beta1.SpeakerAdvertised{}
	}
	for _, step := range []struct {
		verb, want string
	}{
		{"drain", "node node-2 drains\n"},
		{"drain", "node node-2 was drained already\n"},
		{"undrain", "node node-2 may announce again\n"},
		{"undrain", "node node-2 was not drained\n"},
	} {
		if status, out, errs := call(t, api, false, step.verb, "node-2"); status != 0 || out != step.want {
			t.Errorf("%s: status %d: %s%s", step.verb, status, out, errs)
		}
	}
}

// TestDrainStuck waits no longer than it is told for a node that goes on announcing.
func TestDrainStuck(t *testing.T) {
	api := &fakeAPI{t: t, cluster: fixture.Cluster(t)}
	status, out, _ := call(t, api, false, "drain", "node-2", "--wait=20ms")
	if status != 1 || !strings.Contains(out, "still announces 2 addresses") {
		t.Errorf("status %d: %s", status, out)
	}
}

// TestDrainUnseen does not take silence for an empty node.
func TestDrainUnseen(t *testing.T) {
	api := &fakeAPI{t: t, cluster: fixture.Cluster(t), mute: true}
	status, out, errs := call(t, api, false, "drain", "node-2", "--wait=1ms")
	if status != 1 || out != "" || !strings.Contains(errs, "not known") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
}

func TestCompletion(t *testing.T) {
	for want, args := range map[string][]string{
		"node-1\nnode-2\nnode-3\n:4\n": {"__complete", "drain", ""},
		"shop/web\n:4\n":               {"__complete", "explain", "service", "shop/w"},
		"table\njson\nyaml\n:4\n":      {"__complete", "status", "-o", ""},
	} {
		if status, out, _ := call(t, &fakeAPI{t: t, cluster: fixture.Cluster(t)}, false, args...); status != 0 || out != want {
			t.Errorf("%v: %d: %q", args, status, out)
		}
	}
}
