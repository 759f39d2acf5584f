package kubelet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// eagerInterval is how often a probe is repeated until it first succeeds. A real node waits a whole period; here it
// would be the greater part of a laboratory's start. Failures still count once per period only.
const eagerInterval = 150 * time.Millisecond

// startProbes probes a container's run: first its startup probe, then liveness and readiness, until it ends.
func (w *worker) startProbes(ctx context.Context, c *container, p *process) {
	w.wg.Go(func() {
		if s := c.spec.StartupProbe; s != nil {
			passed := w.probe(ctx, c, p, s, func(ok bool, why string) bool {
				if !ok {
					w.post(func() { w.unhealthy(ctx, c, p, s, "startup", why) })
				}
				return !ok
			})
			if !passed {
				return
			}
			w.post(func() { w.startedUp(c, p) })
		}
		if r := c.spec.ReadinessProbe; r != nil {
			w.wg.Go(func() {
				w.probe(ctx, c, p, r, func(ok bool, _ string) bool {
					w.post(func() { w.setReady(c, p, ok) })
					return true
				})
			})
		}
		if l := c.spec.LivenessProbe; l != nil {
			w.probe(ctx, c, p, l, func(ok bool, why string) bool {
				if !ok {
					w.post(func() { w.unhealthy(ctx, c, p, l, "liveness", why) })
				}
				return true
			})
		}
	})
}

// startedUp notes that a startup probe has succeeded.
func (w *worker) startedUp(c *container, p *process) {
	if c.process == p {
		c.view.startedUp = true
		c.view.ready = c.view.ready || c.spec.ReadinessProbe == nil
	}
}

func (w *worker) setReady(c *container, p *process, ready bool) {
	if c.process == p {
		c.view.ready = ready
	}
}

// unhealthy restarts a container whose startup or liveness probe has failed too often.
func (w *worker) unhealthy(ctx context.Context, c *container, p *process, probe *corev1.Probe, kind, why string) {
	if c.process != p || w.stopping {
		return
	}
	w.log.Warn("container failed its probe, it will be restarted", "container", c.spec.Name, "probe", kind, "err", why)
	grace := 30 * time.Second
	for _, s := range []*int64{w.pod.Spec.TerminationGracePeriodSeconds, probe.TerminationGracePeriodSeconds} {
		if s != nil {
			grace = time.Duration(*s) * time.Second
		}
	}
	w.stopContainer(ctx, c, grace)
}

// probe runs a probe until the context ends or verdict returns false. verdict is called when the probe has succeeded or
// failed as many times in a row as its thresholds say, whenever that is something new or a failure again. It reports
// whether the last verdict was good.
func (w *worker) probe(ctx context.Context, c *container, p *process, probe *corev1.Probe, verdict func(ok bool, why string) (again bool)) bool {
	t := newTally(probe)
	if !sleep(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return false
	}
	for {
		began := time.Now()
		err := w.k.check(ctx, c.spec, p, &probe.ProbeHandler, w.at(), orDefault(probe.TimeoutSeconds, 1))
		if ctx.Err() != nil {
			return false
		}
		ok, decided := t.add(err == nil, began)
		if decided && !verdict(ok, fmt.Sprint(err)) {
			return ok
		}
		if !sleep(ctx, t.wait(time.Since(began))) {
			return false
		}
	}
}

// tally counts a probe's results.
type tally struct {
	period            time.Duration
	success, failure  int // thresholds
	good, bad         int // in a row
	everGood          bool
	lastGood, decided bool
	lastCounted       time.Time // when a failure last counted
}

func newTally(p *corev1.Probe) *tally {
	return &tally{
		period:  orDefault(p.PeriodSeconds, 10),
		success: max(int(p.SuccessThreshold), 1),
		failure: max(int(p.FailureThreshold), 1),
	}
}

// add counts a result; decided says that ok is news.
func (t *tally) add(good bool, now time.Time) (ok, decided bool) {
	if good {
		t.good, t.bad, t.everGood = t.good+1, 0, true
		if t.good < t.success || t.decided && t.lastGood {
			return true, false
		}
		t.decided, t.lastGood = true, true
		return true, true
	}
	t.good = 0
	if !t.lastCounted.IsZero() && now.Sub(t.lastCounted) < t.period*9/10 {
		return false, false
	}
	t.lastCounted = now
	if t.bad++; t.bad < t.failure {
		return false, false
	}
	t.bad = 0
	t.decided, t.lastGood = true, false
	return false, true
}

// wait returns how long to sleep after a check that took so long.
func (t *tally) wait(took time.Duration) time.Duration {
	interval := t.period
	if !t.everGood {
		interval = min(interval, eagerInterval)
	}
	return max(interval-took, 0)
}

func orDefault(seconds int32, otherwise int) time.Duration {
	if seconds == 0 {
		return time.Duration(otherwise) * time.Second
	}
	return time.Duration(seconds) * time.Second
}

// check carries out a probe once.
func (k *Kubelet) check(ctx context.Context, c *corev1.Container, p *process, h *corev1.ProbeHandler, at placement, timeout time.Duration) error {
	if h.Exec != nil {
		return k.exec(ctx, p, h.Exec.Command, timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case h.HTTPGet != nil:
		return k.httpGet(ctx, c, h.HTTPGet, at)
	case h.TCPSocket != nil:
		port, err := portNumber(c, h.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := k.o.Host.DialContext(ctx, "tcp", net.JoinHostPort(orHost(h.TCPSocket.Host, at), port))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return fmt.Errorf("probe: %w", errUnsupported)
}

// httpGet asks from the node's network. Any status from 200 to 399 is good.
func (k *Kubelet) httpGet(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction, at placement) error {
	port, err := portNumber(c, a.Port)
	if err != nil {
		return err
	}
	scheme := "http"
	if a.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	url := scheme + "://" + net.JoinHostPort(orHost(a.Host, at), port) + a.Path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, h := range a.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			request.Host = h.Value
		}
	}
	transport := &http.Transport{
		DialContext:       k.o.Host.DialContext,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as every kubelet does: Pods have no names to verify
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode >= 400 {
		body, err := io.ReadAll(io.LimitReader(response.Body, 512))
		return errors.Join(fmt.Errorf("%s: %s: %s", url, response.Status, bytes.TrimSpace(body)), err)
	}
	return nil
}

func orHost(host string, at placement) string {
	if host == "" {
		return first(at.podIPs)
	}
	if host == "localhost" { // there is no name service
		return "127.0.0.1"
	}
	return host
}

// portNumber resolves a port given by number or by the name it has in the container.
func portNumber(c *corev1.Container, port intstr.IntOrString) (string, error) {
	if port.Type == intstr.Int {
		return strconv.Itoa(port.IntValue()), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return strconv.Itoa(int(p.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("container %s has no port named %q", c.Name, port.StrVal)
}

// hookLimit ends a hook where nothing else does; the Pod's grace is usually shorter.
const hookLimit = 10 * time.Minute

// runHook carries out a preStop hook.
func (k *Kubelet) runHook(ctx context.Context, p *process, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return k.exec(ctx, p, h.Exec.Command, hookLimit)
	case h.Sleep != nil:
		select {
		case <-p.done:
		case <-ctx.Done():
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		}
		return nil
	}
	return fmt.Errorf("hook: %w", errUnsupported)
}

// exec runs a command in a container's namespaces, with the container's rights. The timeout counts from when the command
// itself starts: entering the container is the laboratory's affair. The command's output is part of the error.
func (k *Kubelet) exec(ctx context.Context, p *process, command []string, timeout time.Duration) error {
	spec := execSpec{PID: p.pid, Process: p.user}
	spec.Process.Args = command
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{shimExec}
	cmd.Env = shimEnvironment()
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // the shim then kills the command
	cmd.WaitDelay = time.Second
	if err := startShim(k.o.Host, cmd, spec); err != nil {
		return err
	}
	timer := time.AfterFunc(timeout, func() { cancel(fmt.Errorf("timed out after %s", timeout)) })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%v: %w: %s", command, cmp.Or(context.Cause(ctx), err), bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
