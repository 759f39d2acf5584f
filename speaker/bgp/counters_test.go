package bgp

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
)

// TestCountersGoOn checks that what is counted for a peer goes on when its session is replaced, misses nothing of the one before, and goes with
// the peer.
func TestCountersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.farewell["a"] = 700 * time.Millisecond
		a := start(t, n)
		last := Counters{}
		look := func(what string, want Counters) {
			t.Helper()
			synctest.Wait()
			got := a.Counters()["a"]
			if got != want {
				t.Errorf("%s: %+v, want %+v", what, got, want)
			}
			if got.Ups < last.Ups || got.Downs < last.Downs {
				t.Errorf("%s: went back from %+v to %+v", what, last, got)
			}
			last = got
		}
		set := func(peers ...*config.Peer) { a.Set(Desired{Peers: peers, Addresses: addrs("10.0.0.5")}) }
		p := peer("a", "10.0.0.1", 65001)
		set(p)
		look("first session", Counters{Ups: 1})
		for i := range uint64(20) {
			q := *p
			q.HoldTime += time.Duration(i+1) * time.Second
			set(&q)
			look("saying goodbye", Counters{Ups: i + 1, Downs: i})
			time.Sleep(time.Second)
			look("replaced", Counters{Ups: i + 2, Downs: i + 1})
		}
		q := *p
		q.Address = p.Address.Next()
		set(&q)
		look("another router: both are there", Counters{Ups: 22, Downs: 20})
		time.Sleep(time.Second)
		look("another router", Counters{Ups: 22, Downs: 21})
		set()
		time.Sleep(time.Second)
		if got := a.Counters(); len(got) != 0 {
			t.Errorf("counters of no peer: %v", got)
		}
		last = Counters{}
		set(p)
		look("there again", Counters{Ups: 1})
	})
}

// TestCountersAreFew checks that sessions that are over are not kept for what they counted.
func TestCountersAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, newNetwork(t))
		p := peer("a", "10.0.0.1", 65001)
		for i := range 100 {
			q := *p
			q.HoldTime += time.Duration(i+1) * time.Second
			a.Set(Desired{Peers: []*config.Peer{&q}, Addresses: addrs("10.0.0.5")})
			time.Sleep(time.Second)
		}
		if kept := len((*a.held.Load())["a"].sessions); kept > 3 {
			t.Errorf("%d sessions are kept", kept)
		}
	})
}
