package gobgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
)

// watch counts the BGP routes that are taken out of the router's kernel.
type watch struct {
	deleted atomic.Int64
	lost    atomic.Int64 // errors: events may be missing
	done    chan struct{}
	wg      sync.WaitGroup
}

const protoBGP = 186 // RTPROT_BGP

func (c *cable) watch() *watch {
	c.t.Helper()
	w := &watch{done: make(chan struct{})}
	events := make(chan netlink.RouteUpdate, 1<<16)
	ns := c.router
	must(c.t, netlink.RouteSubscribeWithOptions(events, w.done, netlink.RouteSubscribeOptions{
		Namespace:         &ns,
		ReceiveBufferSize: 64 << 20, ReceiveBufferForceSize: true,
		ErrorCallback: func(err error) {
			select {
			case <-w.done:
			default:
				w.lost.Add(1)
			}
		},
	}))
	w.wg.Go(func() {
		for e := range events {
			if e.Type == unix.RTM_DELROUTE && (e.Protocol == protoBGP || e.Protocol == unix.RTPROT_BIRD) {
				w.deleted.Add(1)
			}
		}
	})
	c.t.Cleanup(func() { close(w.done); w.wg.Wait() })
	return w
}

// kernelRoutes counts the BGP routes in the router's kernel.
func (c *cable) kernelRoutes() (n int) {
	must(c.t, inside(c.router, func() error {
		for _, proto := range []int{protoBGP, unix.RTPROT_BIRD} {
			list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: netlink.RouteProtocol(proto)}, netlink.RT_FILTER_PROTOCOL)
			if err != nil {
				return err
			}
			n += len(list)
		}
		return nil
	}))
	return n
}

func manyRoutes(n int, peers ...string) [][]decide.Route {
	var out []decide.Route
	for i := range n {
		out = append(out, decide.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>16), byte(i >> 8), byte(i)}), 32), Peers: peers})
	}
	return slices.Collect(slices.Chunk(out, 50))
}

// overCables dials to the router of a cable by the peer's name, so that one speaker has several cables.
func overCables(cables map[string]*cable) Options {
	first := func() *cable {
		for _, c := range cables {
			return c
		}
		return nil
	}()
	return Options{
		Dial: func(ctx context.Context, n bgp.Neighbor) (net.Conn, error) { return cables[n.Name].dial(ctx, n) },
		NICs: first.nics,
	}
}

// testRestart restarts a speaker with two routers and a number of routes, of which one is not there any more afterwards. It returns how many
// routes each router took out of its kernel meanwhile, which should be that one.
func testRestart(t *testing.T, cables map[string]*cable, size int, end error) map[string]int64 {
	d := bgp.Desired{Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.5")}}
	var names []string
	for _, name := range []string{"r1", "r2"} {
		if _, ok := cables[name]; !ok {
			continue
		}
		names = append(names, name)
		p := configPeer(name, "10.9.0.1", "", 179, 64512, 64513, config.IPv4)
		p.Restart = config.GracefulRestart{Enabled: true, RestartTime: time.Minute}
		d.Peers = append(d.Peers, p)
	}
	// One router, one address: two peers would be the same. The ports of the model differ, the routers do not care.
	if len(d.Peers) == 2 {
		d.Peers[1].Address = netip.MustParseAddr("10.9.0.2")
	}
	d.Routes = manyRoutes(size, names...)
	a, stop := stoppableAnnouncer(overCables(cables), 0)
	began := time.Now()
	a.Set(d)
	for _, name := range names {
		eventuallyEvery(t, 200*time.Millisecond, "all routes in the kernel of "+name, func() bool { return cables[name].kernelRoutes() == size })
	}
	t.Logf("%d routes in the kernels of %d routers %s after Set", size, len(names), time.Since(began).Round(time.Millisecond))
	watches := map[string]*watch{}
	for _, name := range names {
		watches[name] = cables[name].watch()
	}
	stop(end)
	time.Sleep(time.Second) // the time a container takes to come back; nothing to wait for
	b, stopAgain := stoppableAnnouncer(overCables(cables), 0)
	d.Routes = append([][]decide.Route{d.Routes[0][1:]}, d.Routes[1:]...)
	began = time.Now()
	b.Set(d)
	deleted := map[string]int64{}
	for _, name := range names {
		eventuallyEvery(t, 200*time.Millisecond, "the route that is gone to leave the kernel of "+name, func() bool { return cables[name].kernelRoutes() == size-1 })
		t.Logf("%s has what it should have %s after the speaker was back", name, time.Since(began).Round(time.Millisecond))
		deleted[name] = watches[name].deleted.Load()
		if watches[name].lost.Load() > 0 {
			t.Errorf("%s: the watch lost events", name)
		}
	}
	began = time.Now()
	stopAgain(nil)
	for _, name := range names {
		eventuallyEvery(t, 200*time.Millisecond, "all routes to leave the kernel of "+name, func() bool { return cables[name].kernelRoutes() == 0 })
	}
	t.Logf("all withdrawn %s after the stop", time.Since(began).Round(time.Millisecond))
	return deleted
}

func frrCables(t *testing.T) map[string]*cable {
	conf := routerBGP("64513", "10.9.0.5 remote-as 64512")
	cables := map[string]*cable{"r1": newCable(t), "r2": newCable(t)}
	for name, c := range cables {
		if name == "r2" {
			must(t, inside(c.router, func() error { return setUp("eth1", "10.9.0.2/24") }))
		}
		c.frrWithKernel(strings.ReplaceAll(conf, "router-id 10.9.0.1", fmt.Sprintf("router-id 10.9.0.%s", name[1:])))
	}
	return cables
}

// TestFRRRestart: a restart takes no route out of the kernels of two FRR routers but the one that is not wanted any more.
func TestFRRRestart(t *testing.T) {
	size := 20_000
	if testing.Short() {
		size = 500
	}
	for name, n := range testRestart(t, frrCables(t), size, bgp.ErrRestarting) {
		if n != 1 {
			t.Errorf("%s took out %d routes, want the one that is gone", name, n)
		}
	}
}

// TestFRRStop: a stop that is none of a restart takes them all out, so the watch above sees what it should.
func TestFRRStop(t *testing.T) {
	const size = 300
	for name, n := range testRestart(t, frrCables(t), size, nil) {
		if n != size {
			t.Errorf("%s took out %d routes, want all %d", name, n, size)
		}
	}
}
