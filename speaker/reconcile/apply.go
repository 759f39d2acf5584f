package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Backoff is how long to wait after a failure: Min after the first, twice as long after each further one, never more than Max.
type Backoff struct{ Min, Max time.Duration }

// After returns the wait after the given number of failures in a row (at least 1).
func (b Backoff) After(failures int) time.Duration {
	wait := b.Min
	for range failures - 1 {
		if wait >= b.Max/2 {
			return b.Max
		}
		wait *= 2
	}
	return min(wait, b.Max)
}

// State is what was really done so far, and which keys failed. It has one owner and is not safe for concurrent use.
type State[K comparable, V any] struct {
	rules   Rules[K, V]
	backoff Backoff
	actual  map[K]V
	failed  map[K]failure[V]
}

type failure[V any] struct {
	kind  Kind
	want  V // what was wanted when it failed
	count int
	next  time.Time
}

// New returns a State in which nothing is done yet.
func New[K comparable, V any](rules Rules[K, V], backoff Backoff) *State[K, V] {
	return &State[K, V]{rules: rules, backoff: backoff, actual: map[K]V{}, failed: map[K]failure[V]{}}
}

// Outcome is the result of one Apply.
type Outcome[K comparable] struct {
	Done   int          // steps that succeeded
	Failed []Failure[K] // steps that were tried now and failed, in the order of the steps
	Next   time.Time    // when the first failed step is due again; zero when nothing is left to do
}

// Failure is a step that failed.
type Failure[K comparable] struct {
	Kind  Kind
	Key   K
	Err   error
	Count int // failures in a row
}

// Apply takes the steps from what is to desired. Each step that do takes without error is remembered at once; do must be idempotent,
// must treat removing a missing thing as success, and must leave the old value in force when it fails. A key that failed is not tried
// again before its time, unless something else is wanted of it by now.
func (s *State[K, V]) Apply(now time.Time, desired map[K]V, do func(Step[K, V]) error) Outcome[K] {
	var out Outcome[K]
	steps := s.rules.Diff(s.actual, desired)
	s.forget(steps)
	for _, step := range steps {
		before, failedBefore := s.failed[step.Key]
		if failedBefore && before.kind == step.Kind && s.rules.Equal(before.want, step.New) && now.Before(before.next) {
			out.due(before.next)
			continue
		}
		if err := do(step); err != nil {
			f := failure[V]{kind: step.Kind, want: step.New, count: before.count + 1}
			f.next = now.Add(s.backoff.After(f.count))
			s.failed[step.Key] = f
			out.Failed = append(out.Failed, Failure[K]{Kind: step.Kind, Key: step.Key, Err: err, Count: f.count})
			out.due(f.next)
			continue
		}
		s.done(step)
		out.Done++
	}
	return out
}

func (s *State[K, V]) done(step Step[K, V]) {
	delete(s.failed, step.Key)
	if step.Kind == Remove {
		delete(s.actual, step.Key)
		return
	}
	s.actual[step.Key] = step.New
}

// forget drops the failures of keys that need no step any more.
func (s *State[K, V]) forget(steps []Step[K, V]) {
	if len(s.failed) == 0 {
		return
	}
	pending := make(map[K]struct{}, len(steps))
	for _, step := range steps {
		pending[step.Key] = struct{}{}
	}
	maps.DeleteFunc(s.failed, func(k K, _ failure[V]) bool { _, ok := pending[k]; return !ok })
}

func (o *Outcome[K]) due(t time.Time) {
	if o.Next.IsZero() || t.Before(o.Next) {
		o.Next = t
	}
}

// Actual returns a copy of what is in force.
func (s *State[K, V]) Actual() map[K]V { return maps.Clone(s.actual) }

// Get returns the value in force for the key.
func (s *State[K, V]) Get(k K) (V, bool) {
	v, ok := s.actual[k]
	return v, ok
}

// Len returns how many keys are in force.
func (s *State[K, V]) Len() int { return len(s.actual) }

// Lost says that the thing behind the key is gone without our doing, at now: the next Apply after the back-off adds it anew.
func (s *State[K, V]) Lost(now time.Time, k K) {
	v, ok := s.actual[k]
	if !ok {
		return
	}
	delete(s.actual, k)
	f := failure[V]{kind: Add, want: v, count: s.failed[k].count + 1}
	f.next = now.Add(s.backoff.After(f.count))
	s.failed[k] = f
}

// Retry forgets all failures, so that the next Apply tries everything at once: for when the world outside has changed.
func (s *State[K, V]) Retry() { clear(s.failed) }

// maxErrors bounds how many failures an error names.
const maxErrors = 10

// Err returns the failures as one error that names at most ten of them, nil when there was none.
func (o Outcome[K]) Err() error {
	if len(o.Failed) == 0 {
		return nil
	}
	errs := make([]error, 0, maxErrors+1)
	for i, f := range o.Failed {
		if i == maxErrors {
			errs = append(errs, fmt.Errorf("%d more omitted", len(o.Failed)-maxErrors))
			break
		}
		errs = append(errs, fmt.Errorf("%v %v: %w", f.Kind, f.Key, f.Err))
	}
	return errors.Join(errs...)
}
