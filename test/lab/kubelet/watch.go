package kubelet

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

// watchPods hands every change of a Pod of this node to the Pod's worker.
func (k *Kubelet) watchPods(ctx context.Context) {
	selector := fields.OneTermEqualSelector("spec.nodeName", k.o.Node)
	lw := cache.NewListWatchFromClient(k.client.CoreV1().RESTClient(), "pods", corev1.NamespaceAll, selector)
	store := &podStore{known: map[types.UID]*corev1.Pod{}, tell: func(pod *corev1.Pod, gone bool) { k.dispatch(ctx, pod, gone) }}
	// The default's wait grows to a minute with each outage of the API server, and outages are what a laboratory is for.
	r := cache.NewReflectorWithOptions(lw, &corev1.Pod{}, store, cache.ReflectorOptions{
		Name:    "pods of " + k.o.Node,
		Backoff: &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 5, Cap: 2 * time.Second},
	})
	r.RunWithContext(ctx)
}

// podStore tells of each change of the Pods that it is given. It is called by one goroutine.
type podStore struct {
	known map[types.UID]*corev1.Pod
	tell  func(pod *corev1.Pod, gone bool)
}

// Add takes a Pod.
func (s *podStore) Add(o any) error {
	pod := o.(*corev1.Pod)
	s.known[pod.UID] = pod
	s.tell(pod, false)
	return nil
}

// Update takes a Pod's new version.
func (s *podStore) Update(o any) error { return s.Add(o) }

// Delete takes the last version of a Pod that is gone.
func (s *podStore) Delete(o any) error {
	pod := o.(*corev1.Pod)
	delete(s.known, pod.UID)
	s.tell(pod, true)
	return nil
}

// Replace takes all Pods there are: those it does not name are gone.
func (s *podStore) Replace(list []any, _ string) error {
	left := maps.Clone(s.known)
	for _, o := range list {
		delete(left, o.(*corev1.Pod).UID)
	}
	for _, pod := range left { // first: one of the same name may have come instead
		if err := s.Delete(pod); err != nil {
			return err
		}
	}
	for _, o := range list {
		if err := s.Add(o); err != nil {
			return err
		}
	}
	return nil
}

// Resync is of no use here: a worker keeps what it was told.
func (s *podStore) Resync() error { return nil }
