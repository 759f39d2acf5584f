package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestLayer2Service follows a Service from its creation to its end, as the LAN sees it, in either order of the families.
func TestLayer2Service(t *testing.T) {
	for _, tt := range []struct {
		name     string
		families []corev1.IPFamily
	}{
		{"l2-ipv4-first", []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}},
		{"l2-ipv6-first", []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := on(t)
			s.create(tt.name, scene.Families(corev1.IPFamilyPolicyRequireDualStack, tt.families...))
			o, ips := s.announced(tt.name)
			s.isAssigned(o, ips, "lan", "192.168.100.200-192.168.100.239", "fd00:100::200-fd00:100::23f")
			for _, ip := range ips {
				owner := s.owner(ip)
				// Two nodes may have begun at once; which of them goes on is known before it is reported.
				s.service(tt.name, "said to be at "+owner, func(o *corev1.Service) error {
					return says(scene.Condition(o, scene.Announced), protocol(ip)+" by "+owner+" on eth0")
				})
				for _, client := range []struct {
					name string
					get  func() error
				}{
					{"on the LAN", func() error { _, err := s.Get(t.Context(), s.Client, ip); return err }},
					{"behind the router", func() error { _, err := s.Get(t.Context(), s.FarClient, ip); return err }},
				} {
					if err := client.get(); err != nil {
						t.Errorf("client %s: %v", client.name, err)
					}
				}
			}
			s.hasEvents(tt.name, "AddressAssigned", ips)
			t.Run("released when it becomes a ClusterIP", func(t *testing.T) {
				s := on(t)
				s.becomesClusterIP(tt.name)
				s.nobody(ips...)
				s.hasEvents(tt.name, "AddressReleased", ips)
			})
		})
	}
}

// TestLayer2ServiceDeleted checks that nobody answers for a deleted Service's addresses, and that they are not given out again at once.
func TestLayer2ServiceDeleted(t *testing.T) {
	s := on(t)
	s.create("l2-deleted")
	_, ips := s.announced("l2-deleted")
	for _, ip := range ips {
		s.owner(ip)
	}
	s.must(s.remove(t.Context(), "l2-deleted"))
	s.nobody(ips...)
}

// TestBGPService is the same as the router sees it.
func TestBGPService(t *testing.T) {
	s := on(t)
	s.create("bgp", scene.FromPool("routed"))
	o, ips := s.announced("bgp")
	s.isAssigned(o, ips, "routed", "203.0.113.0/26", "2001:db8:113::/122")
	for _, ip := range ips {
		s.routed(ip, s.allNodes()...)
		if _, err := s.Get(t.Context(), s.FarClient, ip); err != nil {
			t.Error(err)
		}
	}
	s.service("bgp", "announced by all nodes to both routers", func(o *corev1.Service) error {
		return says(scene.Condition(o, scene.Announced), fmt.Sprintf("BGP by %d nodes", len(s.Nodes)))
	})
	t.Run("released when it becomes a ClusterIP", func(t *testing.T) {
		s := on(t)
		s.becomesClusterIP("bgp")
		for _, ip := range ips {
			s.routed(ip)
		}
	})
	t.Run("announced again, then deleted", func(t *testing.T) {
		s := on(t)
		_, err := s.Change(t.Context(), "bgp", func(o *corev1.Service) { o.Spec.Type = corev1.ServiceTypeLoadBalancer })
		s.must(err)
		_, ips := s.announced("bgp")
		s.routed(ips[0], s.allNodes()...)
		s.must(s.remove(t.Context(), "bgp"))
		for _, ip := range ips {
			s.routed(ip)
		}
	})
}

// isAssigned checks a Service's status against the contract: one address of each family, in the Service's order, as VIPs, of the pool.
func (s *stage) isAssigned(o *corev1.Service, ips []netip.Addr, pool string, ranges ...string) {
	s.t.Helper()
	for i, in := range o.Status.LoadBalancer.Ingress {
		if in.IPMode == nil || *in.IPMode != corev1.LoadBalancerIPModeVIP {
			s.t.Errorf("%s has ipMode %v, want VIP", in.IP, in.IPMode)
		}
		if family := o.Spec.IPFamilies[i]; (family == corev1.IPv4Protocol) != ips[i].Is4() {
			s.t.Errorf("ingress %d is %s, the Service's families are %v", i, ips[i], o.Spec.IPFamilies)
		}
		if err := inPool(ips[i], ranges...); err != nil {
			s.t.Error(err)
		}
	}
	allocated := scene.Condition(o, scene.Allocated)
	if allocated.Status != "True" || allocated.Reason != "Allocated" || allocated.ObservedGeneration != o.Generation {
		s.t.Errorf("%+v", allocated)
	}
	s.must(says(allocated, pool))
}

// hasEvents wants exactly one event of a reason for each address.
func (s *stage) hasEvents(service, reason string, ips []netip.Addr) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%d events %s", len(ips), reason), func(ctx context.Context) error {
		events, err := s.Events(ctx, service)
		if err != nil {
			return err
		}
		events = scene.WithReason(events, reason)
		for _, ip := range ips {
			n := 0
			for _, e := range events {
				if strings.Contains(e.Note+" ", ip.String()+" ") || strings.Contains(e.Note, ip.String()+":") {
					n++
				}
			}
			if n != 1 {
				return fmt.Errorf("%d events for %s: %+v", n, ip, events)
			}
		}
		return nil
	})
}

// becomesClusterIP changes a Service's type and waits until its status is clear of everything of ours.
func (s *stage) becomesClusterIP(name string) {
	s.t.Helper()
	_, err := s.Change(s.t.Context(), name, func(o *corev1.Service) {
		o.Spec.Type, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil
	})
	s.must(err)
	s.service(name, "released", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress) > 0 || len(o.Status.Conditions) > 0 {
			return fmt.Errorf("its status is %+v", o.Status)
		}
		return nil
	})
}

// protocol is how an address is announced on a LAN.
func protocol(ip netip.Addr) string {
	if ip.Is4() {
		return "ARP"
	}
	return "NDP"
}
