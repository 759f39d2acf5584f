package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
)

func keepingPool(d time.Duration) *config.Pool {
	p := pool("a", "192.0.2.0", "192.0.2.9")
	p.RetainFor = d
	return p
}

// kept leaves only what was kept and discarded.
func kept(objects []string) []string {
	return slices.DeleteFunc(slices.Clone(objects), func(s string) bool { return s[:4] == "pool" })
}

// TestRetain follows the address of a Service that goes: it is kept, comes back with the Service, and is free when the time is over; the
// writes that this takes fail now and then, and the controller is restarted.
func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{keepingPool(time.Hour)}
		stop := c.start()
		c.put(service("web"))
		time.Sleep(time.Second)
		broken := 3
		c.mu.Lock()
		c.refuse = func(kube.ServiceStatus) error {
			if broken--; broken >= 0 {
				return errors.New("the database is full")
			}
			return nil
		}
		c.mu.Unlock()
		c.delete(key("web"))
		time.Sleep(time.Minute)
		asks := service("asks")
		asks.Request.Addresses = addrs("192.0.2.0")
		c.put(asks)
		c.put(service("other"))
		time.Sleep(3 * time.Second) // counts of pools are written once a second
		if got := c.service(key("other")).Ingress; !slices.Equal(got, addrs("192.0.2.1")) {
			t.Errorf("other: %v", got)
		}
		if got := c.service(key("asks")).Allocated.Reason; got != "AddressReserved" {
			t.Errorf("asks: %s", got)
		}
		if got := c.records().pool.IPv4; got != (config.PoolCounts{Total: 10, Assigned: 1, Reserved: 1, Available: 8}) {
			t.Errorf("pool: %+v", got)
		}
		stop()
		stop = c.start()
		c.put(service("web"))
		time.Sleep(time.Second)
		if got := c.service(key("web")).Ingress; !slices.Equal(got, addrs("192.0.2.0")) {
			t.Errorf("web is back with %v", got)
		}
		c.delete(key("web"))
		time.Sleep(time.Hour + time.Minute)
		if got := c.service(key("asks")).Ingress; !slices.Equal(got, addrs("192.0.2.0")) {
			t.Errorf("asks, in the end: %v", got)
		}
		name := kube.RetentionName(key("web"))
		want := []string{"keep [192.0.2.0] for default/web", "discard " + name, "keep [192.0.2.0] for default/web", "discard " + name}
		if diff := cmp.Diff(want, kept(c.records().objects)); diff != "" {
			t.Error(diff)
		}
		c.forget()
		stop()
		stop = c.start()
		time.Sleep(time.Minute)
		if n := c.forget(); n != 0 {
			t.Errorf("%d writes although nothing changes", n)
		}
		stop()
	})
}

// TestRetainTakeover lets a Service go while nobody leads: the replica that followed knows what it had.
func TestRetainTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{keepingPool(time.Hour)}
		elected := make(chan struct{})
		standby := c.controller(func(ctx context.Context, lead func(context.Context)) error {
			select {
			case <-elected:
				lead(ctx)
			case <-ctx.Done():
			}
			return nil
		})
		stop := c.start()
		c.put(service("web"))
		time.Sleep(time.Second)
		stop()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- standby.Run(ctx) }()
		c.signal()
		time.Sleep(10 * time.Second)
		c.delete(key("web"))
		time.Sleep(10 * time.Second)
		close(elected)
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"keep [192.0.2.0] for default/web"}, kept(c.records().objects)); diff != "" {
			t.Error(diff)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestManyGo deletes 200 of 2,000 Services: the next is assigned without delay, and each address is kept once.
func TestManyGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, less = 2000, 200
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "10.0.0.0", "10.0.255.255")}
		c.rest.Pools[0].RetainFor = time.Hour
		defer c.start()()
		for i := range n {
			c.put(service(fmt.Sprint("s", i)))
		}
		for c.held() < n {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		c.forget()
		for i := range less {
			c.delete(key(fmt.Sprint("s", i)))
		}
		c.put(service("next"))
		began := time.Now()
		for len(c.service(key("next")).Ingress) == 0 && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("the next Service was assigned after %v", took)
		}
		time.Sleep(time.Minute)
		if got := len(kept(c.records().objects)); got != less {
			t.Errorf("%d writes to IPReservations for %d Services", got, less)
		}
		if got := c.assignments(); got != 1 {
			t.Errorf("%d writes of addresses", got)
		}
	})
}
