package assign

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// memory returns a size of the process in MiB: VmRSS is what it has now, VmHWM the most it had.
func (p *process) memory(field string) float64 {
	p.s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	p.s.must(err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			p.s.must(err)
			return float64(kib) / 1024
		}
	}
	p.s.t.Fatalf("no %s in\n%s", field, text)
	return 0
}

// cpu returns the processor time that the process has used.
func (p *process) cpu() time.Duration {
	p.s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	p.s.must(err)
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(string(f))
		p.s.must(err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
