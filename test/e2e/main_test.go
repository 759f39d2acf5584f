package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
)

func TestMain(m *testing.M) {
	lab.Main(&suite{m}, lab.Build{Herald: true, Race: true})
}

// suite runs the tests and ends the laboratory that they share.
type suite struct{ tests *testing.M }

func (s *suite) Run() int {
	code := s.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.scene == nil {
		return code
	}
	if err := shared.scene.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "ending the laboratory:", err)
		return max(code, 1)
	}
	return code
}

// shared is the laboratory of this test binary: to start one for each test would take longer than the tests.
var shared struct {
	sync.Mutex
	scene *scene.Scene
	err   error
}

// openLimit bounds how long the laboratory may take to come up, Herald included.
const openLimit = 5 * time.Minute

// theLab returns the running laboratory with the chart installed.
func theLab(t *testing.T) *scene.Scene {
	t.Helper()
	netlab.Need(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.scene == nil && shared.err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), openLimit)
		defer cancel()
		began := time.Now()
		// The directory is named so that logs can be kept for whoever looks into a failure.
		shared.scene, shared.err = scene.Open(ctx, lab.Options{Dir: os.Getenv("HERALD_E2E_DIR"), Log: slog.New(slog.DiscardHandler)})
		t.Logf("the laboratory was up, with Herald in it, after %s", time.Since(began).Round(100*time.Millisecond))
	}
	if shared.err != nil {
		t.Fatalf("no laboratory: %v", shared.err)
	}
	return shared.scene
}
