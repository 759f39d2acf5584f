package gobgp

import (
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

// lasting establishes a session that lasts, and ends it as a router does that goes down.
func (r *router) lasting() {
	r.t.Helper()
	r.establish(routerOpen(64513))
	for range 3 {
		r.expect(packet.BGP_MSG_KEEPALIVE)
		r.send(packet.NewBGPKeepAliveMessage())
	}
	r.conn.Close()
}

// TestRouterComesBack: a router that was away is found before half of that time has passed once more, and never later than by the connect
// time, whether it refuses connections meanwhile or is silent.
func TestRouterComesBack(t *testing.T) {
	for range 20 {
		away := rand.N(2 * time.Minute)
		silent := rand.N(2) == 0
		run(t, neighbor(), func(r *router, _ *speaker) {
			r.lasting()
			r.refuse.Store(!silent)
			gone := time.Now()
			time.Sleep(away)
			synctest.Wait()
			r.refuse.Store(false)
			back := time.Now()
			r.establish(routerOpen(64513))
			if took, most := time.Since(back), min(away/2+2*time.Second, 10*time.Second); took > most {
				t.Errorf("away for %s (silent: %v): back %s after it was there again, want %s at most; attempts %v", away, silent, took, most, since(gone, r.dials))
			}
		})
	}
}

func since(t time.Time, list []time.Time) (out []time.Duration) {
	for _, x := range list {
		if x.After(t) {
			out = append(out, x.Sub(t))
		}
	}
	return out
}

// TestHasten: a session that is down is tried at once when the router is said to be back, also when an attempt is under way that nobody has
// answered; one that is up takes no notice, then or later.
func TestHasten(t *testing.T) {
	for _, silent := range []bool{false, true} {
		run(t, neighbor(), func(r *router, s *speaker) {
			s.Hasten()
			synctest.Wait()
			r.lasting()
			r.refuse.Store(!silent)
			time.Sleep(time.Hour + 3*time.Second)
			synctest.Wait()
			before := s.Status()
			r.refuse.Store(false)
			s.Hasten()
			began := time.Now()
			r.establish(routerOpen(64513))
			synctest.Wait()
			if took := time.Since(began); took != 0 {
				t.Errorf("silent: %v: up %s after it was hastened, want at once", silent, took)
			}
			if got := s.Status(); got.State != bgp.Established || got.LastError != before.LastError || strings.Contains(got.LastError, "back") {
				t.Errorf("silent: %v: status %+v", silent, got)
			}
			s.Hasten()
			synctest.Wait()
			r.send(packet.NewBGPNotificationMessage(6, 4, nil)) // too soon: must not be tried at once
			r.closed()
			dropped := time.Now()
			r.establish(routerOpen(64513))
			if took := time.Since(dropped); took < 7*time.Second {
				t.Errorf("silent: %v: back %s after a session of no length, want about the connect time", silent, took)
			}
		})
	}
}
