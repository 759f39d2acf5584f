package scene

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// openLimit bounds how long the laboratory may take to come up, Herald included.
const openLimit = 5 * time.Minute

// Shared is one laboratory for all tests of a binary: to start one for each would take longer than the tests. The first that asks for it starts it.
type Shared struct {
	Options lab.Options
	Prepare func(context.Context, *Scene) error // makes of it what the tests want; nil: nothing

	mu    sync.Mutex
	scene *Scene
	err   error
}

// Scene returns the running laboratory. It skips the test where there can be none, and ends it when there is none.
func (s *Shared) Scene(t *testing.T) *Scene {
	t.Helper()
	netlab.Need(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scene == nil && s.err == nil {
		began := time.Now()
		s.err = s.open()
		t.Logf("the laboratory was up, with Herald in it, after %s", time.Since(began).Round(100*time.Millisecond))
	}
	if s.err != nil {
		t.Fatalf("no laboratory: %v", s.err)
	}
	return s.scene
}

func (s *Shared) open() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), openLimit)
	defer cancel()
	if s.scene, err = Open(ctx, s.Options); err != nil || s.Prepare == nil {
		return err
	}
	return s.Prepare(ctx, s.scene)
}

// Suite is the tests of a binary with their laboratory, for [lab.Main].
type Suite struct {
	Tests interface{ Run() int }
	Lab   *Shared
	After func() // called when the tests are through; may be nil
}

// Run runs the tests and ends the laboratory. It returns the exit status.
func (s *Suite) Run() int {
	code := s.Tests.Run()
	if s.After != nil {
		s.After()
	}
	s.Lab.mu.Lock()
	defer s.Lab.mu.Unlock()
	if s.Lab.scene == nil {
		return code
	}
	if err := s.Lab.scene.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "ending the laboratory:", err)
		return max(code, 1)
	}
	return code
}
