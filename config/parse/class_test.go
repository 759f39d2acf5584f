package parse

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestClass: which Services are ours, by their type and class and by the class that we serve; what happens to the others is not seen.
func TestClass(t *testing.T) {
	none, empty, same, other := (*string)(nil), new(string), new(string), new(string)
	*same, *other = "example.com/lb", "example.com/other"
	for _, tt := range []struct {
		kind  corev1.ServiceType
		class *string
		flag  string
		ours  bool
	}{
		{corev1.ServiceTypeLoadBalancer, none, "", true},
		{corev1.ServiceTypeLoadBalancer, empty, "", true},
		{corev1.ServiceTypeLoadBalancer, same, "", false},
		{corev1.ServiceTypeLoadBalancer, none, *same, false},
		{corev1.ServiceTypeLoadBalancer, empty, *same, false},
		{corev1.ServiceTypeLoadBalancer, same, *same, true},
		{corev1.ServiceTypeLoadBalancer, other, *same, false},
		{corev1.ServiceTypeClusterIP, none, "", false},
		{corev1.ServiceTypeNodePort, same, *same, false},
		{corev1.ServiceTypeExternalName, none, "", false},
	} {
		o := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "u", ResourceVersion: "1"},
			Spec:       corev1.ServiceSpec{Type: tt.kind, LoadBalancerClass: tt.class, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}},
			Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}},
		}
		in := Objects{Services: []*corev1.Service{o}, Options: Options{LoadBalancerClass: tt.flag}}
		snap, memory := Parse(in, Memory{})
		if ours := len(snap.Services) == 1; ours != tt.ours || len(snap.Released) > 0 {
			t.Errorf("type %s class %v, serving %q: ours %t, want %t; released %v", tt.kind, tt.class, tt.flag, ours, tt.ours, snap.Released)
		}
		if tt.ours {
			continue
		}
		in.Services = nil // somebody else's Service goes
		if snap, _ := Parse(in, memory); len(snap.Services)+len(snap.Released) > 0 {
			t.Errorf("type %s class %v, serving %q: gone, and it leaves %v, %v", tt.kind, tt.class, tt.flag, snap.Services, snap.Released)
		}
	}
}
