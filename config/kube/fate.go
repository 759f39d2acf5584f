package kube

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	schedule "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// fateTimeout bounds how long the end of a process waits to learn what comes after it.
const fateTimeout = time.Second

// fateRetry is how long it waits before it asks again.
const fateRetry = 200 * time.Millisecond

// Leaves says why a speaker that was told to end is not coming back to its node; "" when it is: its DaemonSet is there and wants a Pod on the
// node, or the API server cannot be asked, as then nobody can have taken it away. That we may not ask means that an uninstall has taken our
// permission; but an API server that has just started says so of everybody, for a moment, so it is asked again.
func (c *Client) Leaves(ctx context.Context, namespace, daemonSet, node string) string {
	ctx, cancel := context.WithTimeout(ctx, fateTimeout)
	defer cancel()
	last := ""
	for {
		why, sure := c.leaves(ctx, namespace, daemonSet, node)
		if !sure && ctx.Err() != nil {
			return last // this question was cut short: what was answered before counts
		}
		if sure || why == "" {
			return why
		}
		last = why
		select {
		case <-ctx.Done():
			return last
		case <-time.After(fateRetry):
		}
	}
}

// leaves asks once. An answer that is not sure may be another in a moment.
func (c *Client) leaves(ctx context.Context, namespace, daemonSet, node string) (why string, sure bool) {
	ds, err := c.core.AppsV1().DaemonSets(namespace).Get(ctx, daemonSet, metav1.GetOptions{})
	if why := lost("DaemonSet "+namespace+"/"+daemonSet, err); why != "" || err != nil {
		return why, apierrors.IsNotFound(err)
	}
	if ds.DeletionTimestamp != nil {
		return "the DaemonSet is being deleted", true
	}
	n, err := c.core.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if why := lost("Node "+node, err); why != "" || err != nil {
		return why, apierrors.IsNotFound(err)
	}
	return unwanted(ds, n), true
}

// lost says why an object that could not be read is gone for good; "" when that does not follow.
func lost(what string, err error) string {
	switch {
	case apierrors.IsNotFound(err):
		return what + " does not exist any more"
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return "the permission to read " + what + " was taken away"
	}
	return ""
}

// unwanted says why a DaemonSet has no Pod on a node; "" when it has. It follows the DaemonSet controller's rules for a Pod that runs.
func unwanted(ds *appsv1.DaemonSet, n *corev1.Node) string {
	pod := &corev1.Pod{Spec: *ds.Spec.Template.Spec.DeepCopy()}
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(n); err == nil && !match {
		return "the DaemonSet does not select this node any more"
	}
	tolerations := append(pod.Spec.Tolerations,
		corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		corev1.Toleration{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})
	evicts := func(t *corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute }
	if taint, untolerated := schedule.FindMatchingUntoleratedTaint(klog.Logger{}, n.Spec.Taints, tolerations, evicts, true); untolerated {
		return fmt.Sprintf("the node's taint %s evicts this Pod", taint.Key)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue && strings.Contains(c.Message, "shutting down") {
			return "the node shuts down"
		}
	}
	return ""
}
