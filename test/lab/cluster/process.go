package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// Host is a network namespace in which processes can be started.
type Host interface {
	// Start starts the command with the host's network.
	Start(cmd *exec.Cmd) error
}

// process is a child that runs until it is told to stop, with its output in a file.
type process struct {
	name     string
	log      string
	cmd      *exec.Cmd
	done     chan struct{} // closed when it has ended and is reaped
	stopping atomic.Bool
}

// start runs binary on the host. Output is appended to NAME.log in dir. The caller stops it.
func start(host Host, dir, name, binary string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal is ours to answer, in our order
	if err := host.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// kill ends the process and returns when it is gone. There is nothing that a component of a laboratory would have to
// save, and a polite API server first waits for its clients. A nil process is gone already.
func (p *process) kill() {
	if p == nil {
		return
	}
	p.stopping.Store(true)
	_ = p.cmd.Process.Kill() // an error means that it has ended by itself
	<-p.done
}

// failure returns an error if the process ended although nobody asked it to, with the end of what it said.
func (p *process) failure() error {
	if p == nil || p.stopping.Load() {
		return nil
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself (%s); the end of %s:\n%s", p.name, p.cmd.ProcessState, p.log, tail(p.log, 15))
	default:
		return nil
	}
}

// tail returns at most n lines from the end of a file, or what went wrong in reading it.
func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
