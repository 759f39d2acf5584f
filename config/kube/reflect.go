package kube

import (
	"context"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// lister is what every typed client offers.
type lister[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// feed keeps a table like a resource of the API server.
type feed struct {
	resource string
	run      func(ctx context.Context)
}

// newFeed makes the feed of one resource; fields is a field selector, empty for all objects. The outcome of each request goes to health.
func newFeed[T object, L runtime.Object](resource, fields string, from lister[L], to *table[T], h *health, log *slog.Logger) feed {
	report := func(ctx context.Context, err error) {
		if ctx.Err() == nil { // a request ended by our own end says nothing
			h.report(resource, err)
		}
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = fields
			list, err := from.List(ctx, opts)
			report(ctx, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = fields
			w, err := from.Watch(ctx, opts)
			report(ctx, err)
			return w, err
		},
	}
	quietLog := clientLog(log)
	var zero T
	return feed{resource, func(ctx context.Context) {
		// Unlike client-go's default, which waits up to a minute, the backoff ends at 5 s: coming back after an outage matters more here
		// than one request per resource and 5 s does to an API server.
		r := cache.NewReflectorWithOptions(lw, zero, to, cache.ReflectorOptions{
			Name:    resource,
			Logger:  &quietLog,
			Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 5 * time.Second},
		})
		r.RunWithContext(withClientLog(ctx, log))
	}}
}
