package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/controller/ipam"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestBurst creates many Services as fast as requests go, and counts writes: one for each, none after a restart.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 600
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "10.0.0.0", "10.0.255.255")}
		stop := c.start()
		for i := range n {
			c.put(service(fmt.Sprint("s", i)))
			time.Sleep(500 * time.Microsecond)
		}
		last := time.Now()
		synctest.Wait()
		for c.held() < n && time.Since(last) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(last); took > 100*time.Millisecond {
			t.Errorf("the last Service was assigned %v after it was made", took)
		}
		time.Sleep(20 * time.Second) // everything else is through
		if got := c.assignments(); got != n {
			t.Errorf("%d writes of addresses for %d Services", got, n)
		}
		if got := len(c.records().writes); got != 2*n {
			t.Errorf("%d writes for %d Services: one for the addresses, one for the announcement", got, n)
		}
		if c.records().most > writers {
			t.Errorf("%d requests at once", c.records().most)
		}
		if got := c.records().pool.IPv4; got != (config.PoolCounts{Total: 1 << 16, Assigned: n, Available: 1<<16 - n}) {
			t.Errorf("pool: %+v", got)
		}
		if got := len(c.records().objects); got > 5 {
			t.Errorf("%d writes of pool counts: %v", got, c.records().objects)
		}
		stop()
		c.forget()
		stop = c.start()
		time.Sleep(time.Minute)
		stop()
		if n := c.forget(); n != 0 {
			t.Errorf("%d writes after a restart", n)
		}
	})
}

func (c *cluster) held() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.real {
		n += len(s.Ingress)
	}
	return n
}

// TestFailure checks that a Service whose writes fail holds up no other, keeps its address for itself, and gets it in the end; and that
// it is told of once.
func TestFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		var attempts atomic.Int32
		c.refuse = func(w kube.ServiceStatus) error {
			if w.Key == key("bad") {
				attempts.Add(1)
				return errors.New("the database is full")
			}
			return nil
		}
		defer c.start()()
		c.put(service("bad"))
		time.Sleep(time.Second)
		for i := range 5 {
			c.put(service(fmt.Sprint("good", i)))
		}
		time.Sleep(time.Second)
		if got := c.held(); got != 5 {
			t.Errorf("%d Services have an address", got)
		}
		time.Sleep(time.Minute)
		if n := attempts.Load(); n < 5 || n > 20 {
			t.Errorf("%d attempts in a minute", n)
		}
		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		time.Sleep(time.Minute)
		if got := c.service(key("bad")).Ingress; !slices.Equal(got, addrs("192.0.2.0")) {
			t.Errorf("the first Service got %v", got)
		}
		if got := c.eventReasons(key("bad")); !slices.Equal(got, []string{ipam.AddressAssigned, "AnnouncementFailed"}) {
			t.Errorf("events: %v", got)
		}
	})
}

// TestUserChangesMind changes a Service while its address is being written: the decision is made anew, from the newer Service.
func TestUserChangesMind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.lag = 100 * time.Millisecond
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		defer c.start()()
		c.put(service("web"))
		time.Sleep(c.lag + time.Millisecond) // seen, and being written
		s := service("web")
		s.Request.Addresses = addrs("192.0.2.7")
		c.put(s)
		time.Sleep(10 * time.Second)
		if got := c.service(key("web")).Ingress; !slices.Equal(got, addrs("192.0.2.7")) {
			t.Errorf("got %v", got)
		}
		if got := c.assignments(); got != 1 {
			t.Errorf("%d writes: %+v", got, c.records().writes)
		}
	})
}

func TestLifeCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.0")}
		defer c.start()()
		c.put(service("first"))
		time.Sleep(time.Second)
		c.put(service("second"))
		c.put(service("third"))
		time.Sleep(time.Second)
		if got := c.eventReasons(key("second")); !slices.Equal(got, []string{ipam.AllocationFailed}) {
			t.Errorf("second: events %v", got)
		}
		c.delete(key("first")) // exactly one of those who wait gets the address, and promptly
		time.Sleep(50 * time.Millisecond)
		if got := c.held(); got != 1 {
			t.Errorf("%d addresses held", got)
		}
		// the Service stops being a LoadBalancer
		winner := c.service(key("second"))
		c.delete(key("second"))
		c.mu.Lock()
		c.left[winner.Key] = config.Released{Key: winner.Key, UID: winner.UID, Ingress: winner.Ingress}
		c.mu.Unlock()
		time.Sleep(time.Second)
		if c.records().left != 0 {
			t.Error("not released")
		}
		want := []string{ipam.AllocationFailed, ipam.AddressAssigned, ipam.AddressReleased}
		if got := c.eventReasons(key("second")); !slices.Equal(got, want) {
			t.Errorf("second: events %v", got)
		}
		if got := c.service(key("third")).Ingress; len(got) != 1 {
			t.Errorf("third: %v", got)
		}
	})
}

// TestNotSynced checks that nothing is written before everything has been listed.
func TestNotSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Synced = false
		held := service("held")
		held.UID, held.Ingress = "u", addrs("192.0.2.1")
		held.Allocated = config.Condition{Status: "True", Reason: "Allocated", Message: "192.0.2.1 from pool a"}
		c.put(held)
		c.put(service("new"))
		defer c.start()()
		time.Sleep(time.Minute)
		if n := c.forget(); n != 0 {
			t.Errorf("%d writes", n)
		}
		c.change(func(s *config.Snapshot) {
			s.Synced, s.Pools = true, []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		})
		time.Sleep(time.Second)
		if got := c.held(); got != 2 {
			t.Errorf("%d addresses held", got)
		}
	})
}

// TestStandby checks that a replica that does not lead writes nothing, and takes over when it does.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		elected := make(chan struct{})
		ctl := c.controller(func(ctx context.Context, lead func(context.Context)) error {
			select {
			case <-elected:
				lead(ctx)
			case <-ctx.Done():
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- ctl.Run(ctx) }()
		c.put(service("web"))
		time.Sleep(time.Minute)
		if n := c.forget(); n != 0 || ctl.Leading() {
			t.Errorf("%d writes while not leading", n)
		}
		close(elected)
		time.Sleep(time.Second)
		if got := c.held(); got != 1 || !ctl.Leading() {
			t.Errorf("%d addresses held", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestJourney goes from one wish to another at random, while requests fail and the controller is restarted, and then looks whether the API
// server holds what a plan made from it would say.
func TestJourney(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { journey(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func journey(t *testing.T, r *rand.Rand) {
	c := newCluster(t)
	c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
	luck := rand.New(rand.NewPCG(r.Uint64(), 1)) // used under the cluster's lock
	c.refuse = func(kube.ServiceStatus) error {
		if luck.IntN(4) == 0 {
			return errors.New("bad luck")
		}
		return nil
	}
	stop := c.start()
	for range 60 {
		k := key(fmt.Sprint("s", r.IntN(15)))
		switch r.IntN(8) {
		case 0:
			c.delete(k)
		case 1:
			stop()
			stop = c.start()
		case 2:
			c.change(func(s *config.Snapshot) {
				p := pool("a", "192.0.2.0", fmt.Sprint("192.0.2.", 3+r.IntN(10)))
				p.Status = s.Pools[0].Status
				s.Pools = []*config.Pool{p}
			})
		case 3:
			s := config.Service{Key: k}
			s.Request.Addresses = addrs(fmt.Sprint("192.0.2.", r.IntN(12)))
			c.put(s)
		default:
			c.put(config.Service{Key: k})
		}
		time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
	}
	c.mu.Lock()
	c.refuse = nil
	c.mu.Unlock()
	time.Sleep(5 * time.Minute)
	plan := ipam.Compute(c.Snapshot(), time.Now())
	for _, o := range plan.Services {
		if o.Changed {
			t.Errorf("Service %s holds %v (%v) and should hold %v (%v)", o.Service.Key, o.Service.Ingress, o.Service.Allocated, o.Addresses, o.Allocated)
		}
	}
	if got, want := c.records().pool, plan.Pools["a"]; got != want {
		t.Errorf("pool: %+v, want %+v", got, want)
	}
	c.forget()
	time.Sleep(5 * time.Minute)
	if n := c.forget(); n != 0 {
		t.Errorf("%d writes although nothing changes", n)
	}
	stop()
}

func TestReadiness(t *testing.T) {
	ref := config.Ref{Kind: "IPAddressPool", Name: "a"}
	object := config.Object{Ref: ref, Generation: 4}
	for _, c := range []struct {
		name     string
		problems []config.Problem
		want     config.Condition
	}{
		{"fine", nil, config.Condition{Status: "True", Reason: "Ready"}},
		{
			"left out",
			[]config.Problem{{Ref: ref, Reason: "Overlap", Message: "overlaps IPAddressPool b", Field: "spec.addresses[0]"}},
			config.Condition{Status: "False", Reason: "Overlap", Message: "spec.addresses[0]: overlaps IPAddressPool b"},
		},
		{
			"last good, after a warning",
			[]config.Problem{{Ref: ref, Reason: "NodeAddress", Message: "holds a node", Warning: true}, {Ref: ref, Reason: "Invalid", Message: "bad", LastGood: true}},
			config.Condition{Status: "False", Reason: "Invalid", Message: "holds a node; bad (the last good version stays in force)"},
		},
		{
			"warning",
			[]config.Problem{{Ref: ref, Reason: "UnknownPool", Message: "there is no IPAddressPool c", Warning: true}},
			config.Condition{Status: "False", Reason: "UnknownPool", Message: "there is no IPAddressPool c (the object is in force all the same)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.ObservedGeneration = 4
			if diff := cmp.Diff(c.want, readiness(object, c.problems)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestObjects checks that Ready is written on change only, also when the problem goes.
func TestObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		ref := config.Ref{Kind: "L2Advertisement", Name: "lan"}
		c.rest.Objects = []config.Object{{Ref: ref, Generation: 1}}
		c.rest.Problems = []config.Problem{{Ref: ref, Reason: "UnknownPool", Message: "no", Warning: true}}
		defer c.start()()
		time.Sleep(10 * time.Second)
		c.change(func(s *config.Snapshot) { s.Problems = nil })
		time.Sleep(10 * time.Second)
		want := []string{"L2Advertisement lan Ready=False UnknownPool", "L2Advertisement lan Ready=True Ready"}
		if diff := cmp.Diff(want, c.records().objects); diff != "" {
			t.Error(diff)
		}
	})
}

// TestAnnounced follows a Service from its creation over a failover to the loss of its endpoints.
func TestAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		c.rest.L2Advertisements = []*config.L2Advertisement{{
			Name: "lan", Pools: config.All[string](), Services: config.All[config.Key](), Nodes: config.All[string](),
		}}
		c.rest.Nodes = []*config.Node{{Name: "n1", Ready: true}, {Name: "n2", Ready: true}}
		c.rest.Speakers = []*config.Speaker{speaker("n1"), speaker("n2")}
		defer c.start()()
		web := service("web")
		web.Endpoints.Ready = map[string]int{"n1": 1}
		c.put(web)
		time.Sleep(time.Second)
		if got := c.service(web.Key).Announced; got.Status != "" {
			t.Errorf("before a speaker has answered: %+v", got)
		}
		since := time.Now()
		c.change(func(s *config.Snapshot) {
			s.Speakers = []*config.Speaker{speaker("n1", holding("192.0.2.0", since)), speaker("n2")}
		})
		time.Sleep(time.Second)
		wantAnnounced(t, c, "True", "Announced", "ARP by n1 on eth0")
		if got := len(c.records().writes); got != 2 {
			t.Errorf("%d writes", got)
		}
		c.mu.Lock()
		c.refuse = func(w kube.ServiceStatus) error { // for a while, so that more than one round asks for the write
			if w.Announced != nil {
				return errors.New("not now")
			}
			return nil
		}
		c.mu.Unlock()
		c.change(func(s *config.Snapshot) { // n2 takes over; what n1 wrote still stands
			s.Speakers = []*config.Speaker{speaker("n1", holding("192.0.2.0", since)), speaker("n2", holding("192.0.2.0", since.Add(time.Minute)))}
		})
		for range 5 {
			time.Sleep(time.Second)
			c.change(func(s *config.Snapshot) { s.Nodes = slices.Clone(s.Nodes) })
		}
		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		time.Sleep(time.Minute)
		wantAnnounced(t, c, "True", "Announced", "ARP by n2 on eth0")
		if got := c.eventReasons(web.Key); !slices.Equal(got, []string{ipam.AddressAssigned, "AnnouncementMoved"}) {
			t.Errorf("events %v", got)
		}
		for range 3 { // a foreign device claims the address, and ceases to: one event for each time, whatever is reported meanwhile
			c.change(func(s *config.Snapshot) {
				s.Speakers = []*config.Speaker{speaker("n1"), disputed(speaker("n2", holding("192.0.2.0", since.Add(time.Minute))), "192.0.2.0", since)}
			})
			time.Sleep(time.Second)
		}
		if got := c.service(web.Key).Announced; got.Status != "False" || got.Reason != "AddressConflict" {
			t.Errorf("disputed: %+v", got)
		}
		c.change(func(s *config.Snapshot) {
			s.Speakers = []*config.Speaker{speaker("n1"), speaker("n2", holding("192.0.2.0", since.Add(time.Minute)))}
		})
		time.Sleep(time.Second)
		wantAnnounced(t, c, "True", "Announced", "ARP by n2 on eth0")
		if got := c.eventReasons(web.Key); !slices.Equal(got, []string{ipam.AddressAssigned, "AnnouncementMoved", "AddressConflict"}) {
			t.Errorf("events %v", got)
		}
		web.Endpoints.Ready = nil
		c.put(web)
		time.Sleep(time.Second)
		wantAnnounced(t, c, "False", "NoReadyEndpoints", "L2: the Service has no ready endpoint")
		c.change(func(s *config.Snapshot) { s.Pools = nil })
		time.Sleep(poolGrace + time.Second)
		if got := c.service(web.Key); len(got.Ingress) != 0 || got.Announced.Status != "" || got.Allocated.Status != "False" {
			t.Errorf("without a pool: %+v", got)
		}
		c.forget()
		time.Sleep(time.Minute)
		if n := c.forget(); n != 0 {
			t.Errorf("%d writes although nothing changes", n)
		}
	})
}

// TestAnnouncementFails goes through what keeps a Service from being announced: each reason is told of once, also to those who only look at events, and a
// missing endpoint is not.
func TestAnnouncementFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		c.rest.Nodes = []*config.Node{{Name: "n1", Ready: true}}
		since := time.Now()
		c.rest.Speakers = []*config.Speaker{speaker("n1", holding("192.0.2.0", since))}
		stop := c.start()
		web := service("web")
		c.put(web)
		time.Sleep(time.Minute)
		want := func(when string, n int) {
			t.Helper()
			got := slices.DeleteFunc(c.eventReasons(web.Key), func(r string) bool { return r != "AnnouncementFailed" })
			if len(got) != n {
				t.Errorf("%s: %d events, want %d: %+v", when, len(got), n, c.service(web.Key).Announced)
			}
		}
		want("without an advertisement", 1)
		stop()
		stop = c.start()
		time.Sleep(time.Minute)
		want("after a restart", 1)
		c.change(func(s *config.Snapshot) {
			s.L2Advertisements = []*config.L2Advertisement{{Name: "lan", Pools: config.All[string](), Services: config.All[config.Key](), Nodes: config.All[string]()}}
		})
		time.Sleep(time.Minute)
		if got := c.service(web.Key).Announced.Reason; got != "NoReadyEndpoints" {
			t.Errorf("without endpoints: %s", got)
		}
		want("without endpoints", 1)
		web.Endpoints.Ready = map[string]int{"n1": 1}
		c.put(web)
		time.Sleep(time.Minute)
		wantAnnounced(t, c, "True", "Announced", "ARP by n1 on eth0")
		for _, excluded := range []bool{true, false, true} {
			c.change(func(s *config.Snapshot) {
				s.Nodes = []*config.Node{{Name: "n1", Ready: true, ExcludeLB: excluded}}
				s.Speakers = []*config.Speaker{speaker("n1")}
				if !excluded {
					s.Speakers = []*config.Speaker{speaker("n1", holding("192.0.2.0", since))}
				}
			})
			time.Sleep(time.Minute)
		}
		want("excluded twice", 3)
		c.mu.Lock()
		last := c.events[len(c.events)-1]
		c.mu.Unlock()
		if wantNote := "NoEligibleNode: " + c.service(web.Key).Announced.Message; !last.Warning || last.Note != wantNote {
			t.Errorf("event %+v, want %q", last, wantNote)
		}
		stop()
	})
}

// TestConflictBesideBGP lets a stranger use an address that is announced by BGP as well: it stays announced, and of each stranger it is told
// once, whatever is reported besides, and also after a restart.
func TestConflictBesideBGP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rest.Pools = []*config.Pool{pool("a", "192.0.2.0", "192.0.2.9")}
		every := config.All[string]()
		c.rest.L2Advertisements = []*config.L2Advertisement{{Name: "lan", Pools: every, Services: config.All[config.Key](), Nodes: every}}
		c.rest.BGPAdvertisements = []*config.BGPAdvertisement{{Name: "fabric", Pools: every, Services: config.All[config.Key](), Nodes: every, Peers: every}}
		c.rest.Peers = []*config.Peer{{Name: "tor", Nodes: every, Families: []config.Family{config.IPv4}}}
		c.rest.Nodes = []*config.Node{{Name: "n1", Ready: true}, {Name: "n2", Ready: true}}
		since := time.Now()
		talks := func(s *config.Speaker, state string) *config.Speaker {
			s.Sessions = []config.Session{{Peer: "tor", State: state, Families: []config.Family{config.IPv4}}}
			return s
		}
		report := func(list ...*config.Speaker) {
			c.change(func(s *config.Snapshot) { s.Speakers = list })
			time.Sleep(5 * time.Second)
		}
		answers := func() *config.Speaker { return talks(speaker("n1", holding("192.0.2.0", since)), "Established") }
		stop := c.start()
		web := service("web")
		web.Endpoints.Ready = map[string]int{"n1": 1}
		c.put(web)
		report(answers())
		wantAnnounced(t, c, "True", "Announced", "ARP by n1 on eth0; BGP by 1 node to 1 peer")
		report(disputed(answers(), "192.0.2.0", since))
		report(disputed(answers(), "192.0.2.0", since), talks(speaker("n2"), "Established"))
		stop()
		stop = c.start()
		report(answers(), disputed(talks(speaker("n2"), "Active"), "192.0.2.0", since.Add(-time.Second)))
		if got := c.service(web.Key).Announced; got.Status != "True" || got.Reason != "Announced" {
			t.Errorf("announced by BGP all the time: %+v", got)
		}
		if got := c.eventReasons(web.Key); !slices.Equal(got, []string{ipam.AddressAssigned, "AddressConflict"}) {
			t.Errorf("events %v", got)
		}
		report(answers())
		report(disputed(answers(), "192.0.2.0", since))
		if got := c.eventReasons(web.Key); !slices.Equal(got, []string{ipam.AddressAssigned, "AddressConflict", "AddressConflict"}) {
			t.Errorf("events after it has come back: %v", got)
		}
		stop()
	})
}

func wantAnnounced(t *testing.T, c *cluster, status, reason, message string) {
	t.Helper()
	want := config.Condition{Status: status, Reason: reason, Message: message}
	if diff := cmp.Diff(want, c.service(key("web")).Announced); diff != "" {
		t.Errorf("Announced: (-want +got)\n%s", diff)
	}
}

func speaker(node string, holds ...config.L2Holding) *config.Speaker {
	return &config.Speaker{
		Node: node, L2: holds,
		Interfaces: []config.Interface{{Name: "eth0", Index: 2, Up: true, MAC: "02:00:00:00:00:01", Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
	}
}

func holding(addr string, since time.Time) config.L2Holding {
	return config.L2Holding{Address: netip.MustParseAddr(addr), Interface: "eth0", Since: since}
}
