package assign

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// workers create and delete Services; writers is how many requests the controller has under way, and so the bare client.
const (
	workers = 8
	writers = 32
)

// each calls do for 0 to n-1, several at once, and returns when all are done.
func (s *stage) each(n, at int, do func(i int) error) {
	s.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range at {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	s.must(failed)
}

func name(prefix string, i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }

// create makes one Service that no controller of Kubernetes has work with, and returns when the API server has answered.
func (s *stage) create(name string) error {
	return s.createAs(name, corev1.ServiceTypeLoadBalancer)
}

func (s *stage) createAs(name string, kind corev1.ServiceType) error {
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	if kind == corev1.ServiceTypeLoadBalancer {
		o.Spec.AllocateLoadBalancerNodePorts = new(bool)
	}
	_, err := s.load.CoreV1().Services(metav1.NamespaceDefault).Create(s.ctx, o, metav1.CreateOptions{})
	return err
}

// exposePatch makes a Service one of type LoadBalancer.
const exposePatch = `{"spec":{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false}}`

// expose makes a Service that exists one of type LoadBalancer, which costs the API server the same however many there are.
func (s *stage) expose(name string) error {
	_, err := s.load.CoreV1().Services(metav1.NamespaceDefault).Patch(s.ctx, name, types.MergePatchType, []byte(exposePatch), metav1.PatchOptions{})
	return err
}

// createMany makes n Services as fast as the workers can, and returns when each was there.
func (s *stage) createMany(prefix string, n int) map[string]time.Time {
	s.t.Helper()
	created := make(map[string]time.Time, n)
	var mu sync.Mutex
	s.each(n, workers, func(i int) error {
		err := s.create(name(prefix, i))
		now := time.Now()
		mu.Lock()
		created[name(prefix, i)] = now
		mu.Unlock()
		return err
	})
	return created
}

func (s *stage) deleteMany(names []string) {
	s.t.Helper()
	s.each(len(names), workers, func(i int) error {
		return s.load.CoreV1().Services(metav1.NamespaceDefault).Delete(s.ctx, names[i], metav1.DeleteOptions{})
	})
}

// status is the patch that gives a Service the status it has, as the controller writes it; clear takes it away.
func status(o *corev1.Service, clear bool) []byte {
	conditions := []any{condition(o, allocated)}
	ingress := o.Status.LoadBalancer.Ingress
	if clear {
		conditions, ingress = []any{
			map[string]string{"$patch": "delete", "type": allocated}, map[string]string{"$patch": "delete", "type": announced},
		}, nil
	}
	body, err := json.Marshal(map[string]any{"status": map[string]any{
		"loadBalancer": map[string]any{"ingress": ingress}, "conditions": conditions,
	}})
	if err != nil {
		panic(err)
	}
	return body
}

// patchAll writes statuses with as many requests at once as the controller, and returns how long it took.
func (s *stage) patchAll(c kubernetes.Interface, all []*corev1.Service, clear bool) time.Duration {
	s.t.Helper()
	bodies := make([][]byte, len(all))
	for i, o := range all {
		bodies[i] = status(o, clear)
	}
	began := time.Now()
	s.each(len(all), writers, func(i int) error {
		_, err := c.CoreV1().Services(metav1.NamespaceDefault).Patch(s.ctx, all[i].Name, types.StrategicMergePatchType, bodies[i], metav1.PatchOptions{}, "status")
		return err
	})
	return time.Since(began)
}
