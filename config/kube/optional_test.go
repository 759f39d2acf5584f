package kube

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// answering is a resource that answers every request alike.
type answering struct{ err error }

func (a answering) List(context.Context, metav1.ListOptions) (*networkingv1.ServiceCIDRList, error) {
	return nil, a.err
}

func (a answering) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	return nil, a.err
}

// TestOptional: a resource that is not served is empty, and asked for again after a while; any other failure is one.
func TestOptional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		make := func(err error) optional[*networkingv1.ServiceCIDRList] {
			return optional[*networkingv1.ServiceCIDRList]{answering{err}, func() *networkingv1.ServiceCIDRList { return &networkingv1.ServiceCIDRList{} }}
		}
		absent := make(apierrors.NewNotFound(gr("servicecidrs"), ""))
		if list, err := absent.List(t.Context(), metav1.ListOptions{}); err != nil || list == nil || len(list.Items) != 0 {
			t.Fatalf("list: %v, %v", list, err)
		}
		yes := true
		if w, err := absent.Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes}); err == nil {
			t.Errorf("a watch that begins with a list: %v", w)
		}
		for _, stop := range []bool{false, true} {
			w, err := absent.Watch(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if stop {
				w.Stop()
			}
			if event, more := <-w.ResultChan(); more {
				t.Errorf("the watch brings %v", event)
			}
			if lasted := time.Since(began); lasted != 0 && stop || lasted != askAgain && !stop {
				t.Errorf("stopped: %t, the watch lasted %s", stop, lasted)
			}
		}
		broken := make(errors.New("broken"))
		if _, err := broken.List(t.Context(), metav1.ListOptions{}); err == nil {
			t.Error("a failure is hidden")
		}
		if _, err := broken.Watch(t.Context(), metav1.ListOptions{}); err == nil {
			t.Error("a failure is hidden")
		}
	})
}

// TestExpiry: when a reservation ends, the Source tells, and says so in the Snapshot; also when its end is further away than it waits at once.
func TestExpiry(t *testing.T) {
	client, err := newClient(&rest.Config{Host: "http://127.0.0.1:1"}) // never asked
	if err != nil {
		t.Fatal(err)
	}
	for _, lasts := range []time.Duration{time.Second, longWait, 25 * longWait / 10} {
		synctest.Test(t, func(t *testing.T) {
			s := NewSource(client, SourceOptions{Log: discard()})
			end := metav1.NewTime(time.Now().Add(lasts))
			s.reservations.set(&v1beta1.IPReservation{
				ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "r", Generation: 1},
				Spec:       v1beta1.IPReservationSpec{Addresses: []string{"192.0.2.7"}, Service: v1beta1.ServiceReference{Namespace: "a", Name: "b"}, ExpiresAt: &end},
			})
			began := time.Now()
			var r *config.Reservation
			for ; r == nil || !r.Expired; r = s.Snapshot().Reservations[0] {
				<-s.Changed()
			}
			if took := time.Since(began); took != lasts {
				t.Errorf("a reservation of %s expired after %s", lasts, took)
			}
			if s.expiry != nil {
				t.Error("waits for an expiry that is over")
			}
		})
	}
}
