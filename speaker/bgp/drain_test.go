package bgp

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

const drainWait = 5 * time.Second

// stoppable starts an Announcer that drains, with one peer and one route.
func stoppable(t *testing.T, n *network) (a *Announcer, stop func(cause error) (took time.Duration)) {
	a = New(Options{Node: "node-1", Router: n, Log: slog.New(slog.DiscardHandler), DrainWait: drainWait})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	return a, func(cause error) time.Duration {
		began := time.Now()
		cancel(cause)
		<-done
		if left := n.String(); left != "" {
			t.Errorf("sessions left after Run:\n%s", left)
		}
		return time.Since(began)
	}
}

func onePeer() Desired {
	p := peer("a", "10.0.0.1", 65001)
	p.Restart = config.GracefulRestart{Enabled: true, RestartTime: time.Minute}
	return Desired{Peers: []*config.Peer{p}, Routes: [][]decide.Route{{route("192.0.2.1/32", "a")}}, Addresses: addrs("10.0.0.5")}
}

// told returns what the session of peer a is told.
func (n *network) told() (routes string, draining bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.running {
		for _, p := range slices.Concat(s.advert.Paths...) {
			routes += p.Prefix.String()
		}
		draining = s.advert.Draining
	}
	return routes, draining
}

func (n *network) expect(t *testing.T, when, routes string, draining bool) {
	t.Helper()
	synctest.Wait()
	if gotRoutes, gotDraining := n.told(); gotRoutes != routes || gotDraining != draining {
		t.Errorf("%s: told %q, draining %v; want %q, %v", when, gotRoutes, gotDraining, routes, draining)
	}
}

// fall makes the fake sessions say that they are down.
func (n *network) fall() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.running {
		s.status.State = Active
	}
}

// TestStop: peers are asked to look elsewhere, given time, then left with a word.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, stop := stoppable(t, n)
		d := onePeer()
		a.Set(d)
		synctest.Wait()
		n.expect(t, "before", "192.0.2.1/32", false)
		time.AfterFunc(drainWait/2, func() {
			n.expectLater(t, "half-way", "192.0.2.1/32", true)
			d.Routes = append(d.Routes, []decide.Route{route("192.0.2.2/32", "a")}) // what changes meanwhile still counts
			a.Set(d)
		})
		time.AfterFunc(drainWait-time.Millisecond, func() { n.expectLater(t, "at the end", "192.0.2.1/32192.0.2.2/32", true) })
		if took := stop(context.Canceled); took != drainWait {
			t.Errorf("the stop took %s, want %s", took, drainWait)
		}
		if diff := cmp.Diff([]string{"a: Herald stops on node-1"}, n.ended()); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
	})
}

// expectLater is expect for goroutines other than the test's.
func (n *network) expectLater(t *testing.T, when, routes string, draining bool) {
	if gotRoutes, gotDraining := n.told(); gotRoutes != routes || gotDraining != draining {
		t.Errorf("%s: told %q, draining %v; want %q, %v", when, gotRoutes, gotDraining, routes, draining)
	}
}

func TestStopWithoutRoutesIsQuick(t *testing.T) {
	for name, prepare := range map[string]func(*Announcer, *network){
		"nothing was ever asked for": func(*Announcer, *network) {},
		"there are none": func(a *Announcer, _ *network) {
			d := onePeer()
			d.Routes = nil
			a.Set(d)
		},
		"no session is up": func(a *Announcer, n *network) {
			a.Set(onePeer())
			synctest.Wait()
			n.fall()
		},
		"drained before": func(a *Announcer, n *network) {
			d := onePeer()
			a.Set(d)
			synctest.Wait()
			d.Draining = true
			a.Set(d)
			time.Sleep(2 * drainWait)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				a, stop := stoppable(t, n)
				prepare(a, n)
				synctest.Wait()
				if took := stop(context.Canceled); took != 0 {
					t.Errorf("the stop took %s", took)
				}
			})
		})
	}
}

// TestRestart: nothing is withdrawn, and nobody waits.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, stop := stoppable(t, n)
		a.Set(onePeer())
		synctest.Wait()
		if took := stop(ErrRestarting); took != 0 {
			t.Errorf("the restart took %s", took)
		}
		if diff := cmp.Diff([]string{"a: " + ErrRestarting.Error()}, n.ended()); diff != "" {
			t.Errorf("ends (-want +got):\n%s", diff)
		}
	})
}

// TestNodeDrains: routes are there with the request to avoid them for a while, then they are gone; the session stays, and all is back when
// the node comes back.
func TestNodeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, stop := stoppable(t, n)
		d := onePeer()
		for range 2 {
			d.Draining = false
			a.Set(d)
			n.expect(t, "in service", "192.0.2.1/32", false)
			d.Draining = true
			a.Set(d)
			n.expect(t, "draining", "192.0.2.1/32", true)
			time.Sleep(drainWait / 2)
			a.Set(d) // said again: no new beginning
			time.Sleep(drainWait/2 - time.Millisecond)
			n.expect(t, "still draining", "192.0.2.1/32", true)
			time.Sleep(time.Millisecond)
			n.expect(t, "drained", "", true)
			a.Set(d)
			n.expect(t, "drained, said again", "", true)
		}
		d.Draining = false
		a.Set(d)
		n.expect(t, "back", "192.0.2.1/32", false)
		d.Draining = true
		a.Set(d)
		d.Draining = false // changed their mind
		a.Set(d)
		time.Sleep(2 * drainWait)
		n.expect(t, "not drained after all", "192.0.2.1/32", false)
		if n.started("a") != 1 || len(n.ended()) != 0 {
			t.Errorf("%d starts, ends %v: draining must not touch the session", n.started("a"), n.ended())
		}
		stop(ErrRestarting)
	})
}

// TestDrainedFromTheStart: a node that was drained before its speaker came tells nobody of routes, not even of ones to avoid.
func TestDrainedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a, stop := stoppable(t, n)
		d := onePeer()
		d.Draining = true
		a.Set(d)
		n.expect(t, "drained from the start", "", true)
		d.Draining = false
		a.Set(d)
		n.expect(t, "in service", "192.0.2.1/32", false)
		stop(ErrRestarting)
	})
}

// TestWhichChangesReopen: a change that leaves both ends what they are keeps the routes; another does not.
func TestWhichChangesReopen(t *testing.T) {
	tests := map[string]struct {
		change func(*config.Peer)
		want   error
	}{
		"password":           {func(p *config.Peer) { p.Password = "new" }, ErrReopened},
		"hold time":          {func(p *config.Peer) { p.HoldTime *= 2 }, ErrReopened},
		"restart time":       {func(p *config.Peer) { p.Restart.RestartTime *= 2 }, ErrReopened},
		"families":           {func(p *config.Peer) { p.Families = []config.Family{config.IPv4, config.IPv6} }, ErrReopened},
		"TTL security":       {func(p *config.Peer) { p.TTLSecurity = true }, ErrReopened},
		"no longer kept":     {func(p *config.Peer) { p.Restart.Enabled = false }, ErrChanged},
		"our AS":             {func(p *config.Peer) { p.MyASN++ }, ErrChanged},
		"local AS":           {func(p *config.Peer) { p.LocalASN = 65077 }, ErrChanged},
		"their AS":           {func(p *config.Peer) { p.PeerASN++ }, ErrChanged},
		"address":            {func(p *config.Peer) { p.Address = p.Address.Next() }, ErrChanged},
		"source address":     {func(p *config.Peer) { p.Source = addrs("10.0.0.7")[0] }, ErrChanged},
		"device":             {func(p *config.Peer) { p.VRF = "red" }, ErrChanged},
		"becomes unnumbered": {func(p *config.Peer) { p.Address, p.Interface = addrs("::")[0].Next(), "eth0" }, ErrChanged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				a, stop := stoppable(t, n)
				d := onePeer()
				a.Set(d)
				synctest.Wait()
				changed := *d.Peers[0]
				tt.change(&changed)
				d.Peers = []*config.Peer{&changed}
				a.Set(d)
				time.Sleep(time.Minute)
				synctest.Wait()
				if diff := cmp.Diff([]string{"a: " + tt.want.Error()}, n.ended()); diff != "" || n.started("a") != 2 {
					t.Errorf("%d starts, ends (-want +got):\n%s", n.started("a"), diff)
				}
				stop(ErrRestarting)
			})
		})
	}
}

func TestUnnumberedPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a := start(t, n)
		unnumbered := func(name, iface string) *config.Peer {
			p := peer(name, "10.0.0.1", 0)
			p.Address, p.Interface, p.LocalASN = addrs("0.0.0.0")[0], iface, 65077
			return p
		}
		a.Set(Desired{Peers: []*config.Peer{unnumbered("a", "eth0"), unnumbered("b", "eth1"), unnumbered("c", "eth0")}, Addresses: addrs("10.0.0.5")})
		synctest.Wait()
		got := a.Sessions()
		if len(got) != 3 || got[0].Address != "eth0" || got[1].Address != "eth1" || got[0].LocalASN != 65077 {
			t.Errorf("sessions %+v", got)
		}
		if !strings.Contains(got[2].LastError, "BGPPeer a already has a session with the router on eth0") {
			t.Errorf("error of c %q", got[2].LastError)
		}
		if c := a.Counters(); len(c) != 2 {
			t.Errorf("counters %+v, want those of a and b", c)
		}
	})
}
