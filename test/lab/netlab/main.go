package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Main is the body of TestMain for packages whose tests need a network of their own: it runs the tests inside, see [Enter].
// Where namespaces cannot be made it runs them outside, and those that call [Need] are skipped.
//
// It takes a *testing.M; saying so here would bring package testing into every program that uses a laboratory.
func Main(m interface{ Run() int }) {
	if os.Getenv(stageEnv) == "" {
		if err := Available(); err != nil {
			fmt.Fprintln(os.Stderr, "netlab:", err)
			os.Exit(m.Run())
		}
	}
	Enter()
	os.Exit(m.Run())
}

// Need skips the test when it does not run inside; t is a testing.TB.
func Need(t interface {
	Helper()
	Skip(args ...any)
},
) {
	t.Helper()
	if !Inside() {
		t.Skip(errNamespaces)
	}
}

// Available says why namespaces cannot be made here; nil if they can. It tries, by re-executing the program, so like [Enter] it belongs
// at the beginning of main or TestMain. That namespaces can be made is not enough: some systems let an ordinary user make them, but
// nothing be done in them.
func Available() error {
	switch os.Getenv(stageEnv) {
	case stageInside, stageProgram:
		return nil
	case stageProbe:
		runProbe()
	case stageInit:
		runInit()
	}
	cmd := reexec(stageProbe)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, nil, nil
	cmd.SysProcAttr = namespaceAttr()
	cmd.SysProcAttr.Pdeathsig = 0 // this thread may end before
	var exit *exec.ExitError
	_, err := cmd.Output()
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%w: %s", errNamespaces, exit.Stderr)
	case err != nil:
		return fmt.Errorf("%w: %w", errNamespaces, err)
	}
	return nil
}
