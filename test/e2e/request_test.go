package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// request is what a Service asks for, and what becomes of it.
type request struct {
	name   string
	edits  []scene.Edit
	want   []string // addresses, or prefixes that they are in; in the order of the status
	refuse string   // the reason, if it is refused
	says   []string // words of the condition's message
}

func loadBalancerIP(ip string) scene.Edit {
	return func(o *corev1.Service) { o.Spec.LoadBalancerIP = ip }
}

func class(name string) scene.Edit {
	return func(o *corev1.Service) { o.Spec.LoadBalancerClass = &name }
}

func requests() []request {
	v4, v6 := scene.SingleStack(corev1.IPv4Protocol), scene.SingleStack(corev1.IPv6Protocol)
	addresses := func(list string) scene.Edit { return scene.Annotate(scene.IPsAnnotation, list) }
	return []request{
		{name: "address", edits: []scene.Edit{v4, addresses("192.168.100.225")}, want: []string{"192.168.100.225/32"}, says: []string{"lan"}},
		{name: "addresses of two families", edits: []scene.Edit{addresses("fd00:100::226, 192.168.100.226")}, want: []string{"192.168.100.226/32", "fd00:100::226/128"}},
		{name: "addresses of two pools", edits: []scene.Edit{addresses("203.0.113.40,fd00:100::227")}, want: []string{"203.0.113.40/32", "fd00:100::227/128"}, says: []string{"routed", "lan"}},
		{name: "address of a pool on request only", edits: []scene.Edit{v6, addresses("2001:db8:113::28")}, want: []string{"2001:db8:113::28/128"}},
		{name: "spec", edits: []scene.Edit{v4, loadBalancerIP("192.168.100.228")}, want: []string{"192.168.100.228/32"}},
		{name: "spec and annotation agree", edits: []scene.Edit{v4, loadBalancerIP("192.168.100.229"), addresses("192.168.100.229")}, want: []string{"192.168.100.229/32"}},
		{name: "spec and annotation disagree", edits: []scene.Edit{v4, loadBalancerIP("192.168.100.221"), addresses("192.168.100.222")}, refuse: "InvalidRequest", says: []string{"192.168.100.221", "192.168.100.222"}},
		{name: "two of one family", edits: []scene.Edit{addresses("192.168.100.221,192.168.100.222")}, refuse: "InvalidRequest", says: []string{"192.168.100.221"}},
		{name: "a family that the Service has not", edits: []scene.Edit{v4, addresses("fd00:100::22a")}, refuse: "InvalidRequest", says: []string{"IPv6"}},
		{name: "no address", edits: []scene.Edit{v4, addresses("router.example.com")}, refuse: "InvalidRequest", says: []string{"router.example.com"}},
		{name: "address of no pool", edits: []scene.Edit{v4, addresses("198.51.100.1")}, refuse: "AddressNotInPool", says: []string{"198.51.100.1"}},
		{name: "pool", edits: []scene.Edit{scene.FromPool("routed")}, want: []string{"203.0.113.0/26", "2001:db8:113::/122"}},
		{name: "two pools", edits: []scene.Edit{scene.FromPool("routed,many")}, want: []string{"203.0.113.0/26", "2001:db8:113::/122"}},
		{name: "pool that is not there", edits: []scene.Edit{v4, scene.FromPool("nosuch")}, refuse: "NoPool", says: []string{"nosuch"}},
		{name: "address and another pool", edits: []scene.Edit{v4, scene.FromPool("routed"), addresses("192.168.100.223")}, refuse: "AddressNotInPool", says: []string{"192.168.100.223", "routed"}},
		{name: "no request", edits: []scene.Edit{}, want: []string{"192.168.100.192/26", "fd00:100::/64"}},
		{name: "metallb.io pool", edits: []scene.Edit{v4, scene.Annotate("metallb.io/address-pool", "routed")}, want: []string{"203.0.113.0/26"}},
		{name: "metallb.universe.tf address", edits: []scene.Edit{v4, scene.Annotate("metallb.universe.tf/loadBalancerIPs", "192.168.100.224")}, want: []string{"192.168.100.224/32"}},
		{name: "heraldlb.io before metallb.io", edits: []scene.Edit{v4, scene.FromPool("lan"), scene.Annotate("metallb.io/address-pool", "routed")}, want: []string{"192.168.100.192/26"}},
		{name: "dual stack preferred", edits: []scene.Edit{scene.Families(corev1.IPFamilyPolicyPreferDualStack)}, want: []string{"192.168.100.192/26", "fd00:100::/64"}},
		{name: "single stack in a pool of both", edits: []scene.Edit{v6}, want: []string{"fd00:100::/64"}},
	}
}

// TestRequests asks for addresses and pools in all the ways there are.
func TestRequests(t *testing.T) {
	s := on(t)
	all := requests()
	for i, r := range all {
		s.create(fmt.Sprintf("request-%d", i), r.edits...)
	}
	for i, r := range all {
		t.Run(r.name, func(t *testing.T) {
			s := on(t)
			name := fmt.Sprintf("request-%d", i)
			if r.refuse != "" {
				s.refused(name, r.refuse, r.says...)
				return
			}
			ips := s.withAddress(name)
			if len(ips) != len(r.want) {
				t.Fatalf("got %v, want %v", ips, r.want)
			}
			for i, want := range r.want {
				s.must(inPool(ips[i], want))
			}
			s.service(name, "described", func(o *corev1.Service) error { return says(scene.Condition(o, scene.Allocated), r.says...) })
		})
	}
}

// TestForeignClass checks that Services of another class are never touched, whatever becomes of them.
func TestForeignClass(t *testing.T) {
	s := on(t)
	s.create("foreign", class("example.com/other"), scene.SingleStack(corev1.IPv4Protocol))
	s.create("ours", scene.SingleStack(corev1.IPv4Protocol))
	s.announced("ours") // by now the other would have its address too
	o, err := s.Services().Get(t.Context(), "foreign", metav1.GetOptions{})
	s.must(err)
	o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}, {IP: "192.168.100.201"}}
	o, err = s.Services().UpdateStatus(t.Context(), o, metav1.UpdateOptions{})
	s.must(err)
	s.stays("a Service of another class", quiet, func(ctx context.Context) error {
		now, err := s.Services().Get(ctx, "foreign", metav1.GetOptions{})
		if err == nil && now.ResourceVersion != o.ResourceVersion {
			err = fmt.Errorf("its status has become %+v", now.Status)
		}
		return err
	})
}

// TestPreferDualStackGrows gives a Service that prefers both families a pool of one, and the other later: the first stays as it is.
func TestPreferDualStackGrows(t *testing.T) {
	s := on(t)
	s.apply(pool("growing", "192.168.100.248"), "ipaddresspool/growing")
	s.create("prefers", scene.Families(corev1.IPFamilyPolicyPreferDualStack), scene.FromPool("growing"))
	s.create("requires", scene.Families(corev1.IPFamilyPolicyRequireDualStack), scene.FromPool("growing"))
	var first netip.Addr
	s.service("prefers", "given the one there is", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress) != 1 {
			return scene.Complete(o)
		}
		first = netip.MustParseAddr(o.Status.LoadBalancer.Ingress[0].IP)
		return nil
	})
	s.service("requires", "refused", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Errorf("it has %+v", o.Status.LoadBalancer.Ingress)
		}
		return errors.Join(says(scene.Condition(o, scene.Allocated), "growing"))
	})
	s.must(s.Apply(t.Context(), pool("growing", "192.168.100.248-192.168.100.249", "fd00:100::248-fd00:100::249")))
	if ips := s.withAddress("prefers"); ips[0] != first || !ips[1].Is6() {
		t.Errorf("it had %s and has %v", first, ips)
	}
	s.withAddress("requires")
}

// TestAddressTaken asks for an address that another Service holds; it is given as soon as that one goes.
func TestAddressTaken(t *testing.T) {
	s := on(t)
	wish := []scene.Edit{scene.SingleStack(corev1.IPv4Protocol), scene.Annotate(scene.IPsAnnotation, "192.168.100.220")}
	s.create("holder", wish...)
	s.withAddress("holder")
	s.create("waiter", wish...)
	s.refused("waiter", "AddressInUse", "default/holder")
	began := time.Now()
	s.must(s.remove(t.Context(), "holder"))
	s.withAddress("waiter")
	t.Logf("the address was given on after %s", time.Since(began).Round(time.Millisecond))
}
