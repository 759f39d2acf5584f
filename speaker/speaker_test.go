package speaker

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

func vip() netip.Addr { return netip.MustParseAddr("192.0.2.10") }

func lan(mac string) []config.Interface {
	return []config.Interface{{Name: "eth0", Index: 2, MAC: mac, Up: true, Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}
}

// asked is a snapshot with one Service that has an address and is to be announced by ARP and by BGP, on nodes a and b.
func asked() *config.Snapshot {
	key := config.Key{Namespace: "default", Name: "web"}
	return &config.Snapshot{
		Synced: true,
		Pools:  []*config.Pool{{Name: "lan", Ranges: []config.Range{{From: vip(), To: vip()}}, AutoAssign: true}},
		Services: []*config.Service{{
			Key: key, Families: []config.Family{config.IPv4}, Ingress: []netip.Addr{vip()},
			Endpoints: config.Endpoints{Ready: map[string]int{"b": 1}},
		}},
		L2Advertisements:  []*config.L2Advertisement{{Name: "lan", Pools: config.All[string](), Services: config.All[config.Key](), Nodes: config.All[string]()}},
		BGPAdvertisements: []*config.BGPAdvertisement{{Name: "lan", Pools: config.All[string](), Services: config.All[config.Key](), Nodes: config.All[string](), Peers: config.All[string]()}},
		Peers:             []*config.Peer{{Name: "tor", Address: netip.MustParseAddr("192.0.2.1"), Nodes: config.All[string](), Families: []config.Family{config.IPv4}}},
		Nodes:             []*config.Node{{Name: "a", Ready: true}, {Name: "b", Ready: true}},
	}
}

func other(state decide.State, claims map[netip.Addr]decide.Claim) decide.Member {
	return decide.Member{Node: "b", State: state, Interfaces: lan("02:00:00:00:00:0b"), Claims: claims}
}

func viewOf(members ...decide.Member) *member.View {
	claims := decide.Memory{}
	for _, m := range members {
		for a, c := range m.Claims {
			claims[a] = max(claims[a], c.Counter)
		}
	}
	return &member.View{Members: members, Claims: claims, Known: 2, Alive: 1 + len(members), Heard: time.Now()}
}

// journey runs a speaker on node a in fake time, and lets the test change the world and look at it.
func journey(t *testing.T, steps func(t *testing.T, w *world, stop func() *Speaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.links = lan("02:00:00:00:00:0a")
		s := w.speaker("a")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		stop := func() *Speaker {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			return s
		}
		steps(t, w, stop)
		cancel()
	})
}

func (w *world) holds(t *testing.T, when string, want bool) {
	t.Helper()
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
	w.read(func(w *world) {
		if got := len(w.answers) == 1; got != want {
			t.Errorf("%s: answers for %v, want the address: %v", when, w.answers, want)
		}
	})
}

func TestNothingIsDoneOnMissingEvidence(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		unsynced := asked()
		unsynced.Synced = false
		w.change(func(w *world) { w.snap, w.view = unsynced, viewOf() })
		time.Sleep(time.Minute)
		synctest.Wait()
		w.read(func(w *world) {
			if w.set {
				t.Error("something was handed out before everything was listed")
			}
			if len(w.report.Troubles) != 1 || w.report.Troubles[0].Reason != "NotSynced" {
				t.Errorf("troubles %v", w.report.Troubles)
			}
		})
		w.change(func(w *world) { w.snap = asked() })
		time.Sleep(settleMost)
		w.holds(t, "after the last list", true)
		// The source starts over: absence means nothing again.
		w.change(func(w *world) { w.snap = &config.Snapshot{} })
		w.holds(t, "while the source starts over", true)
		stop()
	})
}

func TestWithoutGossipOnlyBGP(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap = asked() })
		time.Sleep(time.Minute)
		w.holds(t, "without gossip", false)
		w.read(func(w *world) {
			if len(w.routes) != 1 {
				t.Errorf("routes %v, want one", w.routes)
			}
			if len(w.report.Troubles) != 1 || w.report.Troubles[0].Reason != "GossipDown" {
				t.Errorf("troubles %v", w.report.Troubles)
			}
		})
		stop()
	})
}

func TestDeniedSocketsAreReported(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		time.Sleep(settleMost)
		for _, denied := range []bool{true, false} {
			w.change(func(w *world) { w.denied = denied })
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			w.read(func(w *world) {
				if got := len(w.report.Troubles) == 1 && w.report.Troubles[0].Reason == "PacketSocketsDenied"; got != denied {
					t.Errorf("denied %v: troubles %v", denied, w.report.Troubles)
				}
			})
		}
		stop()
	})
}

func TestListensBeforeItTakes(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		time.Sleep(settleQuiet)
		w.holds(t, "while b, which should be there, was not heard", false)
		taken := map[netip.Addr]decide.Claim{vip(): {Counter: 3, Majority: true}}
		w.change(func(w *world) { w.view = viewOf(other(decide.Up, taken)) })
		time.Sleep(time.Minute)
		w.holds(t, "while b has the address", false)
		w.change(func(w *world) {
			v := viewOf()
			v.Claims = decide.Memory{vip(): 3}
			w.view = v
		})
		w.holds(t, "when b is dead", true)
		w.read(func(w *world) {
			if c := w.said.Claims[vip()]; c.Counter != 4 || c.Majority {
				t.Errorf("claim %+v, want the next counter, without majority (one of two)", c)
			}
		})
		stop()
	})
}

// A newcomer that still listens must not be chosen; speakers that all come at once must be.
func TestNewcomerSaysThatItListens(t *testing.T) {
	for age, want := range map[time.Duration]decide.State{time.Hour: decide.Restarting, time.Second: decide.Up} {
		journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
			old := other(decide.Up, nil)
			old.Started = time.Now().Add(-age).UnixNano()
			w.change(func(w *world) { w.snap, w.view = asked(), viewOf(old) })
			time.Sleep(settleQuiet / 2)
			w.read(func(w *world) {
				if w.said.State != want {
					t.Errorf("beside one that started %v before: says %s while it listens, want %s", age, w.said.State, want)
				}
			})
			time.Sleep(settleQuiet)
			w.read(func(w *world) {
				if w.said.State != decide.Up {
					t.Errorf("says %s when it has listened", w.said.State)
				}
			})
			stop()
		})
	}
}

func TestYieldsToABetterClaimAndSaysSoAgain(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		time.Sleep(settleMost)
		w.holds(t, "alone", true)
		worse := map[netip.Addr]decide.Claim{vip(): {Counter: 0}}
		w.change(func(w *world) { w.view = viewOf(other(decide.Up, worse)) })
		w.holds(t, "with the better claim", true)
		w.change(func(w *world) { w.view = viewOf(other(decide.Up, nil)) })
		w.holds(t, "when the other gave up", true)
		w.read(func(w *world) {
			if len(w.again) != 2 {
				t.Errorf("announced again %d times, want when the other claim was heard and when it went", len(w.again))
			}
		})
		better := map[netip.Addr]decide.Claim{vip(): {Counter: 9, Majority: true}}
		w.change(func(w *world) { w.view = viewOf(other(decide.Up, better)) })
		w.holds(t, "with the worse claim", false)
		stop()
	})
}

// claim lets the wire carry a claim of the address by a hardware address.
func claim(mac string) func(*world) {
	return func(w *world) {
		w.claimed = []l2.Conflict{{Addr: vip(), Interface: "eth0", MAC: mac, First: time.Now(), Last: time.Now()}}
	}
}

func TestDefendsAtABoundedRate(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		time.Sleep(settleMost)
		w.holds(t, "alone", true)
		for range 100 { // ten claims a second, for ten seconds
			w.change(claim("02:00:00:00:00:ff"))
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		w.read(func(w *world) {
			if n := len(w.again); n < 1 || n > 2 {
				t.Errorf("announced again %d times, want at once and after ten seconds", n)
			}
		})
		stop()
	})
}

// A step that takes long, as with very many Services on a busy node, is not the process standing still: the others do not find this speaker dead.
func TestASlowStepIsNoFreeze(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		time.Sleep(settleMost)
		w.holds(t, "alone", true)
		w.change(func(w *world) { w.slow = 3 * frozenAfter })
		for range 5 {
			time.Sleep(2 * frozenAfter)
			w.change(func(w *world) {})
		}
		w.holds(t, "slow", true)
		w.read(func(w *world) {
			if w.resyncs > 0 {
				t.Errorf("asked the others %d times what happened meanwhile", w.resyncs)
			}
		})
		w.change(func(w *world) { w.slow = 0 })
		stop()
	})
}

// A node whose cable was out hears nobody when it is back, and would take everything for a moment.
func TestBackOnTheSegmentItListensFirst(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		time.Sleep(settleMost)
		w.holds(t, "alone", true)
		down := lan("02:00:00:00:00:0a")
		down[0].Up = false
		w.change(func(w *world) { w.links = down })
		w.holds(t, "cable out", false)
		time.Sleep(time.Minute)
		w.change(func(w *world) { w.links = lan("02:00:00:00:00:0a") })
		w.holds(t, "cable in, nobody heard yet", false)
		w.change(func(w *world) {
			w.view = viewOf(other(decide.Up, map[netip.Addr]decide.Claim{vip(): {Counter: 5, Majority: true}}))
		})
		w.holds(t, "the other has it", false)
		w.change(func(w *world) { w.links, w.view = down, viewOf() })
		w.holds(t, "cable out again", false)
		w.change(func(w *world) { w.links = lan("02:00:00:00:00:0a") })
		time.Sleep(settleMost)
		w.holds(t, "cable in, and nobody was heard for long", true)
		stop()
	})
}

// With gossip cut and the segment whole, one of two speakers goes on: the one that ranks better. Which that is does not matter here, but each
// must know it of itself.
func TestHearsARivalOnTheWire(t *testing.T) {
	goesOn := map[string]bool{}
	for self, peer := range map[string]string{"a": "b", "b": "a"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.links = lan("02:00:00:00:00:0" + self)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = w.speaker(self).Run(ctx) }()
			rival := decide.Member{Node: peer, Interfaces: lan("02:00:00:00:00:0" + peer)}
			w.change(func(w *world) { w.snap, w.view = asked(), viewOf(rival) }) // its hardware address becomes known
			time.Sleep(time.Minute)
			w.change(func(w *world) { w.view = viewOf() })
			w.holds(t, "gossip cut", true)
			w.change(claim("02:00:00:00:00:0" + peer))
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			w.read(func(w *world) { goesOn[self] = len(w.answers) == 1 })
			time.Sleep(rivalMemory - time.Second)
			w.holds(t, "the rival was heard lately", goesOn[self])
			time.Sleep(time.Second)
			w.holds(t, "the rival is not heard any more", true)
			w.change(claim("02:00:00:00:00:ff"))
			w.holds(t, "a stranger's claim", true)
		})
	}
	if goesOn["a"] == goesOn["b"] {
		t.Errorf("of two speakers that hear each other exactly one must go on: %v", goesOn)
	}
}

// One of three speakers is out of hearing for gossip, the segment is whole: whatever its rank, it gives way to one that goes on after it was
// told, as the other two do, who are the majority.
func TestGivesWayToOneThatInsists(t *testing.T) {
	for self, peer := range map[string]string{"a": "b", "b": "a"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.links = lan("02:00:00:00:00:0" + self)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = w.speaker(self).Run(ctx) }()
			alone := func(members ...decide.Member) *member.View {
				v := viewOf(members...)
				v.Known = 3
				return v
			}
			rival := decide.Member{Node: peer, Interfaces: lan("02:00:00:00:00:0" + peer)}
			w.change(func(w *world) { w.snap, w.view = asked(), alone(rival) })
			time.Sleep(time.Minute)
			w.change(func(w *world) { w.view = alone() })
			w.holds(t, "gossip cut", true)
			w.change(claim("02:00:00:00:00:0" + peer))
			for range 30 { // it answers every announcement of ours
				time.Sleep(100 * time.Millisecond)
				w.mu.Lock()
				news := len(w.again)
				w.again = nil
				w.mu.Unlock()
				if news > 0 {
					w.change(claim("02:00:00:00:00:0" + peer))
				}
			}
			w.holds(t, "three seconds later", false)
			for range 300 { // and goes on for half a minute
				time.Sleep(100 * time.Millisecond)
				w.mu.Lock()
				both := len(w.answers) > 0
				w.mu.Unlock()
				if both {
					w.change(claim("02:00:00:00:00:0" + peer))
				}
			}
			w.holds(t, "half a minute later", false)
		})
	}
}

func TestRetireHandsOver(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf(other(decide.Up, nil)) })
		time.Sleep(settleMost)
		taken := map[netip.Addr]decide.Claim{}
		w.read(func(w *world) {
			if len(w.answers) == 0 { // b is the better ranked: let it drain, so that a has the address
				taken = nil
			}
		})
		if taken == nil {
			w.change(func(w *world) { w.view = viewOf(other(decide.Draining, nil)) })
			w.holds(t, "b drains", true)
		}
		s := stop()
		retired := make(chan struct{})
		go func() { s.Retire(t.Context()); close(retired) }()
		w.holds(t, "draining, and nobody has taken over", true)
		w.read(func(w *world) {
			if w.said.State != decide.Draining || len(w.said.Claims) != 1 {
				t.Errorf("says %s with claims %v, want draining with its claim", w.said.State, w.said.Claims)
			}
		})
		w.change(func(w *world) { w.view = viewOf(other(decide.Up, map[netip.Addr]decide.Claim{vip(): {Counter: 9}})) })
		w.holds(t, "when the other has just said that it has it", true)
		time.Sleep(lingerMost)
		w.holds(t, "when the other has it", false)
		<-retired
	})
}

// Routers are asked to prefer other nodes while addresses are handed over, not after: both take their time.
func TestRetireDrainsRoutersMeanwhile(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf(other(decide.Draining, nil)) })
		time.Sleep(settleMost)
		w.holds(t, "the only one", true)
		s := stop()
		retired := make(chan struct{})
		go func() { s.Retire(t.Context()); close(retired) }()
		w.holds(t, "nobody has taken over", true)
		w.read(func(w *world) {
			if !w.draining || len(w.routes) != 1 {
				t.Errorf("draining %v with %d routes, want draining with the one there was", w.draining, len(w.routes))
			}
		})
		<-retired
	})
}

// A speaker that is told to stop for good before it has said anything says that: its earlier run is still waited for.
func TestRetireIsSaidByOneThatHasSaidNothing(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf() })
		synctest.Wait()
		w.read(func(w *world) {
			if w.said.Node != "" {
				t.Fatalf("has said %+v, and was not to have yet", w.said)
			}
		})
		s := stop()
		s.Retire(t.Context())
		w.read(func(w *world) {
			if w.said.State != decide.Draining || len(w.said.Claims) > 0 {
				t.Errorf("says %s with claims %v, want draining without any", w.said.State, w.said.Claims)
			}
		})
	})
}

func TestRetireDoesNotWaitForEver(t *testing.T) {
	journey(t, func(t *testing.T, w *world, stop func() *Speaker) {
		w.change(func(w *world) { w.snap, w.view = asked(), viewOf(other(decide.Draining, nil)) })
		time.Sleep(settleMost)
		w.holds(t, "the only one", true)
		s := stop()
		began := time.Now()
		s.Retire(t.Context())
		if took := time.Since(began); took != retireMost {
			t.Errorf("waited %v, want %v", took, retireMost)
		}
		w.holds(t, "afterwards", false)
	})
}
