package live

import (
	"encoding/json"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// targets is one entry of what Prometheus' HTTP discovery reads.
type targets struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// meta begins the labels that the role pod of Prometheus' Kubernetes discovery gives.
const meta = "__meta_kubernetes_"

// label is the name that discovery gives a Pod's label.
func label(name string) string {
	return meta + "pod_label_" + regexp.MustCompile(`[^a-zA-Z0-9_]`).ReplaceAllString(name, "_")
}

// found is what the role pod finds of a Pod: each port of each container, and a container without one by itself.
func found(p *corev1.Pod) []targets {
	if p.Status.PodIP == "" {
		return nil
	}
	var all []targets
	add := func(address string, c corev1.Container, port string) {
		labels := map[string]string{
			meta + "namespace": p.Namespace, meta + "pod_name": p.Name, meta + "pod_node_name": p.Spec.NodeName,
			meta + "pod_container_name": c.Name, meta + "pod_container_port_name": port,
		}
		for name, value := range p.Labels {
			labels[label(name)] = value
		}
		all = append(all, targets{[]string{address}, labels})
	}
	for _, c := range p.Spec.Containers {
		if len(c.Ports) == 0 {
			add(p.Status.PodIP, c, "")
		}
		for _, port := range c.Ports {
			add(net.JoinHostPort(p.Status.PodIP, strconv.Itoa(int(port.ContainerPort))), c, port.Name)
		}
	}
	return all
}

// discover serves what is found in Herald's namespace, where the Pods' network reaches it, and returns the address.
func (s *stage) discover() (url string, err error) {
	addrs, err := s.Control.Addrs("eth0")
	if err != nil {
		return "", err
	}
	listener, err := s.Control.Listen("tcp", net.JoinHostPort(addrs[0].Addr().String(), "0"))
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(s.tellTargets), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // until it is closed
	}()
	s.t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return "http://" + listener.Addr().String() + "/", nil
}

// tellTargets answers Prometheus. Without the API server it has no answer, and Prometheus goes on with what it knows, as it does by itself.
func (s *stage) tellTargets(w http.ResponseWriter, r *http.Request) {
	list, err := s.API.CoreV1().Pods(s.Namespace).List(r.Context(), metav1.ListOptions{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	all := []targets{}
	for i := range list.Items {
		all = append(all, found(&list.Items[i])...)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(all) // an error is Prometheus' that went away
}
