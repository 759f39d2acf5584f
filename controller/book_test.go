package controller

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/controller/ipam"
)

// TestPoolsGo takes the pools away and looks what becomes of a Service that has an address, and of one that wants one.
func TestPoolsGo(t *testing.T) {
	lan := func() *config.Pool { return pool("lan", "192.0.2.0", "192.0.2.9") }
	admits := func() *config.Pool {
		p := lan()
		p.Scoped, p.Admits = true, "namespace default"
		return p
	}
	for _, test := range []struct {
		name   string
		pool   *config.Pool
		then   []*config.Pool // what there is after 5 seconds
		stays  bool
		events []string // of the Service that had an address
	}{
		{"for good", lan(), nil, false, []string{ipam.AddressReleased, ipam.AllocationFailed}},
		{"and come back", lan(), []*config.Pool{lan()}, true, nil},
		{"and come back under another name", lan(), []*config.Pool{pool("public", "192.0.2.0", "192.0.2.127")}, true, nil},
		{"and come back with other addresses", lan(), []*config.Pool{pool("lan", "198.51.100.0", "198.51.100.9")}, false, []string{ipam.AddressReleased, ipam.AddressAssigned}},
		{"which admit the Service alone", admits(), []*config.Pool{admits()}, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.rest.Pools = []*config.Pool{test.pool}
				defer c.start()()
				web := service("web")
				web.Admitted = []string{"lan"}
				c.put(web)
				time.Sleep(time.Minute)
				c.forget()
				web.Admitted = nil // as long as there is no such pool
				c.put(web)
				c.change(func(s *config.Snapshot) { s.Pools = nil })
				time.Sleep(4 * time.Second)
				if got := c.service(web.Key); !slices.Equal(got.Ingress, addrs("192.0.2.0")) || got.Allocated.Status != "True" {
					t.Errorf("a moment after: %v %+v", got.Ingress, got.Allocated)
				}
				c.put(service("next"))
				time.Sleep(time.Second)
				if got := c.service(key("next")); len(got.Ingress) != 0 || got.Allocated.Reason != ipam.NoPool {
					t.Errorf("the next Service: %v %+v", got.Ingress, got.Allocated)
				}
				if n := len(c.eventReasons(web.Key)); n != 0 {
					t.Errorf("%d events a moment after", n)
				}
				web.Admitted = []string{"lan"}
				c.put(web)
				c.change(func(s *config.Snapshot) { s.Pools = test.then })
				time.Sleep(time.Minute)
				if got := slices.Equal(c.service(web.Key).Ingress, addrs("192.0.2.0")); got != test.stays {
					t.Errorf("the address stays: %v", got)
				}
				if diff := cmp.Diff(test.events, c.eventReasons(web.Key)); diff != "" {
					t.Errorf("events (-want +got)\n%s", diff)
				}
				c.forget()
				time.Sleep(time.Minute)
				if n := c.forget(); n != 0 {
					t.Errorf("%d writes although nothing changes", n)
				}
			})
		})
	}
}

// TestPoolsLate starts a controller before there are pools, in front of Services that an earlier installation has given addresses.
func TestPoolsLate(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		stays bool
	}{
		{"soon", 5 * time.Second, true},
		{"much later", time.Minute, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.rest.Pools = []*config.Pool{pool("lan", "192.0.2.0", "192.0.2.9")}
				stop := c.start()
				for _, name := range []string{"a", "b"} {
					c.put(service(name))
					time.Sleep(time.Second)
				}
				c.delete(key("a")) // so that b would get another address if it lost the one it has
				time.Sleep(time.Minute)
				stop()
				c.forget()
				c.change(func(s *config.Snapshot) { s.Pools = nil })
				stop = c.start()
				time.Sleep(test.after)
				c.change(func(s *config.Snapshot) { s.Pools = []*config.Pool{pool("lan", "192.0.2.0", "192.0.2.9")} })
				time.Sleep(time.Minute)
				stop()
				if got := slices.Equal(c.service(key("b")).Ingress, addrs("192.0.2.1")) && len(c.eventReasons(key("b"))) == 0; got != test.stays {
					t.Errorf("it keeps its address, and is told nothing: %v; %+v, %v", got, c.service(key("b")), c.eventReasons(key("b")))
				}
			})
		})
	}
}
