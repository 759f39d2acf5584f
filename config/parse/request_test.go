package parse

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
)

func TestRequest(t *testing.T) {
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	dual := []corev1.IPFamily{v4, v6}
	tests := []struct {
		name        string
		annotations map[string]string
		ip          string // spec.loadBalancerIP
		families    []corev1.IPFamily
		pools       string
		addresses   string
		invalid     string // part of the reason
	}{
		{name: "nothing", families: dual},
		{name: "pool", annotations: map[string]string{"heraldlb.io/address-pool": "gold"}, families: dual, pools: "gold"},
		{name: "two pools, spaces", annotations: map[string]string{"heraldlb.io/address-pool": " four , six "}, families: dual, pools: "four, six"},
		{name: "one pool twice", annotations: map[string]string{"heraldlb.io/address-pool": "four,four"}, families: dual, pools: "four"},
		{name: "three pools", annotations: map[string]string{"heraldlb.io/address-pool": "a,b,c"}, families: dual, invalid: "names 3 pools"},
		{name: "metallb.io", annotations: map[string]string{"metallb.io/address-pool": "gold", "metallb.io/loadBalancerIPs": "192.0.2.1"}, families: dual, pools: "gold", addresses: "192.0.2.1"},
		{name: "metallb.universe.tf", annotations: map[string]string{"metallb.universe.tf/address-pool": "gold"}, families: dual, pools: "gold"},
		{name: "order of domains", annotations: map[string]string{"metallb.universe.tf/address-pool": "c", "metallb.io/address-pool": "b", "heraldlb.io/address-pool": "a"}, families: dual, pools: "a"},
		{name: "empty wins too", annotations: map[string]string{"metallb.io/address-pool": "b", "heraldlb.io/address-pool": ""}, families: dual},
		{name: "each annotation by itself", annotations: map[string]string{"metallb.io/address-pool": "b", "heraldlb.io/loadBalancerIPs": "192.0.2.1"}, families: dual, pools: "b", addresses: "192.0.2.1"},

		{name: "address", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.1"}, families: []corev1.IPFamily{v4}, addresses: "192.0.2.1"},
		{name: "two, in the order of families", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "2001:DB8::1, 192.0.2.1"}, families: dual, addresses: "192.0.2.1, 2001:db8::1"},
		{name: "IPv6 first", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.1,2001:db8::1"}, families: []corev1.IPFamily{v6, v4}, addresses: "2001:db8::1, 192.0.2.1"},
		{name: "same twice", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.1,192.0.2.1"}, families: dual, addresses: "192.0.2.1"},
		{name: "two of one family", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.1,192.0.2.2"}, families: dual, invalid: "one family (IPv4)"},
		{name: "three", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.1,2001:db8::1,2001:db8::2"}, families: dual, invalid: "one family (IPv6)"},
		{name: "not a family of the Service", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "2001:db8::1"}, families: []corev1.IPFamily{v4}, invalid: "the Service has no IPv6: spec.ipFamilies is IPv4"},
		{name: "not an address", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.300"}, families: dual, invalid: `annotation loadBalancerIPs: "192.0.2.300" is not an IP address`},
		{name: "mapped", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "::ffff:192.0.2.1"}, families: dual, invalid: "write 192.0.2.1"},
		{name: "zone", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "fe80::1%eth0"}, families: dual, invalid: "zone"},
		{name: "leading zeros", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.01"}, families: dual, invalid: "not an IP address"},
		{name: "commas only", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": " , ,"}, families: dual},

		{name: "spec", ip: "192.0.2.1", families: dual, addresses: "192.0.2.1"},
		{name: "spec is no address", ip: "x", families: dual, invalid: `spec.loadBalancerIP: "x" is not`},
		{name: "spec of the other family", ip: "192.0.2.1", families: []corev1.IPFamily{v6}, invalid: "no IPv4"},
		{name: "both equal", ip: "2001:db8::1", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "2001:DB8:0::1"}, families: dual, addresses: "2001:db8::1"},
		{name: "both, different", ip: "192.0.2.2", annotations: map[string]string{"metallb.io/loadBalancerIPs": "192.0.2.1"}, families: dual, invalid: "asks for 192.0.2.1 but spec.loadBalancerIP for 192.0.2.2"},
		{name: "annotation has more", ip: "192.0.2.1", annotations: map[string]string{"heraldlb.io/loadBalancerIPs": "192.0.2.1,2001:db8::1"}, families: dual, invalid: "remove one of the two"},
		{name: "invalid empties all", annotations: map[string]string{"heraldlb.io/address-pool": "gold", "heraldlb.io/loadBalancerIPs": "x"}, families: dual, invalid: "not an IP address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := parseService(&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Annotations: tt.annotations},
				Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: tt.families, LoadBalancerIP: tt.ip},
			})
			got := s.Request
			if tt.invalid != "" {
				if !strings.Contains(got.Invalid, tt.invalid) || got.Pools != nil || got.Addresses != nil {
					t.Fatalf("got %+v, want it invalid for %q and nothing else", got, tt.invalid)
				}
				return
			}
			if got.Invalid != "" || join(got.Addresses) != tt.addresses || strings.Join(got.Pools, ", ") != tt.pools {
				t.Errorf("got %+v, want pools %q, addresses %q", got, tt.pools, tt.addresses)
			}
		})
	}
}

func TestSharingAndBackend(t *testing.T) {
	make := func(ns string, selector, annotations map[string]string) *config.Service {
		return parseService(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "x", Annotations: annotations},
			Spec:       corev1.ServiceSpec{Selector: selector},
		})
	}
	if got := make("a", nil, map[string]string{"metallb.universe.tf/allow-shared-ip": "k"}); got.SharingKey != "k" || got.Backend != "" {
		t.Errorf("got %+v", got)
	}
	one := make("a", map[string]string{"x": "1", "y": "2"}, nil).Backend
	if same := make("a", map[string]string{"y": "2", "x": "1"}, nil).Backend; same != one {
		t.Errorf("equal selectors give %q and %q", one, same)
	}
	for _, other := range []string{make("b", map[string]string{"x": "1", "y": "2"}, nil).Backend, make("a", map[string]string{"x": "1"}, nil).Backend} {
		if other == one {
			t.Errorf("different backends give the same %q", one)
		}
	}
}

// FuzzRequest: whatever people write, the request is either invalid and empty, or within its limits.
func FuzzRequest(f *testing.F) {
	f.Add("gold", "192.0.2.1,2001:db8::1", "", uint8(2))
	f.Add("a,b,c", "192.0.2.1,192.0.2.2", "192.0.2.1", uint8(0))
	f.Add(",", "::ffff:192.0.2.1", "fe80::1%eth0", uint8(1))
	f.Fuzz(func(t *testing.T, pools, addresses, ip string, fams uint8) {
		families := [][]corev1.IPFamily{{"IPv4"}, {"IPv6"}, {"IPv4", "IPv6"}, {"IPv6", "IPv4"}}[fams%4]
		s := parseService(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"heraldlb.io/address-pool": pools, "metallb.io/loadBalancerIPs": addresses}},
			Spec:       corev1.ServiceSpec{IPFamilies: families, LoadBalancerIP: ip},
		})
		r := s.Request
		if r.Invalid != "" {
			if diff := cmp.Diff(config.Request{Invalid: r.Invalid}, r); diff != "" {
				t.Fatalf("an invalid request asks for something:\n%s", diff)
			}
			return
		}
		if len(r.Pools) > 2 || len(r.Addresses) > len(s.Families) {
			t.Fatalf("too much: %+v", r)
		}
		next := 0 // addresses stand in the order of families, one of each at most
		for _, a := range r.Addresses {
			if a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%v has two spellings", a)
			}
			for next < len(s.Families) && s.Families[next] != config.FamilyOf(a) {
				next++
			}
			if next++; next > len(s.Families) {
				t.Fatalf("%v for families %v", r.Addresses, s.Families)
			}
		}
	})
}
