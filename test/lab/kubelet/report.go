package kubelet

import (
	"context"
	"encoding/json"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// report publishes the Pod's state: its processes within this program, its status to the API server. It writes only
// what has changed; a write that fails is repeated.
func (w *worker) report(ctx context.Context) {
	w.publish()
	if w.gone || w.finished || ctx.Err() != nil {
		return
	}
	now := time.Now()
	if now.Before(w.reportAt) {
		return
	}
	w.reportAt = time.Time{}
	if err := w.writeStatus(ctx, now); err != nil {
		w.log.Warn("writing the Pod's status", "err", err)
		w.reportAt = time.Now().Add(retryInterval)
	}
}

// writeStatus patches the status if it differs from what was written last.
func (w *worker) writeStatus(ctx context.Context, now time.Time) error {
	base := w.pod.DeepCopy()
	w.status.Conditions = foreignConditions(w.status.Conditions, w.pod.Status.Conditions)
	base.Status = w.status
	status := statusOf(base, w.view(), now)
	if w.reported && equality.Semantic.DeepEqual(status, w.status) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": w.pod.UID}, "status": status})
	if err != nil {
		return err
	}
	pods := w.k.client.CoreV1().Pods(w.pod.Namespace)
	_, err = pods.Patch(ctx, w.pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if vanished(err) {
		w.gone = true
		return nil
	}
	if err != nil {
		return err
	}
	w.status, w.reported = status, true
	return nil
}

// foreignConditions returns our conditions, with those that others write as they are in heard.
func foreignConditions(ours, heard []corev1.PodCondition) []corev1.PodCondition {
	own := map[corev1.PodConditionType]bool{
		corev1.PodReadyToStartContainers: true, corev1.PodInitialized: true, corev1.ContainersReady: true, corev1.PodReady: true,
	}
	var list []corev1.PodCondition
	for _, c := range ours {
		if own[c.Type] {
			list = append(list, c)
		}
	}
	for _, c := range heard {
		if !own[c.Type] {
			list = append(list, c)
		}
	}
	return list
}

// view collects what the status is made of.
func (w *worker) view() view {
	v := view{at: w.at(), sandbox: w.sandbox != nil, volumes: w.mounted, started: w.began}
	for _, c := range w.init {
		v.init = append(v.init, w.viewOf(c))
	}
	for _, c := range w.main {
		v.containers = append(v.containers, w.viewOf(c))
	}
	return v
}

// viewOf adds to a container that waits what the Pod as a whole waits for.
func (w *worker) viewOf(c *container) containerView {
	v := c.view
	if w.problem != "" && v.waiting != nil && v.waiting.Reason == "ContainerCreating" {
		v.waiting = &corev1.ContainerStateWaiting{Reason: v.waiting.Reason, Message: w.problem}
	}
	return v
}

// release writes the final status and then removes the Pod from the API server, which has waited for this. It reports
// whether the Pod is gone.
func (w *worker) release(ctx context.Context) bool {
	w.publish()
	if err := w.writeStatus(ctx, time.Now()); err != nil {
		w.log.Warn("writing the Pod's last status", "err", err)
		return false
	}
	err := w.k.client.CoreV1().Pods(w.pod.Namespace).Delete(ctx, w.pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(w.pod.UID)),
	})
	if err != nil && !vanished(err) {
		w.log.Warn("removing the Pod", "err", err)
		return false
	}
	return true
}

// vanished reports whether an error means that this very Pod does not exist any more.
func vanished(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }
