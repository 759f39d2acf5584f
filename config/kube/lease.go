package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A dead leader is followed after leaseDuration and at most one retryPeriod (with its jitter of 20 %): under 5 s, in which addresses that
// exist go on being announced and only new Services wait. Leadership is given up when it could not be renewed for renewDeadline, so the API
// server may be away that long unnoticed. It costs two small writes a second. Two leaders for a moment do no harm: every status write is
// checked against the version it was decided from.
const (
	leaseDuration = 4 * time.Second
	renewDeadline = 3 * time.Second
	retryPeriod   = 500 * time.Millisecond
)

// ElectOptions names a candidate and what it stands for.
type ElectOptions struct {
	Namespace string
	Lease     string // name of the Lease
	Identity  string // of this candidate, unique: the Pod's name
	Log       *slog.Logger
}

// Elect stands for leader through a Lease and calls lead whenever it is elected, with a context that ends when leadership does. It stands
// again after having lost it. It returns nil after ctx ended: lead has returned by then and the Lease is released, so that the next
// candidate takes over within 0.6 s. lead is to stay until its context ends.
func (c *Client) Elect(ctx context.Context, opts ElectOptions, lead func(context.Context)) error {
	for ctx.Err() == nil {
		if err := c.standOnce(ctx, opts, lead); err != nil {
			return err
		}
	}
	return nil
}

// standOnce waits for leadership, leads, and returns when it is lost or ctx ended.
func (c *Client) standOnce(ctx context.Context, opts ElectOptions, lead func(context.Context)) error {
	// The elector has a context of its own: it ends, and thereby releases the Lease, only after lead has returned.
	electing, stop := context.WithCancel(withClientLog(context.WithoutCancel(ctx), opts.Log))
	defer stop()
	t := &term{log: opts.Log, lead: lead, over: make(chan struct{})}
	h := newHealth(opts.Log)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: opts.Lease,
		Lock: &reportingLock{health: h, LeaseLock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: opts.Namespace, Name: opts.Lease},
			Client:     c.core.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: opts.Identity},
		}},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) { t.begin(ctx, leading) },
			OnStoppedLeading: func() {},
			OnNewLeader:      func(id string) { opts.Log.Debug("leader", "identity", id) },
		},
	})
	if err != nil {
		return fmt.Errorf("standing for leader with Lease %s/%s: %w", opts.Namespace, opts.Lease, err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := make(chan struct{})
	wg.Go(func() { h.run(electing) })
	defer stop()
	wg.Go(func() {
		select {
		case <-ctx.Done():
			t.finish()
			stop()
		case <-ended:
		}
	})
	elector.Run(electing)
	close(ended)
	t.finish()
	return nil
}

// reportingLock tells when the Lease cannot be used because it is not allowed: client-go would only go on trying. That the API server
// cannot be reached is told by the Source.
type reportingLock struct {
	*resourcelock.LeaseLock
	health *health
}

func (l *reportingLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	return record, raw, l.report(err)
}

func (l *reportingLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.report(l.LeaseLock.Create(ctx, r))
}

func (l *reportingLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.report(l.LeaseLock.Update(ctx, r))
}

func (l *reportingLock) report(err error) error {
	if kind := classify(err); kind == none || kind == forbidden || kind == unauthorized {
		l.health.report("leases", err)
	}
	return err
}

// term is one time of leading. The elector starts lead in a goroutine of its own and does not wait for it, so term keeps count.
type term struct {
	log  *slog.Logger
	lead func(context.Context)
	over chan struct{} // closed when lead has returned

	mu     sync.Mutex
	begun  bool
	closed bool
}

// begin leads until either context ends, unless the term is finished already.
func (t *term) begin(ctx, leading context.Context) {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.begun = true
	t.mu.Unlock()
	defer close(t.over)

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(leading, cancel)()
	t.log.Info("leading")
	t.lead(ctx)
	t.log.Info("no longer leading")
}

// finish makes sure that lead is not called any more and waits for it if it was.
func (t *term) finish() {
	t.mu.Lock()
	t.closed = true
	begun := t.begun
	t.mu.Unlock()
	if begun {
		<-t.over
	}
}
