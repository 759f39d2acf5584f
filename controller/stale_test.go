package controller

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
)

// TestConflict has somebody else write a Service while its address, and then its announcement, is being written. The other write changes nothing
// that is read, such as a finalizer, so the watch says nothing of it; and nothing else happens in the cluster.
func TestConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		crossed := map[string]bool{}
		c.refuse = func(w kube.ServiceStatus) error {
			what := "announcement"
			if w.Ingress != nil {
				what = "address"
			}
			if crossed[what] {
				return nil
			}
			crossed[what] = true
			c.revise(w.Key)
			return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, w.Key.String(), errors.New("changed"))
		}
		defer c.start()()
		time.Sleep(time.Minute) // the beginning is over
		c.put(service("web"))
		time.Sleep(time.Minute)
		got := c.service(key("web"))
		if !slices.Equal(got.Ingress, addrs("192.0.2.0")) || got.Announced.Reason != "NoAdvertisement" {
			t.Errorf("addresses %v, announced %+v", got.Ingress, got.Announced)
		}
		if len(crossed) != 2 {
			t.Errorf("only crossed: %v", crossed)
		}
	})
}

// revise makes a version of a Service that says the same, which the source has without a word. The lock is held.
func (c *cluster) revise(k config.Key) {
	s := *c.real[k]
	c.version++
	s.Version = strconv.Itoa(c.version)
	c.real[k], c.shown[k] = &s, &s
}

// TestOtherAddress gives a Service another address: what was said of the announcement of the one before is not said of this one, as the speakers go by
// it. When an address is taken away, what is said stays true of the rest.
func TestOtherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9"), pool("b", "2001:db8::1", "2001:db8::9")}
		every := config.All[string]()
		c.rest.L2Advertisements = []*config.L2Advertisement{{Name: "lan", Pools: every, Services: config.All[config.Key](), Nodes: every}}
		c.rest.Nodes = []*config.Node{{Name: "n1", Ready: true}}
		since := time.Now()
		report := func(addrs ...string) {
			s := speaker("n1")
			for _, a := range addrs {
				s.L2 = append(s.L2, holding(a, since))
			}
			c.change(func(in *config.Snapshot) { in.Speakers = []*config.Speaker{s} })
			time.Sleep(time.Second)
		}
		defer c.start()()
		web := service("web")
		web.Endpoints.Ready = map[string]int{"n1": 1}
		web.Request.Addresses = addrs("192.0.2.3")
		c.put(web)
		report("192.0.2.3")
		wantAnnounced(t, c, "True", "Announced", "ARP by n1 on eth0")
		for _, next := range []struct {
			families []config.Family
			ips      []string
			stays    bool
		}{
			{[]config.Family{config.IPv4}, []string{"192.0.2.5"}, false},
			{[]config.Family{config.IPv4, config.IPv6}, []string{"192.0.2.5", "2001:db8::5"}, false},
			{[]config.Family{config.IPv4}, []string{"192.0.2.5"}, true},
		} {
			web.Families, web.Request.Addresses, web.FamilyPolicy = next.families, addrs(next.ips...), config.PreferDualStack
			c.put(web)
			time.Sleep(time.Second)
			got := c.service(web.Key)
			if !slices.Equal(got.Ingress, addrs(next.ips...)) {
				t.Fatalf("addresses %v, want %v", got.Ingress, next.ips)
			}
			if (got.Announced.Status == "True") != next.stays {
				t.Errorf("%v: announced %+v before any speaker has said so", next.ips, got.Announced)
			}
			report(next.ips...)
			if got := c.service(web.Key).Announced; got.Status != "True" {
				t.Errorf("%v: %+v", next.ips, got)
			}
		}
	})
}
