package scene

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/typed/core/v1"
)

// What the contract calls things.
const (
	Allocated       = "heraldlb.io/Allocated"
	Announced       = "heraldlb.io/Announced"
	PoolAnnotation  = "heraldlb.io/address-pool"
	IPsAnnotation   = "heraldlb.io/loadBalancerIPs"
	httpPort        = 80
	backendPort     = "http"
	backendNumber   = 8080
	defaultSelector = "web"
)

// Edit changes a Service before it is created or updated.
type Edit = func(*corev1.Service)

// Service returns a Service of type LoadBalancer in both families in front of the web servers, changed by the edits.
func Service(name string, edits ...Edit) *corev1.Service {
	dual := corev1.IPFamilyPolicyRequireDualStack
	no := false
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			IPFamilyPolicy:                &dual,
			Selector:                      map[string]string{"app": defaultSelector},
			AllocateLoadBalancerNodePorts: &no,
			Ports:                         []corev1.ServicePort{{Name: "http", Port: httpPort, TargetPort: intstr.FromString(backendPort)}},
		},
	}
	for _, edit := range edits {
		edit(s)
	}
	return s
}

// Annotate sets an annotation.
func Annotate(key, value string) Edit {
	return func(s *corev1.Service) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[key] = value
	}
}

// FromPool asks for a pool.
func FromPool(name string) Edit { return Annotate(PoolAnnotation, name) }

// Families sets the policy and the families in their order.
func Families(policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) Edit {
	return func(s *corev1.Service) { s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &policy, families }
}

// SingleStack wants one address, of this family.
func SingleStack(family corev1.IPFamily) Edit {
	return Families(corev1.IPFamilyPolicySingleStack, family)
}

// Local sets externalTrafficPolicy: Local.
func Local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// Selecting replaces the selector's app; "" leaves the Service without a selector, for endpoints made by hand.
func Selecting(app string) Edit {
	return func(s *corev1.Service) {
		s.Spec.Selector = nil
		if app != "" {
			s.Spec.Selector = map[string]string{"app": app}
		}
	}
}

// Services is the API of the Services in the namespace default, where the suites put theirs.
func (s *Scene) Services() v1.ServiceInterface {
	return s.API.CoreV1().Services(metav1.NamespaceDefault)
}

// Ingress reads the addresses in a Service's status, in their order.
func Ingress(s *corev1.Service) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(in.IP)
		if err != nil {
			return nil, fmt.Errorf("Service %s has %+v in its status: %w", s.Name, in, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// Condition returns one of a Service's conditions; the zero value when it is absent.
func Condition(s *corev1.Service, kind string) metav1.Condition {
	for _, c := range s.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// Complete returns nil when a Service has as many addresses as families.
func Complete(s *corev1.Service) error {
	if len(s.Status.LoadBalancer.Ingress) == len(s.Spec.IPFamilies) && len(s.Spec.IPFamilies) > 0 {
		return nil
	}
	c := Condition(s, Allocated)
	return fmt.Errorf("Service %s has %+v for its families %v; %s=%s: %s: %s",
		s.Name, s.Status.LoadBalancer.Ingress, s.Spec.IPFamilies, Allocated, c.Status, c.Reason, c.Message)
}

// Has returns nil when a condition of the Service has this status and reason.
func Has(s *corev1.Service, kind string, status metav1.ConditionStatus, reason string) error {
	if c := Condition(s, kind); c.Status != status || c.Reason != reason {
		return fmt.Errorf("Service %s: %s=%s: %s: %s; want %s: %s", s.Name, kind, c.Status, c.Reason, c.Message, status, reason)
	}
	return nil
}

// IsAnnounced returns nil when a Service has all its addresses and is announced.
func IsAnnounced(s *corev1.Service) error {
	return errors.Join(Complete(s), Has(s, Announced, metav1.ConditionTrue, "Announced"))
}

// Change fetches a Service, edits it, and updates it.
func (s *Scene) Change(ctx context.Context, name string, edit Edit) (*corev1.Service, error) {
	var changed *corev1.Service
	err := s.Wait(ctx, "Service "+name+" to take a change", func(ctx context.Context) error {
		o, err := s.Services().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(o)
		changed, err = s.Services().Update(ctx, o, metav1.UpdateOptions{})
		return err
	})
	return changed, err
}

// SetEndpoints gives a Service without a selector a ready endpoint on each of the nodes: a Pod of the web Deployment there. It
// replaces those it had.
func (s *Scene) SetEndpoints(ctx context.Context, service string, nodes ...string) error {
	pods, err := s.API.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "app=" + defaultSelector})
	if err != nil {
		return err
	}
	ready := true
	var endpoints []discoveryv1.Endpoint
	for _, node := range nodes {
		pod := podOn(pods.Items, node)
		if pod == nil {
			return fmt.Errorf("no web server runs on %s", node)
		}
		endpoints = append(endpoints, discoveryv1.Endpoint{
			Addresses: []string{pod.Status.PodIP}, NodeName: &pod.Spec.NodeName, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	number, name := int32(backendNumber), "http"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service + "-by-hand", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "herald-e2e"},
		},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
	}
	return s.putSlice(ctx, slice)
}

func (s *Scene) putSlice(ctx context.Context, slice *discoveryv1.EndpointSlice) error {
	api := s.API.DiscoveryV1().EndpointSlices(slice.Namespace)
	old, err := api.Get(ctx, slice.Name, metav1.GetOptions{})
	if err != nil {
		_, err = api.Create(ctx, slice, metav1.CreateOptions{})
		return err
	}
	old.Endpoints = slice.Endpoints
	_, err = api.Update(ctx, old, metav1.UpdateOptions{})
	return err
}

func podOn(pods []corev1.Pod, node string) *corev1.Pod {
	for i := range pods {
		if p := &pods[i]; p.Spec.NodeName == node && p.Status.PodIP != "" && p.DeletionTimestamp == nil {
			return p
		}
	}
	return nil
}
