package gobgp

import (
	"testing"
	"testing/synctest"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

const failed = "BFD: the path to 10.0.0.1 failed"

// TestDrop: a session whose path failed is over at once, the router is told if it still hears, and the session is taken up again.
func TestDrop(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		s.Drop("there is nothing to drop yet")
		r.establish(routerOpen(64513))
		synctest.Wait()
		dropped := time.Now()
		s.Drop(failed)
		synctest.Wait()
		if st := s.Status(); st.State != bgp.Idle || st.LastError != failed || !st.Since.Equal(dropped) || st.Downs != 1 {
			t.Errorf("status %+v, want Idle since %s", st, dropped)
		}
		s.Drop("it is down already")
		r.expectNotification(packet.BGP_ERROR_CEASE, bfdDown)
		r.establish(routerOpen(64513))
		synctest.Wait()
		if st := s.Status(); st.State != bgp.Established || st.LastError != failed {
			t.Errorf("status %+v, want Established with the last error to read", st)
		}
		r.quiet(time.Second)
	})
}

// TestDropWhileWriting: a write that the failed path holds up is not waited for.
func TestDropWhileWriting(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		r.establish(routerOpen(64513))
		synctest.Wait()
		s.Set(advert("192.0.2.1/32")) // the router does not read
		synctest.Wait()
		s.Drop(failed)
		synctest.Wait()
		if st := s.Status(); st.State != bgp.Idle || st.LastError != failed {
			t.Errorf("status %+v, want Idle", st)
		}
		began := time.Now()
		r.conn.Close()
		r.establish(routerOpen(64513))
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("back after %s, want about the connect time", took)
		}
		r.expect(packet.BGP_MSG_UPDATE)
	})
}

// TestDropInHandshake: an attempt ends with its path, too.
func TestDropInHandshake(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		r.accept()
		r.expect(packet.BGP_MSG_OPEN)
		synctest.Wait()
		s.Drop(failed)
		r.expectNotification(packet.BGP_ERROR_CEASE, bfdDown)
		synctest.Wait()
		if st := s.Status(); st.State != bgp.Idle || st.LastError != failed || st.Downs != 0 {
			t.Errorf("status %+v, want Idle", st)
		}
	})
}
