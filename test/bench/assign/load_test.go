package assign

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
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
	no := false
	_, err := s.load.CoreV1().Services(metav1.NamespaceDefault).Create(s.ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: &no, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}, metav1.CreateOptions{})
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

// requests matches a line of the API server's count of requests.
var requests = regexp.MustCompile(`^apiserver_request_total\{(.*)\} ([0-9.e+]+)$`)

// writes returns how many writes the API server has been asked for since it started: of Services and of Herald's own objects.
func (s *stage) writes() int {
	s.t.Helper()
	text, err := s.load.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(s.ctx)
	s.must(err)
	sum := 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := requests.FindStringSubmatch(lines.Text())
		if m == nil || !strings.Contains(m[1], `group="heraldlb.io"`) && !strings.Contains(m[1], `resource="services"`) {
			continue
		}
		for _, verb := range []string{"PATCH", "PUT", "POST", "DELETE", "APPLY"} {
			if strings.Contains(m[1], `verb="`+verb+`"`) {
				n, err := strconv.ParseFloat(m[2], 64)
				s.must(err)
				sum += int(n)
			}
		}
	}
	return sum
}
