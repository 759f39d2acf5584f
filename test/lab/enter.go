package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/heraldlb/herald/test/lab/build"
	"github.com/heraldlb/herald/test/lab/kubelet"
	"github.com/heraldlb/herald/test/lab/netlab"
)

// Environment by which the outer process tells the inner one what it cannot find out by itself.
const (
	programsEnv = "HERALD_LAB_PROGRAMS"
	outerEnv    = "HERALD_LAB_OUTER_PID"
)

// Build says what has to be built before a laboratory can start.
type Build struct {
	// Herald builds Herald's own programs, without which Pods of the image "herald" do not start.
	Herald bool
	// Race builds them with the race detector.
	Race bool
	// Progress receives a line for each long step; nil means standard error.
	Progress io.Writer
}

// Programs are the files and directories that a laboratory runs.
type Programs struct {
	Source       string // the checkout
	ControlPlane build.ControlPlane
	Herald       string // directory; empty if not asked for
	Web          string // directory
}

// Enter builds what is missing, which needs the network, and then goes into the laboratory's namespaces, which have
// none: it returns there, in another process (see [netlab.Enter]). It must be the first call in main or TestMain, since
// this program is also what containers start as. When something cannot be built it says so and ends the process.
func Enter(b Build) {
	kubelet.Shim()
	if outside() {
		if err := provide(b); err != nil {
			fmt.Fprintln(os.Stderr, "herald-lab:", err)
			os.Exit(1)
		}
	}
	netlab.Enter()
}

// Main is the body of TestMain for packages whose tests use a laboratory. Where namespaces cannot be made, tests that
// call [netlab.Need] are skipped.
func Main(m interface{ Run() int }, b Build) {
	kubelet.Shim()
	if outside() && netlab.Available() == nil {
		if err := provide(b); err != nil {
			fmt.Fprintln(os.Stderr, "herald-lab:", err)
			os.Exit(1)
		}
	}
	netlab.Main(m)
}

// outside reports whether this is the process that the user started. The ones on the way in have heard from it.
func outside() bool { return !netlab.Inside() && os.Getenv(outerEnv) == "" }

// provide builds, and puts what the inner process has to know into the environment.
func provide(b Build) error {
	if b.Progress == nil {
		b.Progress = os.Stderr
	}
	if os.Getenv(programsEnv) == "" { // set by a caller who has built everything before
		p, err := makePrograms(context.Background(), b)
		if err != nil {
			return err
		}
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if err := os.Setenv(programsEnv, string(text)); err != nil {
			return err
		}
	}
	return os.Setenv(outerEnv, strconv.Itoa(os.Getpid()))
}

func makePrograms(ctx context.Context, b Build) (Programs, error) {
	source, err := build.Source(ctx)
	if err != nil {
		return Programs{}, err
	}
	p := Programs{Source: source}
	o := build.Options{Source: source, Race: b.Race, Progress: b.Progress}
	if p.ControlPlane, err = build.MakeControlPlane(ctx, o); err != nil {
		return p, err
	}
	if p.Web, err = build.MakeWeb(ctx, o); err != nil {
		return p, err
	}
	if b.Herald {
		p.Herald, err = build.MakeHerald(ctx, o)
	}
	return p, err
}

// programs returns what the outer process has built.
func programs() (Programs, error) {
	var p Programs
	text := os.Getenv(programsEnv)
	if text == "" {
		return p, fmt.Errorf("a laboratory starts only inside: call lab.Enter or lab.Main first")
	}
	return p, json.Unmarshal([]byte(text), &p)
}

// OuterPID returns the process that started all of this, as the user sees it; 0 if it is not known.
func OuterPID() int {
	pid, err := strconv.Atoi(os.Getenv(outerEnv))
	if err != nil {
		return 0
	}
	return pid
}
