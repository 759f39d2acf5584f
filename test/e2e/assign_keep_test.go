package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// reservations is the plural of IPReservation.
const reservations = "ipreservations"

// TestAssignReservation: what is reserved goes to no other Service, and to the one it is for when it asks for nothing else; when the
// reservation ends, anybody may have it.
func TestAssignReservation(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-reserve", `addresses: ["10.77.12.0/30", "fd00:77:12::/126"], autoAssign: false`)+
		reservation("assign-for-web", "default/reserved-web", "", "10.77.12.0", "fd00:77:12::2")+
		reservation("assign-ends", "default/nobody", "", "10.77.12.3"),
		"ipreservation/assign-for-web", "ipreservation/assign-ends", "ipaddresspool/assign-reserve")
	s.judged(reservations, "assign-for-web", metav1.ConditionTrue, "")
	s.judged(reservations, "assign-ends", metav1.ConditionTrue, "")
	from := scene.FromPool("assign-reserve")
	n.asks("reserved-any", plain4, from)
	n.has("reserved-any", "10.77.12.1")
	n.asks("reserved-thief", plain4, wants("10.77.12.0"))
	n.lacks("reserved-thief", "AddressReserved", "10.77.12.0", "default/reserved-web", "assign-for-web")
	n.asks("reserved-late", plain4, wants("10.77.12.3"))
	n.lacks("reserved-late", "AddressReserved", "10.77.12.3", "default/nobody", "assign-ends")
	n.asks("reserved-web", scene.Families(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol)) // not even the pool is asked for
	n.has("reserved-web", "fd00:77:12::2", "10.77.12.0")

	end := time.Now().Add(3 * time.Second).Truncate(time.Second)
	s.must(s.Apply(t.Context(), reservation("assign-ends", "default/nobody", ", expiresAt: \""+end.UTC().Format(time.RFC3339)+"\"", "10.77.12.3")))
	n.has("reserved-late", "10.77.12.3") // the time comes, without anything else happening
	if now := time.Now(); now.Before(end) {
		t.Errorf("the reserved address was given at %s, before %s", now, end)
	}
	s.judged(reservations, "assign-ends", metav1.ConditionFalse, "Expired", "has ended")

	s.apply(reservation("assign-again", "default/other", "", "10.77.12.0"), "ipreservation/assign-again")
	s.judged(reservations, "assign-again", metav1.ConditionFalse, "AddressReserved", "assign-for-web")
}

// TestAssignRetain: the addresses of a Service that goes are kept for one of the same name, also across the death of the controller, and
// come free when the time is over.
func TestAssignRetain(t *testing.T) {
	s := on(t)
	n := s.home()
	t.Cleanup(s.noneKept) // what is kept of the Services that go with the test
	s.apply(poolOf("assign-retain", `addresses: ["10.77.13.0/31"], autoAssign: false, retainFor: 1h`)+
		poolOf("assign-brief", `addresses: ["10.77.13.8/32"], autoAssign: false, retainFor: 15s`),
		"ipaddresspool/assign-retain", "ipaddresspool/assign-brief")
	from, brief := scene.FromPool("assign-retain"), scene.FromPool("assign-brief")
	n.asks("retain-web", plain4, from)
	n.has("retain-web", "10.77.13.0")
	n.asks("retain-brief", plain4, brief)
	n.has("retain-brief", "10.77.13.8")
	n.goes("retain-web")
	gone := time.Now() // at the earliest
	n.goes("retain-brief")
	n.asks("retain-waits", plain4, brief)
	s.kept("10.77.13.0", true)
	s.kept("10.77.13.8", true) // from here on it survives the controller

	pods := s.controllers()
	for _, pod := range pods {
		s.kill(pod)
	}
	n.asks("retain-thief", plain4, wants("10.77.13.0"))
	n.lacks("retain-thief", "AddressReserved", "10.77.13.0", "default/retain-web")
	n.asks("retain-other", plain4, from)
	n.has("retain-other", "10.77.13.1")
	n.asks("retain-web", plain4, from)
	n.has("retain-web", "10.77.13.0")
	s.kept("10.77.13.0", false) // of no use any more

	n.has("retain-waits", "10.77.13.8")
	if after := time.Since(gone); after < 14*time.Second { // the end is a whole second
		t.Errorf("an address kept for 15 s was given on after %s", after)
	}
	s.kept("10.77.13.8", false)
}

// kept waits until an address is kept in an IPReservation for a Service that went, or is not.
func (s *stage) kept(address string, want bool) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s kept: %t", address, want), func(ctx context.Context) error {
		list, err := s.Objects(reservations).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		has := false
		for _, o := range list.Items {
			addresses, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "addresses")
			has = has || len(addresses) == 1 && addresses[0] == address
		}
		if has != want {
			return fmt.Errorf("there are %d IPReservations, and one of it: %t", len(list.Items), has)
		}
		return nil
	})
}

// noneKept deletes the IPReservations that are left.
func (s *stage) noneKept() {
	_, err := s.Kubectl(context.Background(), "delete", "ipreservations", "--all", "--wait")
	s.must(err)
}

// TestAssignClass: a Service that comes to be of another class gives its address back, and is not touched from then on.
func TestAssignClass(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-class", `addresses: ["10.77.14.0/32"], autoAssign: false`), "ipaddresspool/assign-class")
	from := scene.FromPool("assign-class")
	n.asks("class-changes", plain4, from)
	n.has("class-changes", "10.77.14.0")
	n.asks("class-waits", plain4, from)
	n.lacks("class-waits", "PoolExhausted", "assign-class: 1 of 1 IPv4 assigned")

	// The class of a Service of type LoadBalancer is fixed; it can be given anew with the type.
	n.changes("class-changes", func(o *corev1.Service) {
		o.Spec.Type, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil
	})
	n.has("class-waits", "10.77.14.0")
	n.is("class-changes", "released", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress)+len(o.Status.Conditions) > 0 {
			return fmt.Errorf("its status is %+v", o.Status)
		}
		return nil
	})
	n.changes("class-changes", func(o *corev1.Service) {
		class("example.com/other")(o)
		o.Spec.Type = corev1.ServiceTypeLoadBalancer
	})
	n.goes("class-waits")
	n.asks("class-later", plain4, from)
	n.has("class-later", "10.77.14.0") // by now the other would have it
	n.is("class-changes", "left alone", func(o *corev1.Service) error {
		if len(o.Status.LoadBalancer.Ingress)+len(o.Status.Conditions) > 0 {
			return fmt.Errorf("its status is %+v", o.Status)
		}
		return nil
	})
	n.goes("class-later")
	n.changes("class-changes", func(o *corev1.Service) {
		o.Spec.Type, o.Spec.LoadBalancerClass, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
	})
	n.changes("class-changes", func(o *corev1.Service) { o.Spec.Type = corev1.ServiceTypeLoadBalancer })
	n.has("class-changes", "10.77.14.0")
}

// TestAssignAdoption: a Service that comes with an address of ours keeps it, one that comes with something else keeps that until there is
// something better; an address that somebody writes into a second Service is taken out of the younger.
func TestAssignAdoption(t *testing.T) {
	s := on(t)
	n := s.home()
	// The API server tells ages in seconds; of two that came in one, the first by name counts as the elder.
	n.asks("adopt-a", plain4, scene.FromPool("assign-adopt"))
	n.asks("adopt-b", plain4, scene.FromPool("assign-adopt"))
	n.lacks("adopt-a", "NoPool", "assign-adopt")
	n.lacks("adopt-b", "NoPool", "assign-adopt")
	n.writes("adopt-a", corev1.LoadBalancerIngress{IP: "10.77.15.2"})
	n.writes("adopt-b", corev1.LoadBalancerIngress{Hostname: "lb.example.com"})
	n.is("adopt-b", "left as it is", func(o *corev1.Service) error {
		if in := o.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].Hostname != "lb.example.com" {
			return fmt.Errorf("its status is %+v", o.Status)
		}
		return scene.Has(o, scene.Allocated, metav1.ConditionFalse, "NoPool")
	})
	s.apply(poolOf("assign-adopt", `addresses: ["10.77.15.0/30"], autoAssign: false`), "ipaddresspool/assign-adopt")
	n.has("adopt-a", "10.77.15.2")
	n.has("adopt-b", "10.77.15.0")

	n.settled("adopt-a")
	before := n.version("adopt-a")
	n.writes("adopt-b", corev1.LoadBalancerIngress{IP: "10.77.15.2"}) // which the elder has
	n.is("adopt-b", "given another address", func(o *corev1.Service) error {
		if in := o.Status.LoadBalancer.Ingress; len(in) != 1 || in[0].IP == "10.77.15.2" {
			return fmt.Errorf("its status is %+v", o.Status)
		}
		return nil
	})
	n.has("adopt-a", "10.77.15.2")
	if now := n.version("adopt-a"); now != before {
		t.Errorf("the elder was written: version %s, then %s", before, now)
	}
}

// writes puts something into a Service's status, as another program would.
func (n *tenant) writes(name string, ingress corev1.LoadBalancerIngress) {
	n.t.Helper()
	services := n.API.CoreV1().Services(n.namespace)
	n.eventually("status of "+name+" to be written", func(ctx context.Context) error {
		o, err := services.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{ingress}
		_, err = services.UpdateStatus(ctx, o, metav1.UpdateOptions{})
		return err
	})
}

// TestAssignRestartFull: controllers die, then the API server is away for a moment, while a pool is full and Services wait: nothing is
// written, no event is told twice, and then the one that waits longest gets what comes free.
func TestAssignRestartFull(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-full", `addresses: ["10.77.16.0/31"], autoAssign: false`), "ipaddresspool/assign-full")
	s.judged(scene.Pools, "assign-full", metav1.ConditionTrue, "") // so that nobody is refused before it is known
	names := []string{"full-1", "full-2", "full-3", "full-4"}
	for _, name := range names {
		n.asks(name, plain4, scene.FromPool("assign-full"))
	}
	n.has("full-1", "10.77.16.0")
	n.has("full-2", "10.77.16.1")
	n.lacks("full-3", "PoolExhausted", "assign-full: 2 of 2 IPv4 assigned")
	n.lacks("full-4", "PoolExhausted", "assign-full: 2 of 2 IPv4 assigned")
	n.settled(names...)
	s.counted("assign-full", "ipv4", 2, 2, 0)
	want := []map[string]int{{"AddressAssigned": 1}, {"AddressAssigned": 1}, {"AllocationFailed": 1}, {"AllocationFailed": 1}}
	before := make(map[string]string)
	for i, name := range names {
		n.told(name, want[i])
		before[name] = n.version(name)
	}
	unchanged := func(after string) {
		t.Helper()
		for i, name := range names {
			if now := n.version(name); now != before[name] {
				t.Errorf("%s was written after %s: version %s, then %s", name, after, before[name], now)
			}
			n.told(name, want[i])
		}
	}

	for _, pod := range s.controllers() {
		s.kill(pod)
	}
	s.led("full-new-1")
	unchanged("the controllers' death")

	s.Cluster.StopAPIServer()
	s.must(s.Cluster.StartAPIServer(t.Context()))
	s.led("full-new-2")
	unchanged("the API server's restart")

	n.goes("full-2")
	n.has("full-3", "10.77.16.1")
	n.lacks("full-4", "PoolExhausted")
	n.told("full-4", want[3])
	s.must(s.WaitSpeakers(t.Context()))
}

// led waits until a controller leads: a new Service gets an address. Then it waits a moment, in which a resync would have been written.
func (s *stage) led(name string) {
	s.t.Helper()
	n := s.home()
	s.eventually("Service "+name+" to be made", func(ctx context.Context) error {
		_, err := n.API.CoreV1().Services(n.namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			return nil
		}
		_, failed := n.API.CoreV1().Services(n.namespace).Create(ctx, scene.Service(name, scene.Selecting(""), plain4), metav1.CreateOptions{})
		return errors.Join(err, failed)
	})
	n.gets(name)
	n.goes(name)
	time.Sleep(quiet)
}
