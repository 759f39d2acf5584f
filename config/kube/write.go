package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
)

// writeTimeout bounds one request, so that a worker does not hang on a connection that died.
const writeTimeout = 10 * time.Second

// Writer writes statuses. Every write is checked against the version in the Source: it does nothing when nothing would change, it fails with
// a conflict (IsConflict) when somebody else wrote meanwhile, and its result is in the next Snapshot. It may be used by many goroutines.
type Writer struct {
	client *Client
	source *Source
}

// NewWriter makes a Writer for objects that the Source watches.
func NewWriter(client *Client, source *Source) *Writer {
	return &Writer{client: client, source: source}
}

// ServiceStatus is what the controller says of a Service. What is nil stays as it is.
type ServiceStatus struct {
	Key       config.Key
	UID       string
	Version   string            // of the Service this was decided from; if there is a newer one, the write fails with a conflict
	Ingress   *[]netip.Addr     // addresses in order; an empty slice clears them
	Allocated *config.Condition // one without a Status removes the condition
	Announced *config.Condition // likewise
}

// ingressPatch and its neighbours are a strategic merge patch of a Service's status. Of the patch types this one fits: conditions merge by
// type, so other people's need not be repeated (a JSON merge patch would replace the list), ingress is replaced whole, and unlike
// server-side apply it keeps no books in managedFields and reads none.
type servicePatch struct {
	Metadata patchMeta         `json:"metadata"`
	Status   servicePatchInner `json:"status"`
}

type patchMeta struct {
	UID             types.UID `json:"uid"`
	ResourceVersion string    `json:"resourceVersion"`
}

type servicePatchInner struct {
	LoadBalancer *loadBalancerPatch `json:"loadBalancer,omitempty"`
	Conditions   []any              `json:"conditions,omitempty"`
}

type loadBalancerPatch struct {
	Ingress []corev1.LoadBalancerIngress `json:"ingress"` // null clears
}

type deleteCondition struct {
	Patch string `json:"$patch"`
	Type  string `json:"type"`
}

// WriteService writes addresses and conditions with one request.
func (w *Writer) WriteService(ctx context.Context, want ServiceStatus) error {
	svc, ok := w.source.services.get(want.Key)
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, want.Key.String())
	}
	if string(svc.UID) != want.UID {
		return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, want.Key.String(), errors.New("it was deleted and made anew"))
	}
	if want.Version != "" && svc.ResourceVersion != want.Version {
		return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, want.Key.String(), errors.New("it has changed since this was decided"))
	}
	patch := servicePatch{Metadata: patchMeta{svc.UID, svc.ResourceVersion}}
	if want.Ingress != nil && !sameIngress(svc.Status.LoadBalancer.Ingress, *want.Ingress) {
		patch.Status.LoadBalancer = &loadBalancerPatch{ingress(*want.Ingress)}
	}
	now := metav1.Now()
	for _, c := range []struct {
		name string
		want *config.Condition
	}{{parse.AllocatedType, want.Allocated}, {parse.AnnouncedType, want.Announced}} {
		if c.want == nil {
			continue
		}
		if c.want.Status == "" {
			if slices.ContainsFunc(svc.Status.Conditions, func(have metav1.Condition) bool { return have.Type == c.name }) {
				patch.Status.Conditions = append(patch.Status.Conditions, deleteCondition{"delete", c.name})
			}
			continue
		}
		if next, differs := nextCondition(svc.Status.Conditions, c.name, *c.want, now); differs {
			patch.Status.Conditions = append(patch.Status.Conditions, next)
		}
	}
	if patch.Status.LoadBalancer == nil && patch.Status.Conditions == nil {
		return nil
	}
	next, err := w.patchService(ctx, want.Key, patch)
	if err != nil {
		return err
	}
	w.source.services.put(next)
	return nil
}

// ReleaseService clears addresses and conditions of a Service that is not ours any more. That it does not exist any more is success.
func (w *Writer) ReleaseService(ctx context.Context, r config.Released) error {
	patch := servicePatch{Status: servicePatchInner{LoadBalancer: &loadBalancerPatch{}}}
	for _, name := range []string{parse.AllocatedType, parse.AnnouncedType} {
		patch.Status.Conditions = append(patch.Status.Conditions, deleteCondition{"delete", name})
	}
	svc, watched := w.source.services.get(r.Key)
	if !watched {
		svc, watched = w.source.left.get(types.UID(r.UID))
	}
	if !watched || string(svc.UID) != r.UID {
		return nil
	}
	patch.Metadata = patchMeta{svc.UID, svc.ResourceVersion}
	next, err := w.patchService(ctx, r.Key, patch)
	if IsConflict(err) {
		w.source.left.check(svc) // read it anew: no watch brings it
	}
	if err != nil && !IsNotFound(err) {
		return err
	}
	if err == nil && next.Spec.Type == corev1.ServiceTypeLoadBalancer {
		w.source.services.put(next)
	}
	w.source.left.forget(svc.UID)
	return nil
}

func (w *Writer) patchService(ctx context.Context, key config.Key, patch servicePatch) (*corev1.Service, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding status of Service %s: %w", key, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	s, err := w.client.core.CoreV1().Services(key.Namespace).Patch(ctx, key.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("writing status of Service %s: %w", key, err)
	}
	return s, nil
}

// nextCondition returns the condition to write and whether it differs from what stands there. The time of the last transition moves only
// when the status does.
func nextCondition(have []metav1.Condition, name string, want config.Condition, now metav1.Time) (metav1.Condition, bool) {
	next := metav1.Condition{
		Type: name, Status: metav1.ConditionStatus(want.Status), Reason: want.Reason, Message: want.Message,
		ObservedGeneration: want.ObservedGeneration, LastTransitionTime: now,
	}
	i := slices.IndexFunc(have, func(c metav1.Condition) bool { return c.Type == name })
	if i < 0 {
		return next, true
	}
	if have[i].Status == next.Status {
		next.LastTransitionTime = have[i].LastTransitionTime
	}
	return next, next != have[i]
}

func ingress(addrs []netip.Addr) []corev1.LoadBalancerIngress {
	var list []corev1.LoadBalancerIngress // nil is null in the patch
	for _, a := range addrs {
		mode := corev1.LoadBalancerIPModeVIP
		list = append(list, corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode})
	}
	return list
}

func sameIngress(have []corev1.LoadBalancerIngress, want []netip.Addr) bool {
	return slices.EqualFunc(have, want, func(i corev1.LoadBalancerIngress, a netip.Addr) bool {
		return i.IP == a.String() && i.Hostname == "" && i.IPMode != nil && *i.IPMode == corev1.LoadBalancerIPModeVIP && i.Ports == nil
	})
}
