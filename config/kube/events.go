package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Limits of the events.k8s.io API, and of our patience.
const (
	maxNote       = 1024 // bytes
	maxName       = 253 - 1 - 16
	eventQueue    = 4096
	eventAttempts = 5
)

// Event is something that happened to an object. Give either Service or Object.
type Event struct {
	Service config.Key
	Object  config.Ref
	UID     string
	Warning bool
	Reason  string // CamelCase: AddressAssigned
	Action  string // what was being done: Allocate, Announce
	Note    string // for a person; cut at 1024 bytes
}

// EventsOptions says in whose name events are written.
type EventsOptions struct {
	Component string // such as heraldlb.io/controller
	Instance  string // name of the Pod, or of the node
	Log       *slog.Logger
}

// Events writes events (events.k8s.io/v1) in the background: a decision never waits for them. An event that cannot be written after a few
// attempts, or finds the queue full, is dropped with a log line.
type Events struct {
	client *Client
	opts   EventsOptions
	queue  chan *eventsv1.Event
}

// NewEvents makes an Events; nothing is written before Run.
func NewEvents(client *Client, opts EventsOptions) *Events {
	return &Events{client: client, opts: opts, queue: make(chan *eventsv1.Event, eventQueue)}
}

// Emit hands an event over and returns at once.
func (e *Events) Emit(ev Event) {
	select {
	case e.queue <- e.build(ev, time.Now()):
	default:
		e.opts.Log.Warn("event dropped: too many are waiting", "reason", ev.Reason, "note", ev.Note)
	}
}

// Run writes events until ctx ends, then returns nil.
func (e *Events) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-e.queue:
			e.write(ctx, ev)
		}
	}
}

func (e *Events) write(ctx context.Context, ev *eventsv1.Event) {
	wait := 500 * time.Millisecond
	var err error
	for range eventAttempts {
		if err = e.create(ctx, ev); err == nil || ctx.Err() != nil {
			return
		}
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			break // asking again gives the same answer: the namespace is gone, say
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait *= 2
	}
	e.opts.Log.Warn("event dropped: it could not be written", "reason", ev.Reason, "note", ev.Note, "err", err)
}

func (e *Events) create(ctx context.Context, ev *eventsv1.Event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err := e.client.core.EventsV1().Events(ev.Namespace).Create(ctx, ev, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // an earlier attempt got through after all
	}
	return err
}

func (e *Events) build(ev Event, now time.Time) *eventsv1.Event {
	regarding := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: ev.Service.Namespace, Name: ev.Service.Name}
	if ev.Object != (config.Ref{}) {
		regarding = corev1.ObjectReference{APIVersion: v1beta1.GroupVersion.String(), Kind: ev.Object.Kind, Name: ev.Object.Name}
	}
	regarding.UID = types.UID(ev.UID)
	kind := corev1.EventTypeNormal
	if ev.Warning {
		kind = corev1.EventTypeWarning
	}
	namespace := regarding.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // where Kubernetes keeps events of cluster-scoped objects
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      fmt.Sprintf("%s.%016x", cut(regarding.Name, maxName), now.UnixNano()),
		},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: e.opts.Component,
		ReportingInstance:   cut(e.opts.Instance, 128),
		Regarding:           regarding,
		Type:                kind,
		Reason:              ev.Reason,
		Action:              ev.Action,
		Note:                cut(ev.Note, maxNote),
	}
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
