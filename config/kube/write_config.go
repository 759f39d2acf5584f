package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// patcher is the part of a typed client that writes a status.
type patcher[T object] interface {
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
}

// objectPatch is a JSON merge patch (RFC 7386) of a custom resource's status: the API server has no strategic merge for those. A list is
// replaced whole, so the conditions of others are repeated; the resourceVersion makes that safe.
type objectPatch struct {
	Metadata patchMeta `json:"metadata"`
	Status   any       `json:"status"`
}

type conditionsPatch struct {
	Conditions []metav1.Condition `json:"conditions"`
}

// WriteReady writes the Ready condition of a config object. The generation is the one that was judged.
func (w *Writer) WriteReady(ctx context.Context, ref config.Ref, generation int64, ready config.Condition) error {
	ready.ObservedGeneration = generation
	switch ref.Kind {
	case parse.KindPool:
		return writeReady(ctx, w.client.pools, w.source.pools, ref, ready, func(o *v1beta1.IPAddressPool) []metav1.Condition { return o.Status.Conditions })
	case parse.KindReservation:
		return writeReady(ctx, w.client.reservations, w.source.reservations, ref, ready, func(o *v1beta1.IPReservation) []metav1.Condition { return o.Status.Conditions })
	case parse.KindL2Advertisement:
		return writeReady(ctx, w.client.l2Adverts, w.source.l2Adverts, ref, ready, func(o *v1beta1.L2Advertisement) []metav1.Condition { return o.Status.Conditions })
	case parse.KindPeer:
		return writeReady(ctx, w.client.peers, w.source.peers, ref, ready, func(o *v1beta1.BGPPeer) []metav1.Condition { return o.Status.Conditions })
	case parse.KindBGPAdvertisement:
		return writeReady(ctx, w.client.bgpAdverts, w.source.bgpAdverts, ref, ready, func(o *v1beta1.BGPAdvertisement) []metav1.Condition { return o.Status.Conditions })
	case parse.KindBFDProfile:
		return writeReady(ctx, w.client.bfdProfiles, w.source.bfdProfiles, ref, ready, func(o *v1beta1.BFDProfile) []metav1.Condition { return o.Status.Conditions })
	case parse.KindCommunity:
		return writeReady(ctx, w.client.communities, w.source.communities, ref, ready, func(o *v1beta1.Community) []metav1.Condition { return o.Status.Conditions })
	}
	return fmt.Errorf("writing condition of %s: unknown kind", ref)
}

func writeReady[T object](ctx context.Context, to patcher[T], from *table[T], ref config.Ref, ready config.Condition, conditions func(T) []metav1.Condition) error {
	o, ok := from.get(config.Key{Name: ref.Name})
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Group: v1beta1.GroupVersion.Group, Resource: ref.Kind}, ref.Name)
	}
	have := conditions(o)
	next, differs := nextCondition(have, parse.ReadyType, ready, metav1.Now())
	if !differs {
		return nil
	}
	all := slices.DeleteFunc(slices.Clone(have), func(c metav1.Condition) bool { return c.Type == parse.ReadyType })
	return patchStatus(ctx, to, from, o, ref, conditionsPatch{append(all, next)})
}

type poolPatch struct {
	IPv4 v1beta1.PoolCounts `json:"ipv4"`
	IPv6 v1beta1.PoolCounts `json:"ipv6"`
}

// WritePoolStatus writes the usage of a pool.
func (w *Writer) WritePoolStatus(ctx context.Context, name string, status config.PoolStatus) error {
	ref := config.Ref{Kind: parse.KindPool, Name: name}
	o, ok := w.source.pools.get(config.Key{Name: name})
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Group: v1beta1.GroupVersion.Group, Resource: ref.Kind}, name)
	}
	want := poolPatch{IPv4: v1beta1.PoolCounts(status.IPv4), IPv6: v1beta1.PoolCounts(status.IPv6)}
	if o.Status.IPv4 == want.IPv4 && o.Status.IPv6 == want.IPv6 {
		return nil
	}
	return patchStatus(ctx, w.client.pools, w.source.pools, o, ref, want)
}

func patchStatus[T object](ctx context.Context, to patcher[T], from *table[T], o T, ref config.Ref, status any) error {
	body, err := json.Marshal(objectPatch{patchMeta{o.GetUID(), o.GetResourceVersion()}, status})
	if err != nil {
		return fmt.Errorf("encoding status of %s: %w", ref, err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	next, err := to.Patch(ctx, ref.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("writing status of %s: %w", ref, err)
	}
	from.put(next)
	return nil
}

type jsonPatch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// WriteSpeakerStatus writes the report of the speaker on a node whole, and makes the object, owned by the Node, when there is none. A
// node's speaker is the only writer of it, so no version is checked. A report that already stands there is not written again.
func (w *Writer) WriteSpeakerStatus(ctx context.Context, node string, status v1beta1.SpeakerStatusStatus) error {
	same, err := w.reported(node, status)
	if same || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err = w.patchSpeaker(ctx, node, status)
	if IsNotFound(err) {
		if err = w.createSpeaker(ctx, node); err == nil {
			err = w.patchSpeaker(ctx, node, status)
		}
	}
	if err != nil {
		return fmt.Errorf("writing SpeakerStatus %s: %w", node, err)
	}
	return nil
}

// reported compares as JSON, in which times have the precision that the API keeps.
func (w *Writer) reported(node string, status v1beta1.SpeakerStatusStatus) (bool, error) {
	have, ok := w.source.speakers.get(config.Key{Name: node})
	if !ok {
		return false, nil
	}
	a, err := json.Marshal(have.Status)
	if err != nil {
		return false, fmt.Errorf("encoding SpeakerStatus %s: %w", node, err)
	}
	b, err := json.Marshal(status)
	if err != nil {
		return false, fmt.Errorf("encoding SpeakerStatus %s: %w", node, err)
	}
	return bytes.Equal(a, b), nil
}

// patchSpeaker uses a JSON patch (RFC 6902): its "add" replaces the whole status, where a merge patch would keep what is absent.
func (w *Writer) patchSpeaker(ctx context.Context, node string, status v1beta1.SpeakerStatusStatus) error {
	body, err := json.Marshal([]jsonPatch{{"add", "/status", status}})
	if err != nil {
		return err
	}
	next, err := w.client.speakers.Patch(ctx, node, types.JSONPatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return err
	}
	w.source.speakers.put(next)
	return nil
}

// createSpeaker makes an empty SpeakerStatus; the owner reference lets it go with the Node.
func (w *Writer) createSpeaker(ctx context.Context, node string) error {
	n, ok := w.source.nodes.get(config.Key{Name: node})
	if !ok {
		return fmt.Errorf("node %s is not known (yet); check --node-name", node)
	}
	_, err := w.client.speakers.Create(ctx, &v1beta1.SpeakerStatus{ObjectMeta: metav1.ObjectMeta{
		Name:            node,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}},
	}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
