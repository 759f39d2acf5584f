package controller

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
)

// class tells apart writes that a user waits for from those that can wait.
type class uint8

const (
	assigning  class = iota // addresses given and taken, with their condition
	keeping                 // what is left of Services that are gone
	announcing              // the condition that says who announces them
	classes
)

// task is one write that is due. The function returns nil when it is done or no longer makes sense.
type task struct {
	key config.Key
	do  func(context.Context) error
}

// desk carries out the writes to Services: several at a time, but never two for one Service, and those of class assigning first. It is told
// which writes are due, class by class; what is not due any more is dropped. A write that fails is tried again after a
// while, without holding up others.
type desk struct {
	limit [classes]int // writes under way at once; that of assigning is for all together
	stale func()       // a write was decided from what is past; must not block; may be nil
	log   *slog.Logger
	wake  chan struct{} // capacity 1

	mu      sync.Mutex
	jobs    [classes]map[config.Key]*job
	ready   [classes][]*job
	delayed []*job
	blocked map[config.Key][]*job // wait for the write to the same Service
	busy    map[config.Key]bool
	running [classes]int
	failing int // jobs whose last attempt failed
	quiet   time.Time
}

// job is a task with its history.
type job struct {
	class    class
	key      config.Key
	task     *task // nil: dropped
	state    state
	failures int
	due      time.Time
}

// state says which list a job is in.
type state uint8

const (
	idle state = iota
	ready
	running
	delayed
	blocked
)

// How failed writes are tried again. A conflict only means that something newer is on its way to us, or is here and differs in nothing that is
// read, of which nobody has said a word: the write is to be decided anew.
const (
	conflictRetry = 10 * time.Millisecond
	conflictMax   = time.Second
	failureRetry  = 100 * time.Millisecond
	failureMax    = 30 * time.Second
	failureLog    = 5 * time.Second // one log line for all in this time
)

func newDesk(all, low int, log *slog.Logger) *desk {
	d := &desk{
		limit: [classes]int{all, low, low}, log: log, wake: make(chan struct{}, 1),
		blocked: make(map[config.Key][]*job), busy: make(map[config.Key]bool),
	}
	for c := range classes {
		d.jobs[c] = make(map[config.Key]*job)
	}
	return d
}

// set says which writes of a class are due, in the order of their urgency.
func (d *desk) set(c class, tasks []*task) {
	d.mu.Lock()
	keep := make(map[config.Key]bool, len(tasks))
	for _, t := range tasks {
		keep[t.key] = true
		d.put(c, t)
	}
	for key, j := range d.jobs[c] {
		if !keep[key] {
			d.drop(j)
		}
	}
	d.mu.Unlock()
	d.signal()
}

// update says which writes of addresses are due that were not, or are due in another form, and which are due no more.
func (d *desk) update(put []*task, drop []config.Key) {
	d.mu.Lock()
	for _, key := range drop {
		if j, ok := d.jobs[assigning][key]; ok {
			d.drop(j)
		}
	}
	for _, t := range put {
		d.put(assigning, t)
	}
	d.mu.Unlock()
	d.signal()
}

func (d *desk) put(c class, t *task) {
	j, ok := d.jobs[c][t.key]
	if !ok {
		j = &job{class: c, key: t.key}
		d.jobs[c][t.key] = j
	}
	j.task = t
	if j.state == idle {
		d.enqueue(j)
	}
}

// drop forgets a job; one that is in a list is skipped when its turn comes.
func (d *desk) drop(j *job) {
	j.task = nil
	d.succeed(j)
	if j.state != running {
		delete(d.jobs[j.class], j.key)
	}
}

func (d *desk) enqueue(j *job) {
	j.state = ready
	d.ready[j.class] = append(d.ready[j.class], j)
}

// waiting returns how many writes of a class are due or under way.
func (d *desk) waiting(c class) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ready[c]) + d.running[c]
}

func (d *desk) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run carries out writes until ctx ends, and waits for those under way.
func (d *desk) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		j, t, wait := d.next(time.Now())
		if j != nil {
			wg.Go(func() { d.finish(ctx, j, t, t.do(ctx)) })
			continue
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer:
		}
	}
}

// next returns a job to run now, or else how long until one that failed is due again; 0 = there is none.
func (d *desk) next(now time.Time) (*job, *task, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := d.recall(now)
	for c := range classes {
		for d.free(c) && len(d.ready[c]) > 0 {
			j := d.ready[c][0]
			d.ready[c] = d.ready[c][1:]
			switch {
			case j.task == nil:
				j.state = idle
			case d.busy[j.key]:
				j.state = blocked
				d.blocked[j.key] = append(d.blocked[j.key], j)
			default:
				j.state = running
				d.busy[j.key] = true
				d.running[c]++
				return j, j.task, 0
			}
		}
	}
	return nil, nil, wait
}

func (d *desk) free(c class) bool {
	all := 0
	for _, n := range d.running {
		all += n
	}
	return all < d.limit[assigning] && (c == assigning || d.running[c] < d.limit[c])
}

// recall moves failed jobs that are due back into their queue and returns the time to the next one.
func (d *desk) recall(now time.Time) (wait time.Duration) {
	d.delayed = slices.DeleteFunc(d.delayed, func(j *job) bool {
		if j.task != nil && j.due.After(now) {
			if left := j.due.Sub(now); wait == 0 || left < wait {
				wait = left
			}
			return false
		}
		j.state = idle
		if j.task != nil {
			d.enqueue(j)
		}
		return true
	})
	return wait
}

// finish takes in the result of a write.
func (d *desk) finish(ctx context.Context, j *job, t *task, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.signal()
	d.running[j.class]--
	delete(d.busy, j.key)
	for _, other := range d.blocked[j.key] {
		d.enqueue(other)
	}
	delete(d.blocked, j.key)
	j.state = idle
	if err != nil && ctx.Err() == nil {
		d.fail(j, err)
	} else {
		d.succeed(j)
		if j.task == t {
			j.task = nil
		}
	}
	switch {
	case j.task == nil:
		delete(d.jobs[j.class], j.key)
	case err == nil:
		d.enqueue(j)
	default:
		j.state = delayed
		d.delayed = append(d.delayed, j)
	}
}

func (d *desk) succeed(j *job) {
	if j.failures > 0 {
		j.failures = 0
		d.failing--
	}
}

// fail notes a failure. While the API server refuses everything one line is logged now and then, not one for each Service.
func (d *desk) fail(j *job, err error) {
	if j.task == nil {
		return
	}
	if j.failures++; j.failures == 1 {
		d.failing++
	}
	now := time.Now()
	if kube.IsConflict(err) {
		j.due = now.Add(backoff(conflictRetry, conflictMax, j.failures))
		if d.stale != nil {
			d.stale()
		}
		return
	}
	j.due = now.Add(backoff(failureRetry, failureMax, j.failures))
	if now.After(d.quiet) {
		d.quiet = now.Add(failureLog)
		d.log.Warn("writing the status of a Service failed; trying on", "service", j.key.String(), "err", err, "failing", d.failing)
	}
}

// backoff doubles with each failure, up to a limit, and spreads by a fifth.
func backoff(first, most time.Duration, failures int) time.Duration {
	wait := most
	if shift := failures - 1; shift < 20 {
		wait = min(first<<shift, most)
	}
	return wait + time.Duration(rand.Int64N(int64(wait/5)))
}
