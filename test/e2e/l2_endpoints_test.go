package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// endpoint is one entry of an EndpointSlice.
type endpoint struct {
	node                        string
	ready, serving, terminating bool
	last                        byte // of its address; two entries may share one
}

// slices gives a Service exactly these EndpointSlices.
func (s *stage) slices(service string, slices ...[]endpoint) {
	s.t.Helper()
	api := s.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	s.must(api.DeleteCollection(s.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service}))
	for i, list := range slices {
		number, name := int32(8080), "http"
		o := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprintf("%s-%d", service, i), Namespace: metav1.NamespaceDefault,
				Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "herald-e2e"},
			},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		}
		for _, e := range list {
			o.Endpoints = append(o.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.244.250.%d", e.last)}, NodeName: &e.node,
				Conditions: discoveryv1.EndpointConditions{Ready: &e.ready, Serving: &e.serving, Terminating: &e.terminating},
			})
		}
		_, err := api.Create(s.t.Context(), o, metav1.CreateOptions{})
		s.must(err)
	}
}

// TestEndpointConditions has endpoints in every condition; with externalTrafficPolicy Local, who answers is decided by them.
func TestEndpointConditions(t *testing.T) {
	ready := func(node string) endpoint { return endpoint{node: node, ready: true, serving: true, last: 1} }
	unready := func(node string) endpoint { return endpoint{node: node, last: 1} }
	leaving := func(node string) endpoint { return endpoint{node: node, serving: true, terminating: true, last: 2} }
	s := on(t)
	s.create("conditions", scene.SingleStack(corev1.IPv4Protocol), scene.Selecting(""), scene.Local)
	ip := s.withAddress("conditions")[0]
	for _, tt := range []struct {
		name   string
		slices [][]endpoint
		owner  string // "" = nobody
	}{
		{"ready", [][]endpoint{{ready("node-1")}}, "node-1"},
		{"unready", [][]endpoint{{unready("node-1")}}, ""},
		{"unready here, ready there", [][]endpoint{{unready("node-1"), ready("node-2")}}, "node-2"},
		{"leaving, but serving", [][]endpoint{{leaving("node-3")}}, "node-3"},
		{"leaving here, ready there", [][]endpoint{{leaving("node-3"), ready("node-1")}}, "node-1"},
		{"the same Pod unready in one slice and ready in another", [][]endpoint{{unready("node-2")}, {ready("node-2")}}, "node-2"},
		{"none", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := on(t)
			s.slices("conditions", tt.slices...)
			if tt.owner == "" {
				s.nobody(ip)
				return
			}
			s.moves(ip, tt.owner)
		})
	}
	s.slices("conditions")
}

// TestPublishNotReadyAddresses announces a Service whose Pods are never ready, because it says that it wants that.
func TestPublishNotReadyAddresses(t *testing.T) {
	s := on(t)
	s.apply(unreadyPod, "pod/unready")
	s.create("unready", scene.SingleStack(corev1.IPv4Protocol), scene.Selecting("unready"))
	ip := s.withAddress("unready")[0]
	s.service("unready", "said to have no ready endpoint", func(o *corev1.Service) error {
		return scene.Has(o, scene.Announced, metav1.ConditionFalse, "NoReadyEndpoints")
	})
	s.eventually("the Pod to have an address", func(ctx context.Context) error {
		pod, err := s.API.CoreV1().Pods(metav1.NamespaceDefault).Get(ctx, "unready", metav1.GetOptions{})
		if err == nil && pod.Status.PodIP == "" {
			err = fmt.Errorf("it is %s", pod.Status.Phase)
		}
		return err
	})
	s.nobody(ip)
	_, err := s.Change(t.Context(), "unready", func(o *corev1.Service) { o.Spec.PublishNotReadyAddresses = true })
	s.must(err)
	s.owner(ip)
}

const unreadyPod = `
apiVersion: v1
kind: Pod
metadata: {name: unready, namespace: default, labels: {app: unready}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: lab/web
      ports: [{name: http, containerPort: 8080}]
      readinessProbe:
        httpGet: {path: /healthz, port: 1}
        periodSeconds: 1
`
