package kube

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
)

// Annotate gives an annotation of a Service a value, or takes the annotation away when the value is empty.
func (c *Client) Annotate(ctx context.Context, service config.Key, name, value string) error {
	var to any // null takes it away (RFC 7386)
	if value != "" {
		to = value
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{name: to}}})
	if err != nil {
		return err
	}
	_, err = c.core.CoreV1().Services(service.Namespace).Patch(ctx, service.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "kubectl-herald"})
	if err != nil {
		return fmt.Errorf("the annotation %s of Service %s: %w", name, service, err)
	}
	return nil
}

// DeletePod deletes a Pod as kubectl does: it has its grace to end in.
func (c *Client) DeletePod(ctx context.Context, namespace, name string) error {
	if err := c.core.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting Pod %s/%s: %w", namespace, name, err)
	}
	return nil
}
