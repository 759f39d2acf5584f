package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Retention is what a pool's retainFor asks to keep of a Service that went.
type Retention struct {
	Service   config.Key
	Addresses []netip.Addr // one of each family at most
	Until     time.Time    // seconds count
}

// RetentionName is the name of the IPReservation that keeps addresses for a Service. Neither part contains a dot, so no two Services share one.
func RetentionName(service config.Key) string {
	return "retained." + service.Namespace + "." + service.Name
}

// Retain makes an IPReservation for the addresses, or brings the one that Herald has made for the Service before up to date. It is in the
// next Snapshot. An object of that name that Herald did not make is left alone, and an error.
func (w *Writer) Retain(ctx context.Context, r Retention) error {
	name := RetentionName(r.Service)
	spec := reservationSpec(r)
	have, ok := w.source.reservations.get(config.Key{Name: name})
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var next *v1beta1.IPReservation
	var err error
	switch {
	case !ok:
		next, err = w.client.reservations.Create(ctx, &v1beta1.IPReservation{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{parse.RetainedLabel: "true"}}, Spec: spec,
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // the Source will bring it
			err = apierrors.NewConflict(schema.GroupResource{Group: v1beta1.GroupVersion.Group, Resource: "ipreservations"}, name, err)
		}
	case have.Labels[parse.RetainedLabel] != "true":
		return fmt.Errorf("keeping the addresses of Service %s: IPReservation %s exists, without the label %s=true; rename it", r.Service, name, parse.RetainedLabel)
	case slices.Equal(have.Spec.Addresses, spec.Addresses) && have.Spec.Service == spec.Service && have.Spec.ExpiresAt.Equal(spec.ExpiresAt):
		return nil
	default:
		next, err = w.patchReservation(ctx, have, spec)
	}
	if err != nil {
		return fmt.Errorf("keeping the addresses of Service %s in IPReservation %s: %w", r.Service, name, err)
	}
	w.source.reservations.set(next)
	return nil
}

func reservationSpec(r Retention) v1beta1.IPReservationSpec {
	until := metav1.NewTime(r.Until).Rfc3339Copy() // as the API keeps it
	spec := v1beta1.IPReservationSpec{
		Service: v1beta1.ServiceReference{Namespace: r.Service.Namespace, Name: r.Service.Name}, ExpiresAt: &until,
	}
	for _, a := range r.Addresses {
		spec.Addresses = append(spec.Addresses, a.String())
	}
	return spec
}

func (w *Writer) patchReservation(ctx context.Context, have *v1beta1.IPReservation, spec v1beta1.IPReservationSpec) (*v1beta1.IPReservation, error) {
	body, err := json.Marshal(struct {
		Metadata patchMeta                 `json:"metadata"`
		Spec     v1beta1.IPReservationSpec `json:"spec"`
	}{patchMeta{have.UID, have.ResourceVersion}, spec})
	if err != nil {
		return nil, err
	}
	return w.client.reservations.Patch(ctx, have.Name, types.MergePatchType, body, metav1.PatchOptions{})
}

// DeleteReservation deletes an IPReservation that Herald has made; it is not in the next Snapshot. That it does not exist any more, or is
// another one by now, is success.
func (w *Writer) DeleteReservation(ctx context.Context, name, uid string) error {
	have, ok := w.source.reservations.get(config.Key{Name: name})
	if !ok || string(have.UID) != uid {
		return nil
	}
	if have.Labels[parse.RetainedLabel] != "true" {
		return errors.New("IPReservation " + name + " was not made by Herald and is not deleted")
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := w.client.reservations.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion}})
	if err != nil && !IsNotFound(err) {
		return fmt.Errorf("deleting IPReservation %s: %w", name, err)
	}
	w.source.reservations.drop(have, true)
	return nil
}
