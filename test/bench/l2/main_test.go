package l2

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
)

const (
	runsEnv  = "HERALD_BENCH_RUNS"
	soakEnv  = "HERALD_BENCH_SOAK"
	manyEnv  = "HERALD_BENCH_ADDRESSES"
	dirEnv   = "HERALD_BENCH_DIR"
	numNodes = 5
)

// laboratory is that of all measurements here: Herald is installed, and no BGP is spoken.
var laboratory = scene.Shared{
	Options: lab.Options{Nodes: numNodes, Dir: os.Getenv(dirEnv)},
	Prepare: func(ctx context.Context, s *scene.Scene) error {
		if _, err := s.Kubectl(ctx, "delete", scene.Peers+","+scene.BGPAdvertisements, "--all"); err != nil {
			return err
		}
		_, err := s.Kubectl(ctx, "scale", "deployment/web", fmt.Sprintf("--replicas=%d", numNodes))
		return err
	},
}

// measured is what was measured in it.
var measured struct {
	sync.Mutex
	table table
}

func TestMain(m *testing.M) {
	lab.Main(&scene.Suite{Tests: m, Lab: &laboratory, After: printMeasured}, lab.Build{Herald: true})
}

// printMeasured prints the table of figures.
func printMeasured() {
	measured.Lock()
	defer measured.Unlock()
	if len(measured.table.figures) > 0 {
		load, _ := os.ReadFile("/proc/loadavg")
		fmt.Printf("\n%s\nload of the machine at the end: %s\n", measured.table.String(), load)
	}
}

// runs returns how often to repeat something.
func runs(t *testing.T) int {
	t.Helper()
	return figures.Number(t, runsEnv, 20)
}

// many returns how many addresses of each family one node is to have.
func many(t *testing.T) int {
	t.Helper()
	return figures.Number(t, manyEnv, 10000)
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
