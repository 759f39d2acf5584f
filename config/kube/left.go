package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/pager"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
)

// left finds Services that stopped being of type LoadBalancer while they carry Herald's status. The watch of Services is restricted to that
// type, so it reports such a Service as deleted: each one that leaves is read once more. Those that left while no controller ran are found
// by one list at the start.
//
// The API server itself takes the addresses out of the status of a Service that changes its type; the conditions it leaves. So which
// addresses are released is known from the Service as it was watched last.
type left struct {
	client  *Client
	log     *slog.Logger
	changed func()
	wake    chan struct{} // capacity 1

	mu     sync.Mutex
	unread map[config.Key]departed // to be read once more
	found  map[types.UID]*corev1.Service
}

// departed is a Service that left the watch.
type departed struct {
	uid    types.UID
	status corev1.LoadBalancerStatus // as watched last
}

func newLeft(client *Client, log *slog.Logger, changed func()) *left {
	return &left{
		client: client, log: log, changed: changed, wake: make(chan struct{}, 1),
		unread: make(map[config.Key]departed), found: make(map[types.UID]*corev1.Service),
	}
}

// check takes in a Service that left the watch. It never blocks.
func (l *left) check(s *corev1.Service) {
	if !parse.Carries(s) {
		return
	}
	l.mu.Lock()
	l.unread[keyOf(s)] = departed{s.UID, s.Status.LoadBalancer}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// list returns the Services found, without those that came back to be of type LoadBalancer.
func (l *left) list(watched *table[*corev1.Service]) []*corev1.Service {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*corev1.Service
	for uid, s := range l.found {
		if back, ok := watched.get(keyOf(s)); ok && back.UID == uid {
			delete(l.found, uid)
			continue
		}
		out = append(out, s)
	}
	return out
}

// forget drops a Service that has been cleared or is gone.
func (l *left) forget(uid types.UID) {
	l.mu.Lock()
	delete(l.found, uid)
	l.mu.Unlock()
	l.changed()
}

func (l *left) run(ctx context.Context) {
	swept := false
	for ctx.Err() == nil {
		var retry <-chan time.Time
		if !swept {
			swept = l.attempt(ctx, "looking for Services that are no longer of type LoadBalancer", l.sweep)
		}
		done := l.attempt(ctx, "reading Services that left the watch", l.read)
		if !swept || !done {
			retry = time.After(2 * time.Second)
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-retry:
		}
	}
}

func (l *left) attempt(ctx context.Context, doing string, do func(context.Context) error) bool {
	err := do(ctx)
	if err != nil && ctx.Err() == nil {
		l.log.Debug("Services that are no longer ours cannot be found; trying on", "doing", doing, "err", err) // why is in the health of the watches, logged there once
	}
	return err == nil
}

// sweep lists the Services of other types, in pages.
func (l *left) sweep(ctx context.Context) error {
	list := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return l.client.core.CoreV1().Services("").List(ctx, opts)
	})
	opts := metav1.ListOptions{FieldSelector: "spec.type!=" + string(corev1.ServiceTypeLoadBalancer)}
	return list.EachListItem(ctx, opts, func(o runtime.Object) error {
		if s, ok := o.(*corev1.Service); ok && parse.Carries(s) {
			l.keep(s, s.Status.LoadBalancer)
		}
		return nil
	})
}

// read reads every Service that left once more.
func (l *left) read(ctx context.Context) error {
	for {
		key, was, ok := l.next()
		if !ok {
			return nil
		}
		s, err := l.client.core.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("reading Service %s: %w", key, err)
		}
		l.mu.Lock()
		if l.unread[key].uid == was.uid {
			delete(l.unread, key)
		}
		l.mu.Unlock()
		if err == nil && s.UID == was.uid && s.Spec.Type != corev1.ServiceTypeLoadBalancer && parse.Carries(s) {
			l.keep(s, was.status)
		}
	}
}

func (l *left) next() (config.Key, departed, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, was := range l.unread {
		return key, was, true
	}
	return config.Key{}, departed{}, false
}

// keep takes in a Service whose status is to be cleared of what it had.
func (l *left) keep(s *corev1.Service, had corev1.LoadBalancerStatus) {
	trimService(s)
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		s.Status.LoadBalancer = had
	}
	l.mu.Lock()
	l.found[s.UID] = s
	l.mu.Unlock()
	l.changed()
}

func (l *left) get(uid types.UID) (*corev1.Service, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.found[uid]
	return s, ok
}
