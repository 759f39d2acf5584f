package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Troubles are collected before they are told, until none has come for a while: what is wrong with one resource is usually wrong with others
// a moment later, and belongs in the same line.
const (
	gathering     = time.Second
	gatheringMost = 10 * time.Second
)

// trouble is what kind of failure keeps a resource from being watched.
type trouble uint8

const (
	none         trouble = iota
	missing              // the API server does not know the resource
	forbidden            // we may not read it
	unauthorized         // it does not know us
	unreachable          // it does not answer, or answers that it cannot
	passing              // normal in the life of a watch; says nothing about the next one
)

// health knows which resources are being watched, and tells when that changes: in one line for each kind of trouble, with what to do.
type health struct {
	log     *slog.Logger
	wake    chan struct{}         // capacity 1
	refused func(resource string) // a resource may not be read; called without the lock; may be nil

	mu  sync.Mutex
	bad map[string]failure
}

type failure struct {
	kind trouble
	err  error
}

func newHealth(log *slog.Logger) *health {
	return &health{log: log, wake: make(chan struct{}, 1), bad: make(map[string]failure)}
}

// report takes in the outcome of one list or watch request.
func (h *health) report(resource string, err error) {
	kind := classify(err)
	if kind == passing {
		return
	}
	h.mu.Lock()
	was := h.bad[resource].kind
	if kind == none {
		delete(h.bad, resource)
	} else {
		h.bad[resource] = failure{kind, err}
	}
	h.mu.Unlock()
	if kind == was {
		return
	}
	if kind == forbidden && h.refused != nil {
		h.refused(resource)
	}
	signal(h.wake)
}

// run tells of changes until ctx ends.
func (h *health) run(ctx context.Context) {
	told := make(map[string]failure)
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		if !h.gather(ctx) {
			return
		}
		now := h.now()
		h.tell(told, now)
		told = now
	}
}

// gather waits until no news has come for a while, or for too long. It reports false when ctx ended.
func (h *health) gather(ctx context.Context) bool {
	most := time.After(gatheringMost)
	for {
		select {
		case <-ctx.Done():
			return false
		case <-h.wake:
		case <-most:
			return true
		case <-time.After(gathering):
			return true
		}
	}
}

func (h *health) now() map[string]failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.bad)
}

// tell logs the difference between two states.
func (h *health) tell(before, now map[string]failure) {
	for kind := missing; kind <= unreachable; kind++ {
		fresh, err := newIn(before, now, kind)
		if len(fresh) == 0 || kind == unreachable && has(before, unreachable) {
			continue
		}
		h.log.Error("the API server does not give us what we need; trying on", "what", kind.advice(), "resources", strings.Join(fresh, ","), "err", err)
	}
	var well []string
	for resource, f := range before {
		if _, bad := now[resource]; !bad && f.kind != unreachable {
			well = append(well, resource)
		}
	}
	if len(well) > 0 {
		slices.Sort(well)
		h.log.Info("available again", "resources", strings.Join(well, ","))
	}
	if has(before, unreachable) && !has(now, unreachable) {
		h.log.Info("API server reachable again")
	}
}

// newIn returns the resources that have a trouble now and had not before, sorted, and the error of the first.
func newIn(before, now map[string]failure, kind trouble) ([]string, error) {
	var fresh []string
	for resource, f := range now {
		if f.kind == kind && before[resource].kind != kind {
			fresh = append(fresh, resource)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	slices.Sort(fresh)
	return fresh, now[fresh[0]].err
}

func has(state map[string]failure, kind trouble) bool {
	for _, f := range state {
		if f.kind == kind {
			return true
		}
	}
	return false
}

func (t trouble) advice() string {
	switch t {
	case missing:
		return "the API server does not know these resources; install Herald's CRDs (chart value crds.install, or the files in config/crd)"
	case forbidden:
		return "not allowed to use these resources; grant this ServiceAccount what the error names (the chart's RBAC does)"
	case unauthorized:
		return "the API server refuses our credentials; check the ServiceAccount token or the kubeconfig"
	case unreachable:
		return "API server unreachable; what is in force stays in force"
	}
	return ""
}

// err returns what is wrong now, nil when every resource is being watched.
func (h *health) err() error {
	now := h.now()
	var errs []error
	for _, resource := range slices.Sorted(maps.Keys(now)) {
		errs = append(errs, fmt.Errorf("%s: %w", resource, now[resource].err))
	}
	return errors.Join(errs...)
}

func classify(err error) trouble {
	switch {
	case err == nil:
		return none
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		apierrors.IsResourceExpired(err), apierrors.IsGone(err), apierrors.IsTooManyRequests(err), apierrors.IsInvalid(err),
		apierrors.IsTimeout(err): // a watch cache that is not as new as what we know yet
		return passing
	case apierrors.IsNotFound(err):
		return missing
	case apierrors.IsForbidden(err):
		return forbidden
	case apierrors.IsUnauthorized(err):
		return unauthorized
	}
	return unreachable
}
