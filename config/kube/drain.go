package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// drainTries bounds how often a write is decided anew because somebody else wrote the Node meanwhile.
const drainTries = 5

// Drain taints a node with parse.DrainTaint, or takes the taint away, and reports whether that changed anything. The taint's effect is
// PreferNoSchedule: Pods that run stay, and nothing is kept from running where no other node is left.
func (c *Client) Drain(ctx context.Context, node string, drain bool) (changed bool, err error) {
	for range drainTries {
		if changed, err = c.taint(ctx, node, drain); !apierrors.IsConflict(err) {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("the taints of Node %s: %w", node, err)
	}
	return changed, nil
}

// Report returns what the speaker of a node reports; nil when it has not reported yet.
func (c *Client) Report(ctx context.Context, node string) (*v1beta1.SpeakerStatus, error) {
	o, err := c.speakers.Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the SpeakerStatus of %s: %w", node, err)
	}
	return o, nil
}

type taintPatch struct {
	Metadata patchVersion `json:"metadata"`
	Spec     struct {
		Taints []corev1.Taint `json:"taints"` // a JSON merge patch replaces the list whole
	} `json:"spec"`
}

type patchVersion struct {
	ResourceVersion string `json:"resourceVersion"`
}

func (c *Client) taint(ctx context.Context, node string, drain bool) (changed bool, err error) {
	have, err := c.core.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	ours := func(t corev1.Taint) bool { return t.Key == parse.DrainTaint }
	if slices.ContainsFunc(have.Spec.Taints, ours) == drain {
		return false, nil
	}
	patch := taintPatch{Metadata: patchVersion{have.ResourceVersion}}
	patch.Spec.Taints = slices.DeleteFunc(slices.Clone(have.Spec.Taints), ours)
	if drain {
		patch.Spec.Taints = append(patch.Spec.Taints, corev1.Taint{Key: parse.DrainTaint, Effect: corev1.TaintEffectPreferNoSchedule})
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return false, err
	}
	_, err = c.core.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "kubectl-herald"})
	return err == nil, err
}
