package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Each trim function drops what nothing here reads; each same function compares what is left, the resourceVersion apart.

func trimMeta(o metav1.Object) {
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a[corev1.LastAppliedConfigAnnotation] != "" {
		a = maps.Clone(a)
		delete(a, corev1.LastAppliedConfigAnnotation)
		o.SetAnnotations(a)
	}
}

func sameMeta(a, b metav1.Object) bool {
	return a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() && maps.Equal(a.GetLabels(), b.GetLabels()) &&
		a.GetDeletionTimestamp().Equal(b.GetDeletionTimestamp())
}

func trimService(s *corev1.Service) { trimMeta(s) }

func sameService(a, b *corev1.Service) bool {
	return sameMeta(a, b) && maps.Equal(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

// trimSlice keeps the Service's name, and of each endpoint its node and its conditions; addresses only where keep says so.
func trimSlice(keep func(*discoveryv1.EndpointSlice) bool) func(*discoveryv1.EndpointSlice) {
	return func(s *discoveryv1.EndpointSlice) {
		addresses := keep(s)
		s.ManagedFields, s.Annotations, s.OwnerReferences, s.Ports = nil, nil, nil, nil
		if name, ok := s.Labels[discoveryv1.LabelServiceName]; ok {
			s.Labels = map[string]string{discoveryv1.LabelServiceName: name}
		} else {
			s.Labels = nil
		}
		for i, ep := range s.Endpoints {
			s.Endpoints[i] = discoveryv1.Endpoint{Conditions: ep.Conditions, NodeName: ep.NodeName}
			if addresses {
				s.Endpoints[i].Addresses = ep.Addresses
			}
		}
	}
}

func sameSlice(a, b *discoveryv1.EndpointSlice) bool {
	return a.UID == b.UID && maps.Equal(a.Labels, b.Labels) && a.AddressType == b.AddressType &&
		equality.Semantic.DeepEqual(a.Endpoints, b.Endpoints)
}

// trimNode keeps labels, addresses, the pods' networks, the taints that drain a node, whether it is cordoned, and the status of two
// conditions: what a heartbeat changes is not among them.
func trimNode(n *corev1.Node) {
	n.ManagedFields, n.Annotations, n.OwnerReferences = nil, nil, nil
	n.Spec = corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs, Unschedulable: n.Spec.Unschedulable, Taints: trimTaints(n.Spec.Taints)}
	n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: trimNodeConditions(n.Status.Conditions)}
}

func trimTaints(all []corev1.Taint) []corev1.Taint {
	var kept []corev1.Taint
	for _, t := range all {
		if t.Key == parse.DrainTaint || t.Key == corev1.TaintNodeOutOfService {
			kept = append(kept, corev1.Taint{Key: t.Key, Effect: t.Effect})
		}
	}
	return kept
}

func trimNodeConditions(all []corev1.NodeCondition) []corev1.NodeCondition {
	var kept []corev1.NodeCondition
	for _, c := range all {
		if c.Type == corev1.NodeReady || c.Type == corev1.NodeNetworkUnavailable {
			kept = append(kept, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	return kept
}

func sameNode(a, b *corev1.Node) bool {
	return sameMeta(a, b) && slices.Equal(a.Status.Addresses, b.Status.Addresses) && slices.Equal(a.Status.Conditions, b.Status.Conditions) &&
		slices.Equal(a.Spec.PodCIDRs, b.Spec.PodCIDRs) && a.Spec.Unschedulable == b.Spec.Unschedulable &&
		slices.Equal(a.Spec.Taints, b.Spec.Taints)
}

// trimNamespace keeps the labels.
func trimNamespace(n *metav1.PartialObjectMetadata) {
	n.ManagedFields, n.Annotations, n.OwnerReferences, n.Finalizers = nil, nil, nil, nil
}

func sameNamespace(a, b *metav1.PartialObjectMetadata) bool {
	return a.UID == b.UID && maps.Equal(a.Labels, b.Labels)
}

func sameServiceCIDR(a, b *networkingv1.ServiceCIDR) bool {
	return slices.Equal(a.Spec.CIDRs, b.Spec.CIDRs)
}

func trimSecret(s *corev1.Secret) { trimMeta(s) }

// trimPassword keeps the password.
func trimPassword(s *corev1.Secret) {
	trimMeta(s)
	s.Data = map[string][]byte{parse.PasswordEntry: s.Data[parse.PasswordEntry]}
}

func sameSecret(a, b *corev1.Secret) bool {
	return a.UID == b.UID && equality.Semantic.DeepEqual(a.Data, b.Data)
}

func trimObject[T object](o T) { trimMeta(o) }

func samePool(a, b *v1beta1.IPAddressPool) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameReservation(a, b *v1beta1.IPReservation) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameL2Advert(a, b *v1beta1.L2Advertisement) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func samePeer(a, b *v1beta1.BGPPeer) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameBGPAdvert(a, b *v1beta1.BGPAdvertisement) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameBFDProfile(a, b *v1beta1.BFDProfile) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameCommunity(a, b *v1beta1.Community) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func sameSpeaker(a, b *v1beta1.SpeakerStatus) bool {
	return sameMeta(a, b) && equality.Semantic.DeepEqual(a.Status, b.Status)
}
