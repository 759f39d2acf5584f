package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// readyWithin is how long a daemon may take to wait for neighbours.
const readyWithin = 60 * time.Second

// process is a program on the daemon's host.
type process struct {
	cmd    *exec.Cmd
	output string // file
	done   chan struct{}
}

// installed says which of the programs of a package is missing.
func installed(pkg string, programs ...string) error {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is not installed (Debian and Ubuntu: apt-get install %s)", p, pkg)
		}
	}
	return nil
}

// run starts a program on a host, in a process group of its own. Its output goes into a file of the directory.
func run(h *netlab.Host, dir, name string, cmd *exec.Cmd) (*process, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, output: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.Start(cmd); err != nil {
		return nil, err
	}
	go func() { // joined in kill
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// signal sends a signal to the program and what it started.
func (p *process) signal(s syscall.Signal) error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState)
	default:
		return syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// goneWithin bounds how long the processes that a program started may take to end once they are killed.
const goneWithin = 10 * time.Second

// kill ends the program at once, and waits until all that it started has ended, too: one that is not quite gone yet keeps its port.
func (p *process) kill() {
	group := -p.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGKILL) // it may have ended by itself
	<-p.done
	for end := time.Now().Add(goneWithin); time.Now().Before(end) && syscall.Kill(group, 0) == nil; {
		time.Sleep(5 * time.Millisecond)
	}
}

// ready waits until ask succeeds.
func (p *process) ready(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			said, _ := os.ReadFile(p.output)
			return fmt.Errorf("%s ended (%s): %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState, bytes.TrimSpace(said))
		case <-ctx.Done():
			said, _ := os.ReadFile(p.output)
			return fmt.Errorf("%s does not answer: %w: it said: %s", filepath.Base(p.cmd.Path), err, bytes.TrimSpace(said))
		case <-tick.C:
		}
	}
}

// processes are those of one daemon.
type processes []*process

// Freeze implements Daemon.
func (ps processes) Freeze() error { return ps.all(syscall.SIGSTOP) }

// Thaw implements Daemon.
func (ps processes) Thaw() error { return ps.all(syscall.SIGCONT) }

func (ps processes) all(s syscall.Signal) error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.signal(s))
	}
	return errors.Join(errs...)
}

// Close implements Daemon.
func (ps processes) Close() error {
	for _, p := range ps {
		p.kill()
	}
	return nil
}

// Log implements Daemon.
func (ps processes) Log() string {
	var b bytes.Buffer
	for _, p := range ps {
		said, _ := os.ReadFile(p.output)
		fmt.Fprintf(&b, "%s said:\n%s\n", filepath.Base(p.cmd.Path), said)
	}
	return b.String()
}

// output runs a program and returns what it printed.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", name, err, bytes.TrimSpace(errs.Bytes()), bytes.TrimSpace(out))
	}
	return out, nil
}

// write writes a file into the directory and returns its path.
func write(dir, name, text string, mode os.FileMode) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(text), mode)
}
