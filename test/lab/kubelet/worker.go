package kubelet

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// worker runs one Pod. The goroutine in run owns all of its fields; processes and probes report to it by post.
type worker struct {
	k   *Kubelet
	log *slog.Logger
	pod *corev1.Pod // as last heard of
	dir string      // of this Pod, on the machine

	latest chan update // holds the newest update only
	events chan func() // called by the owner
	done   chan struct{}
	wg     sync.WaitGroup // everything the owner started

	began    time.Time
	sandbox  *sandbox
	volumes  *volumes
	mounted  bool      // volumes are there, and were up to date at some time
	stale    bool      // what the volumes show has changed since
	watching bool      // changes of what the volumes show are watched
	retryAt  time.Time // when to try again what has failed
	freshAt  time.Time // when to try again to bring the volumes up to date
	problem  string    // why containers do not start yet
	init     []*container
	main     []*container
	gone     bool // the API server has no such Pod any more
	stopping bool
	finished bool

	status    corev1.PodStatus          // as last written
	reported  bool                      // status has been written
	reportAt  time.Time                 // when to try again to write it
	published atomic.Pointer[[]Process] // for [Kubelet.Processes]
}

// update is news of a Pod; gone means that it was deleted for good.
type update struct {
	pod  *corev1.Pod
	gone bool
}

func newWorker(k *Kubelet, pod *corev1.Pod) *worker {
	w := &worker{
		k: k, pod: pod, began: time.Now(),
		log:    k.o.Log.With("pod", pod.Namespace+"/"+pod.Name),
		dir:    filepath.Join(k.o.Dir, "pods", string(pod.UID)),
		latest: make(chan update, 1),
		events: make(chan func()),
		done:   make(chan struct{}),
		status: *pod.Status.DeepCopy(),
	}
	for i := range pod.Spec.InitContainers {
		w.init = append(w.init, newContainer(&pod.Spec.InitContainers[i]))
	}
	for i := range pod.Spec.Containers {
		w.main = append(w.main, newContainer(&pod.Spec.Containers[i]))
	}
	return w
}

// tell hands over the newest state; an older one that has not been read yet is dropped. One goroutine may call it.
func (w *worker) tell(u update) {
	select {
	case old := <-w.latest:
		u.gone = u.gone || old.gone
	default:
	}
	w.latest <- u
}

// post has the owner call f, unless the owner has ended.
func (w *worker) post(f func()) {
	select {
	case w.events <- f:
	case <-w.done:
	}
}

// run takes the Pod from its binding to its end, or until the context ends.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.abandon(cancel)
	for {
		w.step(ctx)
		w.report(ctx)
		if w.finished {
			return
		}
		timer, stop := w.alarm(time.Now())
		select {
		case <-ctx.Done():
			return
		case u := <-w.latest:
			w.pod = u.pod
			w.gone = w.gone || u.gone
		case f := <-w.events:
			f()
		case <-timer:
		}
		stop()
	}
}

// abandon ends everything that the worker started, and waits for it.
func (w *worker) abandon(cancel context.CancelFunc) {
	cancel()
	close(w.done)
	for _, c := range w.all() {
		c.kill()
	}
	w.wg.Wait()
	w.published.Store(nil)
	if err := w.k.net.remove(w.sandbox); err != nil {
		w.log.Warn("removing the Pod's network", "err", err)
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.log.Warn("removing the Pod's volumes", "err", err)
	}
}

func (w *worker) all() []*container { return slices.Concat(w.init, w.main) }

// alarm returns a channel that fires when something is due, and a function that stops it.
func (w *worker) alarm(now time.Time) (<-chan time.Time, func()) {
	var next time.Time
	due := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	due(w.retryAt)
	due(w.reportAt)
	due(w.freshAt)
	if w.volumes != nil && w.freshAt.IsZero() {
		due(w.volumes.renew)
	}
	if !w.stopping {
		for _, c := range w.all() {
			due(c.notBefore)
		}
	}
	if next.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(max(next.Sub(now), 0))
	return timer.C, func() { timer.Stop() }
}

// step does everything that can be done now.
func (w *worker) step(ctx context.Context) {
	if w.gone || w.pod.DeletionTimestamp != nil {
		w.stop(ctx)
		return
	}
	now := time.Now()
	if now.Before(w.retryAt) {
		return
	}
	w.retryAt = time.Time{}
	if !w.prepareNetwork() || !w.prepareVolumes(ctx, now) {
		w.retryAt = time.Now().Add(retryInterval)
		return
	}
	if w.freshAt.IsZero() {
		w.problem = ""
	}
	for _, c := range w.init {
		if !c.view.succeeded() {
			w.startDue(ctx, c, now)
			return
		}
	}
	for _, c := range w.main {
		w.startDue(ctx, c, now)
	}
}

// startDue starts a container that should run, does not, and has waited long enough.
func (w *worker) startDue(ctx context.Context, c *container, now time.Time) {
	if c.process != nil || c.view.finished() || now.Before(c.notBefore) {
		return
	}
	c.notBefore = time.Time{}
	w.startContainer(ctx, c)
}

// prepareNetwork gives the Pod its network namespace.
func (w *worker) prepareNetwork() bool {
	if w.sandbox != nil {
		return true
	}
	if w.pod.Spec.HostNetwork {
		w.sandbox = &sandbox{host: w.k.o.Host, addrs: w.k.o.Addresses}
		return true
	}
	id := shortID(w.pod.UID)
	s, err := w.k.net.add("pod-"+w.k.o.Node+"-"+id, id)
	if err != nil {
		w.fail("network", err)
		return false
	}
	w.sandbox = s
	return true
}

// prepareVolumes brings the Pod's volumes up to date. Once they have been, failing to refresh them does not hold up
// anything: containers go on, and are started again, with what they have.
func (w *worker) prepareVolumes(ctx context.Context, now time.Time) bool {
	if w.mounted && !w.refreshDue(now) {
		return true
	}
	if w.volumes == nil {
		w.volumes = w.newVolumes(ctx)
	}
	w.freshAt = time.Time{}
	if err := w.volumes.prepare(ctx); err != nil {
		w.fail("volumes", err)
		if w.mounted {
			w.freshAt = time.Now().Add(retryInterval)
		}
		return w.mounted
	}
	w.mounted, w.stale = true, false
	if !w.watching {
		w.watching = true
		w.watchSources(ctx)
	}
	return true
}

// refreshDue reports whether the volumes, which are there, are to be brought up to date now.
func (w *worker) refreshDue(now time.Time) bool {
	if !w.freshAt.IsZero() {
		return !now.Before(w.freshAt)
	}
	return w.stale || !w.volumes.renew.IsZero() && !now.Before(w.volumes.renew)
}

// fail keeps a reason for the status and logs it when it is a new one. That a Pod's objects are forbidden is nothing
// unusual: node authorisation learns of a new Pod a moment after us.
func (w *worker) fail(what string, err error) {
	if text := what + ": " + err.Error(); text != w.problem {
		w.problem = text
		level := slog.LevelWarn
		if apierrors.IsForbidden(err) {
			level = slog.LevelDebug
		}
		w.log.Log(context.Background(), level, "the Pod waits", "for", what, "err", err)
	}
}

// at returns what the Pod gets from the node.
func (w *worker) at() placement {
	p := placement{hostIPs: w.k.hostIPs()}
	if w.sandbox != nil {
		for _, a := range w.sandbox.addrs {
			p.podIPs = append(p.podIPs, a.String())
		}
	}
	return p
}

// stop ends the Pod: containers first, with the grace that the API server granted, then the object itself.
func (w *worker) stop(ctx context.Context) {
	w.stopping = true
	grace := 0 * time.Second
	if s := w.pod.DeletionGracePeriodSeconds; !w.gone && s != nil {
		grace = time.Duration(*s) * time.Second
	}
	running := false
	for _, c := range w.all() {
		if c.process != nil {
			running = true
			w.stopContainer(ctx, c, grace)
		}
	}
	if running {
		return
	}
	for _, c := range w.all() {
		c.settle()
	}
	w.finished = w.gone || w.release(ctx)
	if !w.finished {
		w.reportAt = time.Now().Add(retryInterval)
	}
}
