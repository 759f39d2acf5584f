package assign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/heraldlb/herald/test/bench/figures"
)

// process is a running herald-controller.
type process struct {
	s    *stage
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// controller starts the program. It ends with the test at the latest.
func (s *stage) controller() *process {
	s.t.Helper()
	s.starts++
	p := &process{s: s, log: filepath.Join(s.dir, fmt.Sprintf("controller-%d.log", s.starts)), done: make(chan struct{})}
	out, err := os.Create(p.log)
	s.must(err)
	defer out.Close()
	p.cmd = exec.Command(s.p.Controller, "--kubeconfig", s.config, "--namespace", namespace, "--leader-election-id", release+"-controller",
		"--gossip-secret", release+"-gossip", "--http-address", "127.0.0.1:9473", "--metrics-address", "127.0.0.1:9472")
	p.cmd.Stdout, p.cmd.Stderr = out, out
	s.must(s.host.Start(p.cmd))
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	s.t.Cleanup(func() {
		p.stop()
		if s.t.Failed() {
			text, _ := os.ReadFile(p.log)
			s.t.Logf("%s ends with:\n%s", filepath.Base(p.log), text[max(0, len(text)-3000):])
		}
	})
	return p
}

// stop asks the controller to end, and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that it has ended
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.s.t.Error("the controller does not end")
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// memory returns a size of the process in MiB.
func (p *process) memory(field string) float64 {
	p.s.t.Helper()
	size, err := figures.Memory(p.cmd.Process.Pid, field)
	p.s.must(err)
	return size
}

// cpu returns the processor time that the process has used.
func (p *process) cpu() time.Duration {
	p.s.t.Helper()
	used, err := figures.CPU(p.cmd.Process.Pid)
	p.s.must(err)
	return used
}
