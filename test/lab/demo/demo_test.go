package demo

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/router"
)

func TestPrinter(t *testing.T) {
	var b strings.Builder
	p := newPrinter(&b)
	p.begin("first")
	p.say("evidence of %d\nlines", 2)
	p.command("kubectl", []string{"get", "it"}, "NAME\nx\n")
	fmt.Fprintln(p.lines(), "from another")
	p.end("first", "seen", nil)
	if err := p.summary(); err != nil {
		t.Errorf("all was seen: %v", err)
	}
	p.begin("second")
	p.end("second", "", errors.New("why\nand more"))
	if err := p.summary(); !errors.Is(err, errNotSeen) {
		t.Errorf("not all was seen: %v", err)
	}
	for _, want := range []string{
		"\n1. first\n   evidence of 2\n   lines\n   $ kubectl get it\n   NAME\n   x\n", "   from another\n", ": seen\n",
		"FAILED after", "  ✓  seen\n", "  ✗  not seen: second: why\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestIndenterSaysWhatItTook(t *testing.T) {
	if n, err := io.WriteString(indenter{io.Discard}, "a\nb\n"); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAssigned(t *testing.T) {
	for _, tt := range []struct {
		name string
		ips  []string
		want string
	}{
		{"none", nil, ""},
		{"one family", []string{"192.0.2.1"}, ""},
		{"both", []string{"192.0.2.1", "2001:db8::1"}, "[192.0.2.1 2001:db8::1]"},
		{"IPv6 first", []string{"2001:db8::1", "192.0.2.1"}, "[192.0.2.1 2001:db8::1]"},
		{"a name", []string{"", "192.0.2.1"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s corev1.Service
			for _, ip := range tt.ips {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
			got, err := assigned(&s)
			if (err == nil) != (tt.want != "") || (err == nil && fmt.Sprint(got) != tt.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestAnnouncedSaysWhy(t *testing.T) {
	s := &corev1.Service{}
	if err := announced(s); err == nil {
		t.Error("announced without a condition")
	}
	s.Status.Conditions = []metav1.Condition{{Type: condAnnounced, Status: metav1.ConditionFalse, Reason: "NoEligibleNode", Message: "because"}}
	if err := announced(s); err == nil || !strings.Contains(err.Error(), "NoEligibleNode: because") {
		t.Errorf("%v", err)
	}
	s.Status.Conditions[0].Status = metav1.ConditionTrue
	if err := announced(s); err != nil {
		t.Error(err)
	}
}

func TestWantRoutes(t *testing.T) {
	a := netip.MustParseAddr
	d := &demo{lab: &lab.Lab{}}
	for i := range 2 {
		d.lab.Nodes = append(d.lab.Nodes, &lab.Node{
			Name:      fmt.Sprintf("node-%d", i+1),
			Addresses: []netip.Addr{a(fmt.Sprintf("192.0.2.%d", i+1)), a(fmt.Sprintf("2001:db8::%d", i+1))},
		})
	}
	d.bgp.addresses = []netip.Addr{a("203.0.113.1"), a("2001:db8:113::1")}
	good := []router.Route{
		{Prefix: netip.MustParsePrefix("203.0.113.1/32"), NextHops: []netip.Addr{a("192.0.2.1"), a("192.0.2.2")}},
		{Prefix: netip.MustParsePrefix("2001:db8:113::1/128"), NextHops: []netip.Addr{a("2001:db8::1"), a("2001:db8::2")}},
	}
	if err := d.wantRoutes(good); err != nil {
		t.Error(err)
	}
	if got := d.nameHops(append(good[1].NextHops, a("192.0.2.9"))); got != " 2001:db8::1 (node-1) 2001:db8::2 (node-2) 192.0.2.9 (?)" {
		t.Errorf("%q", got)
	}
	for name, bad := range map[string][]router.Route{
		"none":        nil,
		"one family":  good[:1],
		"one too few": {good[0], {Prefix: good[1].Prefix, NextHops: good[1].NextHops[:1]}},
		"one more":    append(good[:2:2], router.Route{Prefix: netip.MustParsePrefix("203.0.113.2/32")}),
		"wider":       {{Prefix: netip.MustParsePrefix("203.0.113.0/24"), NextHops: good[0].NextHops}, good[1]},
	} {
		if err := d.wantRoutes(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestManifests checks that what the demonstration applies is what the API types know, in the laboratory's addresses and numbers.
func TestManifests(t *testing.T) {
	var v struct {
		Config struct {
			IPAddressPools []struct {
				Name string
				Spec v1beta1.IPAddressPoolSpec
			}
			L2Advertisements []struct {
				Name string
				Spec v1beta1.L2AdvertisementSpec
			}
			BGPPeers []struct {
				Name string
				Spec v1beta1.BGPPeerSpec
			} `json:"bgpPeers"`
			BGPAdvertisements []struct {
				Name string
				Spec v1beta1.BGPAdvertisementSpec
			} `json:"bgpAdvertisements"`
		}
	}
	if err := yaml.UnmarshalStrict([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	var pools []string
	for _, p := range v.Config.IPAddressPools {
		pools = append(pools, p.Name)
	}
	advertised := append(v.Config.L2Advertisements[0].Spec.IPAddressPools, v.Config.BGPAdvertisements[0].Spec.IPAddressPools...)
	if diff := cmp.Diff(pools, advertised); diff != "" {
		t.Errorf("pools and advertisements: %s", diff)
	}
	for _, p := range v.Config.BGPPeers {
		if p.Spec.MyASN != lab.NodeASN || p.Spec.PeerASN != lab.RouterASN {
			t.Errorf("peer %s: %d to %d", p.Name, p.Spec.MyASN, p.Spec.PeerASN)
		}
	}
	for _, text := range []string{serviceL2, serviceBGP} {
		var s corev1.Service
		if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil || s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			t.Errorf("%v: %s", err, text)
		}
	}
}
