package kube

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// askAgain is how long a resource that the API server does not serve is taken to be absent before it is asked for again.
const askAgain = 10 * time.Minute

// optional reads a resource that older API servers do not serve: there it is empty, and nothing is wrong.
type optional[L runtime.Object] struct {
	from  lister[L]
	empty func() L
}

func (o optional[L]) List(ctx context.Context, opts metav1.ListOptions) (L, error) {
	list, err := o.from.List(ctx, opts)
	if apierrors.IsNotFound(err) {
		return o.empty(), nil
	}
	return list, err
}

func (o optional[L]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	w, err := o.from.Watch(ctx, opts)
	if !apierrors.IsNotFound(err) || opts.SendInitialEvents != nil {
		return w, err // a watch that begins with a list is tried once more as a list
	}
	return newSilence(askAgain), nil
}

// silence is a watch that brings nothing, and ends after a while.
type silence struct {
	*watch.FakeWatcher
	end *time.Timer
}

func newSilence(lasts time.Duration) *silence {
	w := watch.NewFake()
	return &silence{w, time.AfterFunc(lasts, w.Stop)}
}

func (s *silence) Stop() {
	s.end.Stop()
	s.FakeWatcher.Stop()
}
