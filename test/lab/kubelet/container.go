package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// A container that ends is started again after a back-off, which doubles while it keeps ending soon. It is far shorter
// than a real node's, so that tests need not wait; the first restart is at once, as there.
const (
	backoffFirst = time.Second
	backoffMax   = 10 * time.Second
	backoffReset = 30 * time.Second // a run of this length starts afresh
)

// container is one container of a Pod over all its runs. It belongs to the worker's goroutine.
type container struct {
	spec      *corev1.Container
	view      containerView
	process   *process // nil unless it runs
	notBefore time.Time
	backoff   time.Duration
	runs      int32
}

func newContainer(spec *corev1.Container) *container {
	return &container{spec: spec, view: containerView{
		name: spec.Name, image: spec.Image,
		waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"},
	}}
}

// process is one run of a container.
type process struct {
	cmd     *exec.Cmd
	pid     int
	started time.Time   // just before it was
	user    processSpec // with what rights, for commands executed beside it
	host    *netlab.Host
	cancel  context.CancelFunc // ends its probes
	done    chan struct{}      // closed when the process has ended
	ending  bool               // it has been asked to end
}

// waitFor makes the container wait for a reason, and be tried again after d.
func (c *container) waitFor(reason, message string, d time.Duration) {
	c.view.waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: message}
	c.notBefore = time.Now().Add(d)
}

// kill ends the container's process at once; the caller waits for the worker's goroutines.
func (c *container) kill() {
	if c.process != nil {
		_ = c.process.cmd.Process.Kill() // an error means that it has ended
	}
}

// settle makes a container that will never run again look ended.
func (c *container) settle() {
	if c.view.waiting == nil {
		return
	}
	c.view.waiting = nil
	if c.view.terminated == nil {
		c.view.terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "it was never started"}
	}
}

// startContainer runs the container once. What stands in the way becomes its waiting reason.
func (w *worker) startContainer(ctx context.Context, c *container) {
	image, err := w.k.o.Images(c.spec.Image)
	if err != nil {
		c.waitFor("ErrImagePull", err.Error(), 2*time.Second)
		return
	}
	spec, err := w.containerSpec(c, image)
	if err != nil {
		c.waitFor("CreateContainerConfigError", err.Error(), time.Second)
		return
	}
	p, err := w.launch(c, spec)
	if err != nil {
		w.log.Warn("starting a container", "container", c.spec.Name, "err", err)
		c.runs++
		c.waitFor("RunContainerError", err.Error(), c.nextBackoff(0))
		return
	}
	c.process = p
	c.view.restarts = c.runs
	c.runs++
	c.view.previous, c.view.terminated, c.view.waiting = c.view.terminated, nil, nil
	c.view.running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(p.started)}
	c.view.startedUp, c.view.ready = c.spec.StartupProbe == nil, false
	if c.view.startedUp {
		c.view.ready = c.spec.ReadinessProbe == nil
	}
	w.log.Debug("container runs", "container", c.spec.Name, "pid", p.pid, "restarts", c.view.restarts)
	probing, cancel := context.WithCancel(ctx)
	p.cancel = cancel
	w.wg.Go(func() { w.waitFor(c, p) })
	w.startProbes(probing, c, p)
}

// containerSpec works out everything that a run needs to know.
func (w *worker) containerSpec(c *container, image Image) (containerSpec, error) {
	env, err := environment(w.pod, c.spec, w.baseEnvironment(), w.at(), w.volumes.src)
	if err != nil {
		return containerSpec{}, err
	}
	process, err := processOf(w.pod, c.spec, image)
	if err != nil {
		return containerSpec{}, err
	}
	process.Env = env
	process.Args = arguments(c.spec, image, env)
	process.KeepUser = netlab.SingleUser()
	mounts, err := w.volumes.mounts(c.spec, env)
	if err != nil {
		return containerSpec{}, err
	}
	root := filepath.Join(w.dir, "roots", fmt.Sprintf("%s-%d", c.spec.Name, c.runs))
	if err := os.MkdirAll(root, 0o755); err != nil {
		return containerSpec{}, err
	}
	sc := c.spec.SecurityContext
	return containerSpec{
		Root: root, Hostname: w.hostname(), Image: image.Dir, Files: w.generatedFiles(), Mounts: mounts, Process: process,
		ReadOnly: sc != nil && sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem,
	}, nil
}

// launch starts the shim with its orders and waits until it has become the container or has said what is wrong.
func (w *worker) launch(c *container, spec containerSpec) (*process, error) {
	out, err := w.k.openLog(w.pod, c.spec.Name, c.runs)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{shimRun}
	cmd.Env = shimEnvironment()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	began := time.Now()
	if err := startShim(w.sandbox.host, cmd, spec); err != nil {
		return nil, err
	}
	return &process{
		cmd: cmd, pid: cmd.Process.Pid, started: began, user: spec.Process, host: w.sandbox.host, done: make(chan struct{}),
	}, nil
}

// startShim starts cmd, a shim, on the host, gives it its orders and returns its complaint, if it has one. After an
// error the process has ended and is reaped.
func startShim(host *netlab.Host, cmd *exec.Cmd, orders any) error {
	text, err := json.Marshal(orders)
	if err != nil {
		return err
	}
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ordersW.Close()
	errorR, errorW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, ordersR.Close())
	}
	defer errorR.Close()
	cmd.ExtraFiles = []*os.File{ordersR, errorW}
	err = host.Start(cmd)
	ordersR.Close()
	errorW.Close()
	if err != nil {
		return err
	}
	_, err = ordersW.Write(text)
	ordersW.Close()
	complaint, readErr := io.ReadAll(errorR)
	if err := errors.Join(err, readErr); err != nil || len(complaint) > 0 {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if len(complaint) > 0 {
			return errors.New(string(complaint))
		}
		return err
	}
	return nil
}

// waitFor waits for the end of a run and tells the worker.
func (w *worker) waitFor(c *container, p *process) {
	_ = p.cmd.Wait() // how it ended is in ProcessState
	close(p.done)
	p.cancel()
	state := p.cmd.ProcessState
	w.post(func() { w.exited(c, p, state) })
}

// exited takes note of the end of a run and plans the next one.
func (w *worker) exited(c *container, p *process, state *os.ProcessState) {
	c.process = nil
	c.view.running, c.view.ready, c.view.startedUp = nil, false, false
	c.view.terminated = terminatedState(p, state, time.Now())
	code := c.view.terminated.ExitCode
	w.log.Debug("container ended", "container", c.spec.Name, "code", code)
	if w.stopping || !w.restarts(c, code) {
		return
	}
	wait := c.nextBackoff(time.Since(p.started))
	c.waitFor("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting container %s", wait, c.spec.Name), wait)
}

// restarts reports whether a container that ended with this code is to run again.
func (w *worker) restarts(c *container, code int32) bool {
	policy := w.pod.Spec.RestartPolicy
	for _, i := range w.init {
		if i == c && policy == corev1.RestartPolicyAlways {
			policy = corev1.RestartPolicyOnFailure // an init container that has succeeded is done
		}
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}

// nextBackoff returns how long to wait after a run of the given length.
func (c *container) nextBackoff(ran time.Duration) time.Duration {
	if ran > backoffReset {
		c.backoff = 0
	}
	wait := c.backoff
	c.backoff = min(max(2*c.backoff, backoffFirst), backoffMax)
	return wait
}

func terminatedState(p *process, state *os.ProcessState, now time.Time) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{
		StartedAt: metav1.NewTime(p.started), FinishedAt: metav1.NewTime(now), Reason: "Completed",
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		t.Signal = int32(status.Signal())
		t.ExitCode = 128 + t.Signal
	} else {
		t.ExitCode = int32(state.ExitCode())
	}
	if t.ExitCode != 0 {
		t.Reason = "Error"
	}
	return t
}

// stopContainer asks a container's process to end: preStop, SIGTERM, and SIGKILL when the grace is over. Asked again
// with no grace, it kills at once.
func (w *worker) stopContainer(ctx context.Context, c *container, grace time.Duration) {
	p := c.process
	if p == nil {
		return
	}
	if grace == 0 {
		_ = p.cmd.Process.Kill()
		return
	}
	if p.ending {
		return
	}
	p.ending = true
	var hook *corev1.LifecycleHandler
	if c.spec.Lifecycle != nil {
		hook = c.spec.Lifecycle.PreStop
	}
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if hook != nil {
			if err := w.k.runHook(ctx, p, hook); err != nil {
				w.log.Warn("preStop hook", "container", c.spec.Name, "err", err)
			}
		}
		_ = p.cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-p.done:
		case <-ctx.Done():
			_ = p.cmd.Process.Kill()
		}
	})
}

// shortID returns eight hexadecimal digits of a UID, which is random.
func shortID(uid types.UID) string { return string(uid)[:8] }
