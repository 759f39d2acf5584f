package l2

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
)

const (
	runsEnv  = "HERALD_BENCH_RUNS"
	soakEnv  = "HERALD_BENCH_SOAK"
	manyEnv  = "HERALD_BENCH_ADDRESSES"
	dirEnv   = "HERALD_BENCH_DIR"
	numNodes = 5
)

// openLimit bounds how long the laboratory may take to come up, Herald included.
const openLimit = 5 * time.Minute

func TestMain(m *testing.M) { lab.Main(&suite{m}, lab.Build{Herald: true}) }

// suite runs the measurements, prints their table and ends the laboratory that they share.
type suite struct{ tests *testing.M }

func (s *suite) Run() int {
	code := s.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if len(shared.table.figures) > 0 {
		load, _ := os.ReadFile("/proc/loadavg")
		fmt.Printf("\n%s\nload of the machine at the end: %s\n", shared.table.String(), load)
	}
	if shared.scene == nil {
		return code
	}
	if err := shared.scene.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "ending the laboratory:", err)
		return max(code, 1)
	}
	return code
}

// shared is the laboratory of this test binary, and what was measured in it.
var shared struct {
	sync.Mutex
	scene *scene.Scene
	err   error
	table table
}

// theLab returns the running laboratory: Herald is installed, and no BGP is spoken.
func theLab(t *testing.T) *scene.Scene {
	t.Helper()
	netlab.Need(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.scene == nil && shared.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), openLimit)
		defer cancel()
		shared.scene, shared.err = scene.Open(ctx, lab.Options{Nodes: numNodes, Dir: os.Getenv(dirEnv)})
		if shared.err == nil {
			_, shared.err = shared.scene.Kubectl(ctx, "delete", scene.Peers+","+scene.BGPAdvertisements, "--all")
		}
		if shared.err == nil {
			_, shared.err = shared.scene.Kubectl(ctx, "scale", "deployment/web", fmt.Sprintf("--replicas=%d", numNodes))
		}
	}
	if shared.err != nil {
		t.Fatalf("no laboratory: %v", shared.err)
	}
	return shared.scene
}

// runs returns how often to repeat something.
func runs(t *testing.T) int {
	t.Helper()
	return number(t, runsEnv, 20)
}

// many returns how many addresses of each family one node is to have.
func many(t *testing.T) int {
	t.Helper()
	return number(t, manyEnv, 10000)
}

func number(t *testing.T, env string, usual int) int {
	t.Helper()
	text := os.Getenv(env)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: give a number of at least 1", env, text)
	}
	return n
}

// soak returns how long to wait for false alarms.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(soakEnv)
	if text == "" {
		return 10 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s=%s: give a duration, such as 10m", soakEnv, text)
	}
	return d
}
