package kube

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// trouble is what kind of failure keeps a resource from being watched.
type trouble uint8

const (
	none         trouble = iota
	passing              // normal in the life of a watch; says nothing about the next one
	missing              // the API server does not know the resource
	forbidden            // we may not read it
	unauthorized         // it does not know us
	unreachable          // it does not answer, or answers that it cannot
)

// health knows which resources are being watched and logs only when that changes: once for each resource that is refused, once for all
// when the API server cannot be reached.
type health struct {
	log *slog.Logger

	mu   sync.Mutex
	bad  map[string]trouble
	last map[string]error
}

func newHealth(log *slog.Logger) *health {
	return &health{log: log, bad: make(map[string]trouble), last: make(map[string]error)}
}

// report takes in the outcome of one list or watch request.
func (h *health) report(resource string, err error) {
	kind := classify(err)
	if kind == passing {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	was, cutOff := h.bad[resource], h.count(unreachable) > 0
	if kind == none {
		delete(h.bad, resource)
		delete(h.last, resource)
	} else {
		h.bad[resource] = kind
		h.last[resource] = err
	}
	if kind == was {
		return
	}
	switch kind {
	case missing:
		h.log.Error("the API server does not know this resource; install Herald's CRDs (the chart's crds.install, or the files in config/crd); trying on",
			"resource", resource)
	case forbidden:
		h.log.Error("not allowed to read this resource; grant list and watch to this ServiceAccount (the chart's ClusterRole does); trying on",
			"resource", resource, "err", err)
	case unauthorized:
		h.log.Error("the API server refuses our credentials; check the ServiceAccount token or the kubeconfig; trying on", "resource", resource, "err", err)
	case unreachable:
		if !cutOff {
			h.log.Error("API server unreachable; what is in force stays in force; trying on", "err", err)
		}
	case none:
		if was != unreachable {
			h.log.Info("resource can be read again", "resource", resource)
		}
	}
	if cutOff && h.count(unreachable) == 0 {
		h.log.Info("API server reachable again")
	}
}

func (h *health) count(kind trouble) int {
	n := 0
	for _, k := range h.bad {
		if k == kind {
			n++
		}
	}
	return n
}

// err returns what is wrong now, nil when every resource is being watched.
func (h *health) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, resource := range slices.Sorted(maps.Keys(h.last)) {
		errs = append(errs, fmt.Errorf("%s: %w", resource, h.last[resource]))
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
