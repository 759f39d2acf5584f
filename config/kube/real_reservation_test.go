package kube

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
)

func reservation(s *Source, name string) *config.Reservation {
	for _, r := range s.Snapshot().Reservations {
		if r.Name == name {
			return r
		}
	}
	return nil
}

// testReservations is about reservations that Herald makes and people make, and what decides who may have which addresses.
func testReservations(t *testing.T, s *apiServer) {
	c := s.client(adminToken)
	src := s.source(t, c, SourceOptions{Role: Controller})
	w := NewWriter(c, src)
	ctx := context.Background()
	web := config.Key{Namespace: "default", Name: "kept"}
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	r := Retention{Service: web, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, Until: soon.Add(300 * time.Millisecond)}
	if err := w.Retain(ctx, r); err != nil {
		t.Fatal(err)
	}
	name := RetentionName(web)
	made := reservation(src, name) // without waiting: a write is read at once
	if made == nil || !made.Retained || made.Expired || made.Service != web || !slices.Equal(made.Addresses, r.Addresses) || !made.ExpiresAt.Equal(soon) {
		t.Fatalf("made %+v", made)
	}
	version := func() string {
		return s.kubectl("", "get", "ipreservation", name, "-o", "jsonpath={.metadata.resourceVersion}")
	}

	t.Run("the same again writes nothing", func(t *testing.T) {
		before := version()
		if err := w.Retain(ctx, r); err != nil || version() != before {
			t.Errorf("%v, version %s became %s", err, before, version())
		}
	})
	t.Run("a condition", func(t *testing.T) {
		if err := w.WriteReady(ctx, config.Ref{Kind: parse.KindReservation, Name: name}, 1, config.Condition{Status: "True", Reason: "Ready"}); err != nil {
			t.Fatal(err)
		}
		if got := s.kubectl("", "get", "ipreservations", "--no-headers"); !strings.Contains(got, "True") || !strings.Contains(got, "192.0.2.7") || !strings.Contains(got, "kept") {
			t.Errorf("kubectl prints %q", got)
		}
	})
	t.Run("renewed with fewer addresses", func(t *testing.T) {
		again := Retention{Service: web, Addresses: r.Addresses[:1], Until: soon.Add(time.Hour)}
		if err := w.Retain(ctx, again); err != nil {
			t.Fatal(err)
		}
		if got := reservation(src, name); got.UID != made.UID || !slices.Equal(got.Addresses, again.Addresses) || !got.ExpiresAt.Equal(again.Until) {
			t.Errorf("renewed to %+v", got)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		if err := w.DeleteReservation(ctx, name, "another"); err != nil || reservation(src, name) == nil {
			t.Fatalf("%v: another object's deletion took this one", err)
		}
		eventually(t, "the deletion with the newest version", func() bool { return w.DeleteReservation(ctx, name, made.UID) == nil })
		if got := reservation(src, name); got != nil {
			t.Errorf("still there: %+v", got)
		}
		if err := w.DeleteReservation(ctx, name, made.UID); err != nil {
			t.Errorf("deleting it twice: %v", err)
		}
	})
	t.Run("somebody else's", func(t *testing.T) {
		s.apply(`{apiVersion: heraldlb.io/v1beta1, kind: IPReservation, metadata: {name: ` + name + `}, spec: {addresses: [192.0.2.9], service: {namespace: a, name: b}}}`)
		eventually(t, "the reservation", func() bool { return reservation(src, name) != nil })
		theirs := reservation(src, name)
		if err := w.Retain(ctx, r); err == nil || !strings.Contains(err.Error(), "rename it") {
			t.Errorf("Retain: %v", err)
		}
		if err := w.DeleteReservation(ctx, name, theirs.UID); err == nil {
			t.Error("it was deleted")
		}
		if got := reservation(src, name); got != theirs {
			t.Errorf("it became %+v", got)
		}
		s.kubectl("", "delete", "ipreservation", name)
		eventually(t, "its end", func() bool { return reservation(src, name) == nil })
	})
	t.Run("a later end than the clock says", func(t *testing.T) {
		if err := w.Retain(ctx, Retention{Service: web, Addresses: r.Addresses, Until: time.Now().Add(1500 * time.Millisecond)}); err != nil {
			t.Fatal(err)
		}
		for len(src.Changed()) > 0 {
			<-src.Changed()
		}
		if reservation(src, name).Expired {
			t.Skip("this machine is too slow for the question")
		}
		<-src.Changed() // also without anything else that changes
		eventually(t, "its expiry", func() bool { return reservation(src, name).Expired })
		if err := w.DeleteReservation(ctx, name, reservation(src, name).UID); err != nil {
			t.Error(err)
		}
	})
	t.Run("namespaces and ClusterIPs", func(t *testing.T) { testAllocation(t, s, src) })
}

func testAllocation(t *testing.T, s *apiServer, src *Source) {
	want := []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}
	eventually(t, "the ServiceCIDRs", func() bool {
		return cmp.Equal(want, src.Snapshot().ServiceCIDRs, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
	})
	s.apply(`{apiVersion: heraldlb.io/v1beta1, kind: IPAddressPool, metadata: {name: scoped}, spec: {addresses: [10.96.7.0/24], exclude: [10.96.7.0/30], serviceAllocation: {namespaceSelectors: [{matchLabels: {team: infra}}]}}}`)
	defer s.kubectl("", "delete", "ipaddresspool", "scoped")
	s.apply(service("scoped", ""))
	defer s.kubectl("", "delete", "service", "scoped")
	seen(t, src, "scoped")
	admitted := func() []string { return find(src, "scoped").Admitted }
	eventually(t, "the pool", func() bool {
		return slices.ContainsFunc(src.Snapshot().Pools, func(p *config.Pool) bool { return p.Scoped })
	})
	if find(src, "scoped").Waiting || admitted() != nil {
		t.Errorf("%+v", find(src, "scoped"))
	}
	if !slices.ContainsFunc(src.Snapshot().Problems, func(p config.Problem) bool { return p.Name == "scoped" && p.Reason == parse.ServiceCIDR && p.Warning }) {
		t.Errorf("no warning of the ServiceCIDR: %+v", src.Snapshot().Problems)
	}
	s.kubectl("", "label", "namespace", "default", "team=infra")
	eventually(t, "the label's effect", func() bool { return slices.Equal(admitted(), []string{"scoped"}) })
	s.kubectl("", "label", "namespace", "default", "team-")
	eventually(t, "the label's end", func() bool { return admitted() == nil })
}
