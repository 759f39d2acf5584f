package gobgp

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/heraldlb/herald/speaker/bgp"
)

// TestFullTable: a router that sends all routes of the Internet costs no memory, and the session goes on.
func TestFullTable(t *testing.T) {
	const messages, each = 250_000, 4
	run(t, neighbor(), func(r *router, s *speaker) {
		r.establish(routerOpen(64513))
		synctest.Wait()
		n := neighbor()
		n.LocalASN = 64513
		g := bgp.Group{Attributes: bgp.Attributes{NextHop: netip.MustParseAddr("10.0.0.1")}}
		for i := range each {
			g.Prefixes = append(g.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, 0, byte(i), 0}), 24))
		}
		message := announcements(n, terms{fourOctets: true}, g)[0]
		before := heap()
		for i := range messages {
			for k := range each { // the prefixes are at the end, four octets each
				binary.BigEndian.PutUint32(message[len(message)-4*(k+1):], 24<<24|uint32(i*each+k))
			}
			r.write(message)
		}
		synctest.Wait()
		after := heap()
		kept := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		if got := s.Status(); got.Refused != messages*each || got.State != bgp.Established {
			t.Errorf("status %+v, want %d routes refused", got, messages*each)
		}
		t.Logf("%d routes: %d KiB are kept", messages*each, kept>>10)
		if kept > 1<<20 {
			t.Errorf("%d octets are kept of %d routes", kept, messages*each)
		}
	})
}

// heap returns what is in use once what is not has been collected.
func heap() runtime.MemStats {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m
}
