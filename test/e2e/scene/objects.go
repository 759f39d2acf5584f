package scene

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/heraldlb/herald/config/v1beta1"
)

// Kinds of Herald's objects, by the plural that the API server knows them under.
const (
	Pools             = "ipaddresspools"
	L2Advertisements  = "l2advertisements"
	Peers             = "bgppeers"
	BGPAdvertisements = "bgpadvertisements"
	SpeakerStatuses   = "speakerstatuses"
)

// Objects is the API of one of Herald's kinds.
func (s *Scene) Objects(plural string) dynamic.ResourceInterface {
	return s.dynamic.Resource(v1beta1.GroupVersion.WithResource(plural))
}

// Speaker returns what the speaker of a node reports.
func (s *Scene) Speaker(ctx context.Context, node string) (v1beta1.SpeakerStatusStatus, error) {
	o, err := s.Objects(SpeakerStatuses).Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return v1beta1.SpeakerStatusStatus{}, err
	}
	var status v1beta1.SpeakerStatus
	err = runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &status)
	return status.Status, err
}

// Sessions returns the BGP sessions that the speaker of a node reports, by the name of the peer.
func (s *Scene) Sessions(ctx context.Context, node string) (map[string]v1beta1.SpeakerBGPSession, error) {
	status, err := s.Speaker(ctx, node)
	if err != nil {
		return nil, err
	}
	sessions := map[string]v1beta1.SpeakerBGPSession{}
	if status.BGP != nil {
		for _, session := range status.BGP.Sessions {
			sessions[session.Peer] = session
		}
	}
	return sessions, nil
}

// Ready returns the condition Ready of a config object, which must have been judged as it is written now.
func (s *Scene) Ready(ctx context.Context, plural, name string) (metav1.Condition, error) {
	o, err := s.Objects(plural).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return metav1.Condition{}, err
	}
	var status struct {
		Conditions []metav1.Condition `json:"conditions"`
	}
	part, _, err := unstructured.NestedMap(o.Object, "status")
	if err != nil {
		return metav1.Condition{}, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(part, &status); err != nil {
		return metav1.Condition{}, err
	}
	for _, c := range status.Conditions {
		if c.Type == "Ready" && c.ObservedGeneration == o.GetGeneration() {
			return c, nil
		}
	}
	return metav1.Condition{}, fmt.Errorf("%s %s, generation %d, has the conditions %+v", plural, name, o.GetGeneration(), status.Conditions)
}

// Events returns the events about a Service that Herald's controller has written, in the order of their time. Where there is a Service of
// that name they are its own, without those of an earlier one.
func (s *Scene) Events(ctx context.Context, service string) ([]Event, error) {
	var uid types.UID
	switch o, err := s.Services().Get(ctx, service, metav1.GetOptions{}); {
	case err == nil:
		uid = o.UID
	case !apierrors.IsNotFound(err):
		return nil, err
	}
	list, err := s.API.EventsV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, e := range list.Items {
		own := e.Regarding.Kind == "Service" && e.Regarding.Name == service && (uid == "" || e.Regarding.UID == uid)
		if own && e.ReportingController == controllerName {
			events = append(events, Event{Time: e.EventTime.Time, Type: e.Type, Reason: e.Reason, Note: e.Note})
		}
	}
	return sorted(events), nil
}

// Controller returns the name of the Pod that leads, as the Lease has it.
func (s *Scene) Controller(ctx context.Context) (string, error) {
	lease, err := s.API.CoordinationV1().Leases(s.Namespace).Get(ctx, s.Name("controller"), metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", fmt.Errorf("the Lease %s has no holder", lease.Name)
	}
	return *lease.Spec.HolderIdentity, nil
}
