package kube

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// TestSnapshotsAreShared: the watches go on, and several ask for snapshots, while others read all of those that they were given before. The
// race detector judges: what was given away is never changed.
func TestSnapshotsAreShared(t *testing.T) {
	const rounds = 200                                                 // snapshots that differ, for each who asks
	client, err := newClient(&rest.Config{Host: "http://127.0.0.1:1"}) // never asked
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []Role{Controller, Speaker} {
		src := NewSource(client, SourceOptions{Role: role, Namespace: "herald-system", Log: discard()})
		given, enough := make(chan *config.Snapshot, 64), make(chan struct{})
		var writing, asking, reading sync.WaitGroup
		for n := range 2 {
			writing.Go(func() { stir(src, uint64(n), enough) })
			asking.Go(func() {
				var last *config.Snapshot
				for n := 0; n < rounds; runtime.Gosched() {
					if snap := src.Snapshot(); snap != last {
						last = snap
						n++
						given <- snap
					}
				}
			})
			reading.Go(func() {
				for snap := range given {
					readAll(reflect.ValueOf(snap))
				}
			})
		}
		asking.Wait()
		close(enough)
		close(given)
		writing.Wait()
		reading.Wait()
		if last := src.Snapshot(); len(last.Services) == 0 || len(last.Pools) == 0 || len(last.Nodes) == 0 {
			t.Errorf("nothing was stirred: %d Services, %d pools, %d nodes", len(last.Services), len(last.Pools), len(last.Nodes))
		}
	}
}

// stir does to a Source what watches and answers to writes do, by chance, until it is enough.
func stir(s *Source, seed uint64, enough <-chan struct{}) {
	r := rand.New(rand.NewPCG(seed, 9))
	for round := 0; ; round++ {
		select {
		case <-enough:
			return
		default:
		}
		name := fmt.Sprint(r.IntN(40))
		meta := metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), ResourceVersion: fmt.Sprint(2*round + int(seed) + 1), Generation: int64(round),
			Labels: map[string]string{"l": fmt.Sprint(r.IntN(3))},
		}
		web := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		}}
		web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("192.0.2.%d", r.IntN(200))}}
		ready, node := r.IntN(2) == 0, fmt.Sprint("n", r.IntN(3))
		slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}},
		}}
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
		whole := meta
		whole.Namespace = ""
		switch r.IntN(8) {
		case 0, 1, 2:
			s.services.set(web)
		case 3:
			s.services.put(web)
		case 4:
			_ = s.services.Delete(web)
		case 5:
			s.slices.set(slice)
		case 6:
			s.nodes.set(&corev1.Node{ObjectMeta: whole})
			s.namespaces.set(&metav1.PartialObjectMetadata{ObjectMeta: whole})
		case 7:
			whole.Name, whole.UID = "p"+fmt.Sprint(r.IntN(3)), ""
			s.pools.set(&v1beta1.IPAddressPool{ObjectMeta: whole, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}}})
			s.l2Adverts.set(&v1beta1.L2Advertisement{ObjectMeta: whole})
		}
	}
}

// readAll reads everything that a value leads to.
func readAll(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			readAll(v.Elem())
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			readAll(field)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			readAll(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			readAll(it.Key())
			readAll(it.Value())
		}
	default:
		_ = v.IsZero()
	}
}
