package live

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/kubelet"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/observe"
)

func TestMain(m *testing.M) { lab.Main(m, lab.Build{Herald: true, Race: true}) }

// Limits: how long things may take that take seconds on an idle machine.
const (
	openLimit = 10 * time.Minute
	patience  = 4 * time.Minute
)

//go:embed crds.yaml
var crds string

//go:embed prometheus.yaml
var pod string

const values = `
metrics:
  podMonitor: {enabled: true}
  prometheusRule: {enabled: true, rules: {HeraldBGPSessionFlapping: {threshold: 1}}}
  dashboards: {enabled: true}
`

// otherImage has a controller that says that it is of another version.
const otherImage = "herald-other"

// stage is the laboratory with Herald and Prometheus in it. What goes wrong ends the test.
type stage struct {
	*scene.Scene
	t          *testing.T
	prometheus *prometheus
	alerts     []observe.Rule // as Prometheus has them
	fired      map[string]bool
}

func open(t *testing.T) *stage {
	t.Helper()
	netlab.Need(t)
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("Prometheus is not there: install the distribution's package prometheus (make packages does)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), openLimit)
	defer cancel()
	began := time.Now()
	other := otherVersion(ctx, t)
	opened, err := scene.Open(ctx, lab.Options{
		Dir: os.Getenv("HERALD_OBSERVE_DIR"), Log: slog.New(slog.DiscardHandler),
		Images: map[string]kubelet.Image{otherImage: {Dir: other, User: 65532}},
	})
	if err != nil {
		t.Fatalf("no laboratory: %v", err)
	}
	s := &stage{Scene: opened, t: t, fired: map[string]bool{}}
	t.Cleanup(func() { s.must(s.Close()) })
	t.Cleanup(func() {
		if t.Failed() {
			s.diagnose(began)
		}
	})
	s.must(s.Apply(ctx, crds))
	s.must(s.HelmUpgrade(ctx, s.Release, s.Namespace, values))
	s.must(s.configure(ctx))
	s.must(s.Apply(ctx, pod))
	_, err = s.Kubectl(ctx, "wait", "--for=condition=Ready", "pod/prometheus", "--namespace=monitoring", "--timeout=4m")
	s.must(err)
	for _, n := range s.Nodes {
		if p, err := n.Kubelet().Find("monitoring", "prometheus", ""); err == nil {
			s.prometheus = newPrometheus(p.Host)
		}
	}
	if s.prometheus == nil {
		t.Fatal("no node runs Prometheus")
	}
	t.Logf("Prometheus ran after %s", time.Since(began).Round(time.Second))
	return s
}

// otherVersion builds the controller with another version and returns the directory.
func otherVersion(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, "go", "build", "-race", "-ldflags=-X main.version=v0.0.0-other", "-o", dir, "./cmd/herald-controller")
	cmd.Dir = filepath.Join("..", "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the controller: %v\n%s", err, out)
	}
	for at := dir; at != filepath.Dir(at) && at != os.TempDir(); at = filepath.Dir(at) { // for the user that it runs as
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// must ends the test on an error.
func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits until ready returns nil, and says how long that took.
func (s *stage) eventually(what string, ready func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	began := time.Now()
	s.must(s.Wait(ctx, what, ready))
	s.t.Logf("%s: after %s", what, time.Since(began).Round(100*time.Millisecond))
}

// fire waits until all these alerts fire.
func (s *stage) fire(names ...string) {
	s.t.Helper()
	s.eventually("alerts "+strings.Join(names, ", ")+" to fire", func(ctx context.Context) error {
		firing, err := s.prometheus.firing(ctx)
		if err != nil {
			return err
		}
		for _, name := range names {
			if firing[name] == 0 {
				return fmt.Errorf("%s does not; %v do", name, slices.Sorted(maps.Keys(firing)))
			}
			s.fired[name] = true
		}
		return nil
	})
}

// silence waits until no alert fires.
func (s *stage) silence() {
	s.t.Helper()
	s.eventually("silence", func(ctx context.Context) error {
		firing, err := s.prometheus.firing(ctx)
		if err == nil && len(firing) > 0 {
			err = fmt.Errorf("%v fire", slices.Sorted(maps.Keys(firing)))
		}
		return err
	})
}

// create makes a Service.
func (s *stage) create(name string, edits ...scene.Edit) {
	s.t.Helper()
	_, err := s.Services().Create(s.t.Context(), scene.Service(name, edits...), metav1.CreateOptions{})
	s.must(err)
}

// remove deletes Services.
func (s *stage) remove(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.must(s.Services().Delete(s.t.Context(), name, metav1.DeleteOptions{}))
	}
}

// service waits until a Service is as wanted.
func (s *stage) service(name, what string, wanted func(*corev1.Service) error) *corev1.Service {
	s.t.Helper()
	var got *corev1.Service
	s.eventually("Service "+name+" to be "+what, func(ctx context.Context) (err error) {
		if got, err = s.Services().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		return wanted(got)
	})
	return got
}

// kubectl runs kubectl for its effect.
func (s *stage) kubectl(args ...string) {
	s.t.Helper()
	_, err := s.Kubectl(s.t.Context(), args...)
	s.must(err)
}

// diagnose logs what helps to find out why the test failed.
func (s *stage) diagnose(began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"get", "pods", "--all-namespaces", "-o", "wide"}, {"get", "services", "-o", "wide"}, {"get", "herald"},
	} {
		text, err := s.Kubectl(ctx, args...)
		s.t.Logf("kubectl %s\n%s%v", strings.Join(args, " "), text, errors.Join(err))
	}
	if s.prometheus != nil {
		var targets struct {
			ActiveTargets []struct{ ScrapeURL, Health, LastError string }
		}
		err := s.prometheus.get(ctx, "targets", nil, &targets)
		s.t.Logf("targets: %+v %v", targets, err)
		firing, err := s.prometheus.firing(ctx)
		s.t.Logf("alerts: %v %v", firing, err)
	}
	for _, namespace := range []string{s.Namespace, "monitoring"} {
		logs, err := s.Logs(namespace, "")
		lines := strings.Split(logs, "\n")
		s.t.Logf("logs in %s of the last %s: %v\n%s", namespace, time.Since(began).Round(time.Second), err, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}
