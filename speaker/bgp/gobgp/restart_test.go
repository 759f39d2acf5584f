package gobgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

// gracefully is a neighbour with graceful restart.
func gracefully() bgp.Neighbor {
	n := neighbor()
	n.Restart = config.GracefulRestart{Enabled: true, RestartTime: 2 * time.Minute}
	return n
}

// helperOpen is the OPEN of a router that keeps routes for others and cannot restart gracefully itself.
func helperOpen() open {
	o := routerOpen(64513)
	o.caps = append(o.caps, packet.NewCapGracefulRestart(false, false, 0, nil))
	return o
}

func TestOpenAsksForGracefulRestart(t *testing.T) {
	n := gracefully()
	n.Families, n.Restart.LongLived = bgp.Families{IPv4: true, IPv6: true}, time.Hour
	for fresh, flags := range map[bool]string{true: "8078", false: "0078"} { // restart flag, 120 s
		want := unhex(t, "40 0a "+flags+" 0001 01 80 0002 01 80"+"47 0e 0001 01 80 000e10 0002 01 80 000e10")
		if got := openMessage(n, fresh); !strings.HasSuffix(string(got), string(want)) {
			t.Errorf("OPEN\n got %x\nwant at its end %x", got, want)
		}
	}
	n.Restart.LongLived = 0
	if got := fmt.Sprintf("%x", openMessage(n, true)); !strings.HasSuffix(got, "400a8078"+"00010180"+"00020180") {
		t.Errorf("OPEN without long-lived graceful restart: %s", got)
	}
}

// TestEndOfRIB: the peer is told that it knows everything once it does, for each family, and not before anybody said what there is.
func TestEndOfRIB(t *testing.T) {
	n := gracefully()
	n.Families = bgp.Families{IPv4: true, IPv6: true}
	run(t, n, func(r *router, s *speaker) {
		for attempt := range 2 {
			r.establish(helperOpen())
			if attempt == 0 {
				r.quiet(20 * time.Second)
				s.Set(advert("192.0.2.1/32"))
			}
			m, _ := r.expect(packet.BGP_MSG_UPDATE)
			if got := len(m.Body.(*packet.BGPUpdate).NLRI); got != 1 {
				t.Errorf("%d prefixes come first, want 1", got)
			}
			for _, want := range []packet.RouteFamily{packet.RF_IPv4_UC, packet.RF_IPv6_UC} {
				m, _ = r.expect(packet.BGP_MSG_UPDATE)
				if eor, family := m.Body.(*packet.BGPUpdate).IsEndOfRib(); !eor || family != want {
					t.Errorf("then comes %v, want End-of-RIB for %v", m.Body, want)
				}
			}
			r.quiet(20 * time.Second)
			r.conn.Close()
		}
	})
}

func TestEndOfRIBWithoutRoutes(t *testing.T) {
	run(t, gracefully(), func(r *router, s *speaker) {
		s.Set(advert())
		r.establish(helperOpen())
		m, _ := r.expect(packet.BGP_MSG_UPDATE)
		if eor, _ := m.Body.(*packet.BGPUpdate).IsEndOfRib(); !eor {
			t.Errorf("got %v, want End-of-RIB", m.Body)
		}
	})
}

func TestNoEndOfRIBWithoutGracefulRestart(t *testing.T) {
	run(t, gracefully(), func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32"))
		r.establish(routerOpen(64513))
		r.expect(packet.BGP_MSG_UPDATE)
		r.quiet(20 * time.Second)
		if got := s.Status().Restart; got != 0 {
			t.Errorf("restart time %s with a router that keeps nothing", got)
		}
	})
}

// TestRestartFlag: only the first session of a process is that of a restarted speaker; the forwarding state is always there.
func TestRestartFlag(t *testing.T) {
	run(t, gracefully(), func(r *router, s *speaker) {
		for _, want := range []uint8{8, 8, 0, 0} {
			r.accept()
			m, _ := r.expect(packet.BGP_MSG_OPEN)
			i := slices.IndexFunc(caps(m), func(c packet.ParameterCapabilityInterface) bool { return c.Code() == packet.BGP_CAP_GRACEFUL_RESTART })
			c := caps(m)[i].(*packet.CapGracefulRestart)
			if c.Flags != want || c.Time != 120 || len(c.Tuples) != 1 || c.Tuples[0].Flags != 0x80 {
				t.Errorf("capability %+v, want flags %d", c, want)
			}
			if len(r.dials) > 1 { // the first attempt comes to nothing
				r.send(helperOpen().message())
				r.expect(packet.BGP_MSG_KEEPALIVE)
				r.send(packet.NewBGPKeepAliveMessage())
				synctest.Wait()
				if got := s.Status(); got.Restart != 2*time.Minute || got.State != bgp.Established {
					t.Errorf("status %+v", got)
				}
			}
			r.conn.Close()
		}
	})
}

func caps(m *packet.BGPMessage) []packet.ParameterCapabilityInterface {
	return capabilities(m.Body.(*packet.BGPOpen))
}

// TestEndings: what the peer hears at the end, by cause, with and without graceful restart.
func TestEndings(t *testing.T) {
	const kept = "" // the connection closes without a word
	words := strings.Repeat("ü", 100)
	tests := []struct {
		cause          error
		graceful, none string // the NOTIFICATION: code, subcode, data
	}{
		{bgp.ErrRestarting, kept, "0604" + "14" + fmt.Sprintf("%x", "the speaker restarts")},
		{bgp.ErrReopened, kept, "0606"},
		{bgp.ErrChanged, "0606", "0606"},
		{bgp.ErrRemoved, "0603", "0603"},
		{&bgp.Farewell{Words: "bye"}, "0602" + "03627965", "0602" + "03627965"},
		{&bgp.Farewell{Words: words}, "0602" + "80" + fmt.Sprintf("%x", words[:128]), "0602" + "80" + fmt.Sprintf("%x", words[:128])},
		{nil, "0602", "0602"},
	}
	for _, tt := range tests {
		for graceful, want := range map[bool]string{true: tt.graceful, false: tt.none} {
			t.Run(fmt.Sprintf("%.20v, graceful %v", tt.cause, graceful), func(t *testing.T) {
				run(t, gracefully(), func(r *router, s *speaker) {
					s.Set(advert("192.0.2.1/32"))
					if graceful {
						r.establish(helperOpen())
						r.expect(packet.BGP_MSG_UPDATE)
					} else {
						r.establish(routerOpen(64513))
					}
					r.expect(packet.BGP_MSG_UPDATE)
					synctest.Wait()
					s.cancel(tt.cause)
					got := ""
					m, raw, ok := r.next()
					if ok && m.Header.Type == packet.BGP_MSG_UPDATE { // nothing may stay, whatever the peer makes of the NOTIFICATION
						if u := m.Body.(*packet.BGPUpdate); len(u.WithdrawnRoutes) != 1 || !graceful {
							t.Errorf("at the end %v", u)
						}
						m, raw, ok = r.next()
					}
					if ok && m.Header.Type == packet.BGP_MSG_NOTIFICATION {
						got = fmt.Sprintf("%x", raw[packet.BGP_HEADER_LENGTH:])
						r.closed()
					} else if ok {
						t.Fatalf("message of type %d", m.Header.Type)
					}
					if got != want {
						t.Errorf("the peer hears %q, want %q", got, want)
					}
				})
			})
		}
	}
}

func TestDynamicASN(t *testing.T) {
	for asn, ok := range map[uint32]bool{64513: true, 4200000000: true, 64512: false, 0: false} {
		t.Run(fmt.Sprint(asn), func(t *testing.T) {
			n := neighbor()
			n.PeerASN = 0
			run(t, n, func(r *router, s *speaker) {
				s.Set(advert("192.0.2.1/32"))
				if ok {
					r.establish(routerOpen(asn))
					m, _ := r.expect(packet.BGP_MSG_UPDATE)
					if got := len(m.Body.(*packet.BGPUpdate).PathAttributes); got != 3 { // ORIGIN, AS_PATH, NEXT_HOP
						t.Errorf("%d attributes: %v", got, m.Body)
					}
					synctest.Wait()
					if got := s.Status().PeerASN; got != asn {
						t.Errorf("the peer's AS is %d, want %d", got, asn)
					}
					return
				}
				r.accept()
				r.expect(packet.BGP_MSG_OPEN)
				r.send(routerOpen(asn).message())
				r.expectNotification(2, 2)
				synctest.Wait()
				if got := s.Status().LastError; !strings.Contains(got, "dynamicASN says external") {
					t.Errorf("last error %q", got)
				}
			})
		})
	}
}

// TestUnnumbered waits for a router, talks to it over its link-local address, and finds another one when it is replaced.
func TestUnnumbered(t *testing.T) {
	n := neighbor()
	n.Address, n.Interface, n.Families = netip.Addr{}, "eth0", bgp.Families{IPv4: true, IPv6: true}
	run(t, n, func(r *router, s *speaker) {
		r.local = netip.MustParseAddr("fe80::5%eth0")
		s.Set(advert("192.0.2.1/32", "2001:db8:1::1/128"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := s.Status(); got.State != bgp.Active || got.LastError != "nobody there" || len(r.dials) != 0 {
			t.Errorf("status %+v, %d dials", got, len(r.dials))
		}
		o := routerOpen(64513)
		o.caps = append(o.caps, extCapability)
		for _, address := range []string{"fe80::1%eth0", "fe80::2%eth0"} {
			r.found <- netip.MustParseAddr(address)
			open := r.establish(o)
			if !slices.ContainsFunc(capabilities(open), func(c packet.ParameterCapabilityInterface) bool { return c.Code() == packet.BGP_CAP_EXTENDED_NEXTHOP }) {
				t.Errorf("OPEN without RFC 8950: %v", open)
			}
			for range 2 {
				m, _ := r.expect(packet.BGP_MSG_UPDATE)
				reach := m.Body.(*packet.BGPUpdate).PathAttributes[0].(*packet.PathAttributeMpReachNLRI)
				if got := reach.Nexthop.String(); got != "fe80::5" {
					t.Errorf("next hop %s, want fe80::5", got)
				}
			}
			synctest.Wait()
			if got := s.Status(); got.Remote.String() != address || got.Local.String() != "fe80::5" {
				t.Errorf("status %+v", got)
			}
			r.conn.Close()
		}
	})
}

// TestPeerThatOnlyWrites: a router that sends a full table before it reads anything must not wait for us while we wait for it.
func TestPeerThatOnlyWrites(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		r.establish(routerOpen(64513))
		synctest.Wait()
		s.Set(advert("192.0.2.1/32"))
		synctest.Wait() // the session is writing now, and nobody reads
		n := neighbor()
		n.LocalASN = 64513
		g := bgp.Group{Attributes: bgp.Attributes{NextHop: netip.MustParseAddr("10.0.0.1")}}
		for i := range 100_000 {
			g.Prefixes = append(g.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
		}
		messages := announcements(n, terms{fourOctets: true}, g)
		for _, m := range messages {
			r.write(m)
		}
		r.expect(packet.BGP_MSG_UPDATE)
		synctest.Wait()
		if got := s.Status(); got.Refused != 100_000 || got.Received != uint64(len(messages)) || got.State != bgp.Established {
			t.Errorf("status %+v, want 100,000 routes refused", got)
		}
	})
}

// TestReportsWhoItWas: after the end of a session its counters and the router stay readable.
func TestReportsWhoItWas(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32"))
		r.establish(routerOpen(64513))
		r.expect(packet.BGP_MSG_UPDATE)
		r.conn.Close()
		synctest.Wait()
		got := s.Status()
		if got.Sent != 1 || got.Ups != 1 || got.Downs != 1 || got.PeerASN != 64513 || got.Remote.String() != "10.0.0.1" || got.Advertised != (bgp.Count{}) {
			t.Errorf("status %+v", got)
		}
	})
}
