package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// Only who gets which address matters to the tests of assignment: their Services have no endpoints, and nobody announces their pools.
var (
	plain4 = scene.Families(corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol)
	plain6 = scene.Families(corev1.IPFamilyPolicySingleStack, corev1.IPv6Protocol)
)

// tenant is a namespace with its Services.
type tenant struct {
	*stage
	namespace string
}

// tenant makes a namespace that goes with the test; labels are pairs such as team=infra.
func (s *stage) tenant(namespace string, labels ...string) *tenant {
	s.t.Helper()
	all := make(map[string]string)
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		all[key] = value
	}
	namespaces := s.API.CoreV1().Namespaces()
	s.eventually("namespace "+namespace+" to be made", func(ctx context.Context) error { // one of an earlier run may be on its way out
		_, err := namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: all}}, metav1.CreateOptions{})
		return err
	})
	s.t.Cleanup(func() { s.must(namespaces.Delete(context.Background(), namespace, metav1.DeleteOptions{})) })
	return &tenant{s, namespace}
}

// home is the namespace default.
func (s *stage) home() *tenant { return &tenant{s, metav1.NamespaceDefault} }

// asks makes a Service without endpoints that goes with the test.
func (n *tenant) asks(name string, edits ...scene.Edit) {
	n.t.Helper()
	o := scene.Service(name, slices.Concat([]scene.Edit{scene.Selecting("")}, edits)...)
	o.Namespace = n.namespace
	services := n.API.CoreV1().Services(n.namespace)
	_, err := services.Create(n.t.Context(), o, metav1.CreateOptions{})
	n.must(err)
	n.t.Cleanup(func() {
		if err := services.Delete(context.Background(), name, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			n.must(err)
		}
	})
}

// goes deletes a Service.
func (n *tenant) goes(name string) {
	n.t.Helper()
	n.must(n.API.CoreV1().Services(n.namespace).Delete(n.t.Context(), name, metav1.DeleteOptions{}))
}

// changes edits a Service.
func (n *tenant) changes(name string, edit scene.Edit) {
	n.t.Helper()
	services := n.API.CoreV1().Services(n.namespace)
	n.eventually("Service "+name+" to take a change", func(ctx context.Context) error {
		o, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(o)
		_, err = services.Update(ctx, o, metav1.UpdateOptions{})
		return err
	})
}

// is waits until a Service is as wanted, and returns it.
func (n *tenant) is(name, what string, wanted func(*corev1.Service) error) *corev1.Service {
	n.t.Helper()
	var got *corev1.Service
	n.eventually("Service "+n.namespace+"/"+name+" to be "+what, func(ctx context.Context) (err error) {
		if got, err = n.API.CoreV1().Services(n.namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		return wanted(got)
	})
	return got
}

// gets waits until a Service has all its addresses, and returns them.
func (n *tenant) gets(name string) []netip.Addr {
	n.t.Helper()
	return n.ingress(n.is(name, "given its addresses", scene.Complete))
}

// has wants a Service to have these addresses, now or soon.
func (n *tenant) has(name string, addresses ...string) {
	n.t.Helper()
	n.is(name, "given "+strings.Join(addresses, ", "), func(o *corev1.Service) error {
		var have []string
		for _, i := range o.Status.LoadBalancer.Ingress {
			have = append(have, i.IP)
		}
		if !slices.Equal(have, addresses) {
			return errors.Join(fmt.Errorf("it has %v", have), scene.Complete(o))
		}
		return scene.Has(o, scene.Allocated, metav1.ConditionTrue, "Allocated")
	})
}

// lacks waits until a Service is refused for a reason, with these words, and has no address.
func (n *tenant) lacks(name, reason string, words ...string) {
	n.t.Helper()
	n.is(name, "refused: "+reason, func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress) > 0 {
			return fmt.Errorf("it has %+v", o.Status.LoadBalancer.Ingress)
		}
		return errors.Join(scene.Has(o, scene.Allocated, metav1.ConditionFalse, reason), says(scene.Condition(o, scene.Allocated), words...))
	})
}

// version is the resourceVersion of a Service, which changes with each write.
func (n *tenant) version(name string) string {
	n.t.Helper()
	o, err := n.API.CoreV1().Services(n.namespace).Get(n.t.Context(), name, metav1.GetOptions{})
	n.must(err)
	return o.ResourceVersion
}

// settled waits until what is announced of these Services of the namespace has been said, which comes after their addresses.
func (n *tenant) settled(names ...string) {
	n.t.Helper()
	for _, name := range names {
		n.is(name, "spoken of", func(o *corev1.Service) error {
			if len(o.Status.LoadBalancer.Ingress) > 0 && scene.Condition(o, scene.Announced).Status == "" {
				return errors.New("it is not said whether it is announced")
			}
			return nil
		})
	}
}

// told wants a Service of the namespace default to have had so many events of each reason, and no others about its addresses.
func (n *tenant) told(name string, want map[string]int) {
	n.t.Helper()
	n.eventually("the events about "+name, func(ctx context.Context) error {
		events, err := n.Events(ctx, name)
		if err != nil {
			return err
		}
		have := make(map[string]int)
		for _, e := range events {
			if e.Reason != "AnnouncementFailed" { // as nobody announces them
				have[e.Reason]++
			}
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			return fmt.Errorf("%v, want %v: %+v", have, want, events)
		}
		return nil
	})
}

// counted waits until a pool's counts of one family are these.
func (s *stage) counted(pool, family string, total, assigned, available int64) {
	s.t.Helper()
	s.eventually("the counts of pool "+pool, func(ctx context.Context) error {
		o, err := s.Objects(scene.Pools).Get(ctx, pool, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status, _ := o.Object["status"].(map[string]any)
		counts, _ := status[family].(map[string]any)
		if want := map[string]any{"total": total, "assigned": assigned, "available": available}; counts["total"] != want["total"] ||
			counts["assigned"] != want["assigned"] || counts["available"] != want["available"] {
			return fmt.Errorf("%v, want %v", counts, want)
		}
		return nil
	})
}

// poolOf is an IPAddressPool with this spec, in YAML's flow style.
func poolOf(name, spec string) string {
	return fmt.Sprintf("\n---\napiVersion: heraldlb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// reservation is an IPReservation; more is the rest of its spec.
func reservation(name, service, more string, addresses ...string) string {
	namespace, short, _ := strings.Cut(service, "/")
	return fmt.Sprintf("\n---\napiVersion: heraldlb.io/v1beta1\nkind: IPReservation\nmetadata: {name: %s}\nspec: {addresses: [%s], service: {namespace: %s, name: %s}%s}\n",
		name, quoted(addresses), namespace, short, more)
}

func wants(addresses string) scene.Edit { return scene.Annotate(scene.IPsAnnotation, addresses) }

func shares(key string) scene.Edit { return scene.Annotate("heraldlb.io/allow-shared-ip", key) }

// onPort replaces the Service's port.
func onPort(protocol corev1.Protocol, port int32) scene.Edit {
	return func(o *corev1.Service) {
		o.Spec.Ports = []corev1.ServicePort{{Name: "p", Protocol: protocol, Port: port}}
	}
}
