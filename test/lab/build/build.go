// Package build makes the programs that a laboratory runs, and keeps them for the next time: the Kubernetes control
// plane and Helm from pinned Go modules, and Herald's own programs from this checkout.
//
// The control plane takes some minutes on a small machine, so its binaries live in the user's cache directory under a
// key made of everything that goes into them. They are put there by rename, under a lock: two laboratories started at
// once build once, and an interrupted build leaves nothing that looks finished.
package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Module is the import path of the main module, Herald itself.
const Module = "github.com/heraldlb/herald"

// Options say where to build from and to.
type Options struct {
	// Source is the root of the checkout; empty means the main module of the current directory.
	Source string
	// Cache is the directory for finished programs; empty means herald-lab in the user's cache directory.
	Cache string
	// Race builds Herald's own programs with the race detector.
	Race bool
	// Progress receives a line when something long starts, every now and then while it runs, and when it is done.
	// Nil means silence.
	Progress io.Writer
}

// withDefaults fills in what the caller left open.
func (o Options) withDefaults(ctx context.Context) (Options, error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Source == "" {
		dir, err := Source(ctx)
		if err != nil {
			return o, err
		}
		o.Source = dir
	}
	if o.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("no place to keep built programs (set HOME or XDG_CACHE_HOME): %w", err)
		}
		o.Cache = filepath.Join(dir, "herald-lab")
	}
	return o, os.MkdirAll(o.Cache, 0o755)
}

// Source returns the root of the checkout that the current directory belongs to. It needs the go command.
func Source(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", Module).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("finding Herald's checkout (run this inside it, with the go command on PATH): %w: %s",
			err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}

// target is one call of the go command.
type target struct {
	what      string   // for people
	dir       string   // where the go command runs: decides the module
	output    string   // file, or directory with a trailing slash
	packages  []string // what to build
	variables []string // linker -X settings
	race      bool
}

// run builds the target, printing progress. The go command's own words are part of the error.
func (t target) run(ctx context.Context, progress io.Writer) error {
	done := track(progress, t.what, trackInterval)
	cmd := exec.CommandContext(ctx, "go", t.arguments()...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo(t.race), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	done(err)
	if err != nil {
		return fmt.Errorf("building %s: %w\n%s", t.what, err, lastLines(string(out), 40))
	}
	return nil
}

// arguments returns what follows "go" on the command line.
func (t target) arguments() []string {
	flags := []string{"-s", "-w"}
	for _, v := range t.variables {
		flags = append(flags, "-X", v)
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=" + strings.Join(flags, " ")}
	if t.race {
		args = append(args, "-race")
	}
	args = append(args, "-o", t.output)
	return append(args, t.packages...)
}

// cgo returns the value of CGO_ENABLED: programs are static unless the race detector asks for C.
func cgo(race bool) string {
	if race {
		return "1"
	}
	return "0"
}

// lastLines returns at most n lines from the end of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// platform names what a program is built for.
func platform() string { return runtime.GOOS + "-" + runtime.GOARCH }

// trackInterval is how often a long build says that it is still going on.
const trackInterval = 20 * time.Second

// track prints that what has started, then every interval how long it has taken so far, and, when the function it
// returns is called, how it ended. A build that takes under a second is not mentioned.
func track(w io.Writer, what string, interval time.Duration) func(error) {
	start := time.Now()
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		for {
			select {
			case <-stop:
				return
			case <-timer.C:
				fmt.Fprintf(w, "building %s… %s\n", what, elapsed(start))
				timer.Reset(interval)
			}
		}
	}()
	return func(err error) {
		close(stop)
		<-stopped
		if time.Since(start) < time.Second {
			return
		}
		result := "built"
		if err != nil {
			result = "failed to build"
		}
		fmt.Fprintf(w, "%s %s in %s\n", result, what, elapsed(start))
	}
}

func elapsed(start time.Time) time.Duration { return time.Since(start).Round(time.Second) }
