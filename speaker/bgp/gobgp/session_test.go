package gobgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

const marker = "ffffffff ffffffff ffffffff ffffffff "

func TestUpdateBytes(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1")
	both := bgp.Families{IPv4: true, IPv6: true}
	tests := []struct {
		name   string
		adjust func(*bgp.Neighbor, *open)
		prefix string
		want   string
	}{
		{
			"external, four octets: no LOCAL_PREF",
			func(n *bgp.Neighbor, o *open) {},
			"192.0.2.1/32",
			marker + "0030 02 0000 0014" + // length 48, UPDATE, nothing withdrawn, 20 octets of attributes
				"40 01 01 00" + // ORIGIN igp
				"40 02 06 02 01 0000fc00" + // AS_PATH 64512
				"40 03 04 0a000005" + // NEXT_HOP
				"20 c0000201",
		},
		{
			"internal: AS_PATH empty, LOCAL_PREF 100",
			func(n *bgp.Neighbor, o *open) { n.PeerASN, *o = 64512, routerOpen(64512) },
			"192.0.2.1/32",
			marker + "0031 02 0000 0015 40 01 01 00 40 02 00 40 03 04 0a000005 40 05 04 00000064 20 c0000201",
		},
		{
			"to a two-octet peer a large AS goes into AS4_PATH",
			func(n *bgp.Neighbor, o *open) {
				n.LocalASN = 4200000001
				o.caps = []packet.ParameterCapabilityInterface{v4Capability}
			},
			"192.0.2.0/24",
			marker + "0036 02 0000 001b 40 01 01 00 40 02 04 02 01 5ba0 40 03 04 0a000005 c0 11 06 02 01 fa56ea01 18 c00002",
		},
		{
			"IPv6 over IPv6",
			func(n *bgp.Neighbor, o *open) { n.Address, n.Families = v6, bgp.Families{IPv6: true} },
			"2001:db8:1::1/128",
			marker + "004d 02 0000 0036" + // MP_REACH_NLRI first
				"80 0e 26 0002 01 10 20010db8 00000000 00000000 00000005 00 80 20010db8 00010000 00000000 00000001" +
				"40 01 01 00 40 02 06 02 01 0000fc00",
		},
		{
			"IPv6 over IPv4 has a next hop of the node",
			func(n *bgp.Neighbor, o *open) { n.Families = both },
			"2001:db8:1::/48",
			marker + "0043 02 0000 002c 80 0e 1c 0002 01 10 20010db8 00000000 00000000 00000005 00 30 20010db8 0001" +
				"40 01 01 00 40 02 06 02 01 0000fc00",
		},
		{
			"IPv4 over IPv6 (RFC 8950)",
			func(n *bgp.Neighbor, o *open) {
				n.Address, n.Families, o.caps = v6, both, append(o.caps, extCapability)
			},
			"192.0.2.1/32",
			marker + "0041 02 0000 002a 80 0e 1a 0001 01 10 20010db8 00000000 00000000 00000005 00 20 c0000201" +
				"40 01 01 00 40 02 06 02 01 0000fc00",
		},
		{
			"IPv4 over IPv6 to a peer without RFC 8950",
			func(n *bgp.Neighbor, o *open) { n.Address, n.Families = v6, both },
			"192.0.2.1/32",
			marker + "0030 02 0000 0014 40 01 01 00 40 02 06 02 01 0000fc00 40 03 04 0a000005 20 c0000201",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, o := neighbor(), routerOpen(64513)
			tt.adjust(&n, &o)
			run(t, n, func(r *router, s *speaker) {
				s.Set(advert(tt.prefix))
				r.establish(o)
				_, raw := r.expect(packet.BGP_MSG_UPDATE)
				if want := unhex(t, tt.want); string(raw) != string(want) {
					t.Errorf("UPDATE\n got %x\nwant %x", raw, want)
				}
			})
		})
	}
}

func TestOpenBytes(t *testing.T) {
	n := neighbor()
	n.Address, n.Families, n.LocalASN = netip.MustParseAddr("2001:db8::1"), bgp.Families{IPv4: true, IPv6: true}, 4200000001
	want := unhex(t, marker+"003b 01 04 5ba0 005a 0a000005 1e 02 1c"+
		"02 00"+ // route refresh
		"01 04 0001 00 01"+"01 04 0002 00 01"+ // IPv4, IPv6 unicast
		"05 06 0001 0001 0002"+ // IPv4 unicast with IPv6 next hop
		"41 04 fa56ea01") // AS 4200000001
	if got := openMessage(n, true); string(got) != string(want) {
		t.Errorf("OPEN\n got %x\nwant %x", got, want)
	}
}

func TestOneChangeIsOneUpdate(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32", "192.0.2.2/32"))
		r.establish(routerOpen(64513))
		m, _ := r.expect(packet.BGP_MSG_UPDATE)
		if got := len(m.Body.(*packet.BGPUpdate).NLRI); got != 2 {
			t.Fatalf("first UPDATE has %d prefixes, want 2", got)
		}
		before := time.Now()
		s.Set(advert("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"))
		m, _ = r.expect(packet.BGP_MSG_UPDATE)
		if u := m.Body.(*packet.BGPUpdate); len(u.NLRI) != 1 || len(u.WithdrawnRoutes) != 0 {
			t.Errorf("UPDATE for one new route: %v", u)
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("the UPDATE was held back for %s", waited)
		}
		s.Set(advert("192.0.2.1/32", "192.0.2.3/32"))
		m, _ = r.expect(packet.BGP_MSG_UPDATE)
		if u := m.Body.(*packet.BGPUpdate); len(u.NLRI) != 0 || len(u.WithdrawnRoutes) != 1 {
			t.Errorf("UPDATE for one withdrawn route: %v", u)
		}
		s.Set(advert("192.0.2.1/32", "192.0.2.3/32"))
		r.quiet(20 * time.Second)
		if got := s.Status(); got.Advertised != (bgp.Count{IPv4: 2}) || got.Sent != 3 {
			t.Errorf("status %+v, want 2 advertised, 3 UPDATEs sent", got)
		}
	})
}

func TestAddsBeforeDeletes(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32"))
		r.establish(routerOpen(64513))
		r.expect(packet.BGP_MSG_UPDATE)
		s.Set(advert("192.0.2.2/32"))
		m, _ := r.expect(packet.BGP_MSG_UPDATE)
		if len(m.Body.(*packet.BGPUpdate).NLRI) != 1 {
			t.Errorf("first came %v, want the announcement", m.Body)
		}
		m, _ = r.expect(packet.BGP_MSG_UPDATE)
		if len(m.Body.(*packet.BGPUpdate).WithdrawnRoutes) != 1 {
			t.Errorf("second came %v, want the withdrawal", m.Body)
		}
	})
}

func TestHoldTimer(t *testing.T) {
	n := neighbor()
	n.Hold, n.Keepalive = 9*time.Second, 3*time.Second
	run(t, n, func(r *router, s *speaker) {
		r.establish(routerOpen(64513))
		began := time.Now()
		r.expectNotification(packet.BGP_ERROR_HOLD_TIMER_EXPIRED, 0)
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("the session ended after %s of silence, want 9s", took)
		}
		synctest.Wait()
		if got := s.Status(); got.State != bgp.Idle || !strings.Contains(got.LastError, "hold timer expired") {
			t.Errorf("status %+v", got)
		}
	})
}

func TestKeepalives(t *testing.T) {
	n := neighbor()
	n.Hold, n.Keepalive = 90*time.Second, 30*time.Second
	run(t, n, func(r *router, s *speaker) {
		o := routerOpen(64513)
		o.hold = 30 // the smaller one counts, and so KEEPALIVEs come every 7.5 to 10 s
		r.establish(o)
		synctest.Wait()
		if got := s.Status().Hold; got != 30*time.Second {
			t.Errorf("hold time %s, want 30s", got)
		}
		for range 20 {
			last := time.Now()
			r.expect(packet.BGP_MSG_KEEPALIVE)
			if gap := time.Since(last); gap < 7500*time.Millisecond || gap > 10*time.Second {
				t.Errorf("%s between two KEEPALIVEs, want 7.5s to 10s", gap)
			}
			r.send(packet.NewBGPKeepAliveMessage())
		}
		if got := s.Status().State; got != bgp.Established {
			t.Errorf("state %s after a while of KEEPALIVEs", got)
		}
	})
}

func TestHoldTimeZero(t *testing.T) {
	for _, side := range []string{"ours", "theirs"} {
		t.Run(side, func(t *testing.T) {
			n, o := neighbor(), routerOpen(64513)
			if side == "ours" {
				n.Hold, n.Keepalive = 0, 0
			} else {
				o.hold = 0
			}
			run(t, n, func(r *router, s *speaker) {
				if got := r.establish(o); side == "ours" && got.HoldTime != 0 {
					t.Errorf("OPEN asks for a hold time of %d, want 0", got.HoldTime)
				}
				before := time.Now()
				r.conn.SetReadDeadline(before.Add(12 * time.Hour))
				if _, err := readFrame(r.conn, make([]byte, packet.BGP_MAX_MESSAGE_LENGTH)); err == nil {
					t.Errorf("a message after %s; want none without a hold time", time.Since(before))
				}
				s.Set(advert("192.0.2.1/32"))
				r.expect(packet.BGP_MSG_UPDATE)
				if got := s.Status(); got.State != bgp.Established || got.Hold != 0 {
					t.Errorf("status %+v, want Established without a hold time", got)
				}
			})
		})
	}
}

func TestReconnects(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		began := time.Now()
		r.establish(routerOpen(64513))
		if took := time.Since(began); took != 0 {
			t.Errorf("the first session came up after %s, want at once", took)
		}
		r.conn.Close() // too soon: it must not be tried at once
		dropped := time.Now()
		r.establish(routerOpen(64513))
		if took := time.Since(dropped); took < 7*time.Second || took > 10*time.Second {
			t.Errorf("back %s after a session of no length, want about the connect time", took)
		}
		for range 3 {
			r.expect(packet.BGP_MSG_KEEPALIVE)
			r.send(packet.NewBGPKeepAliveMessage())
		}
		r.send(packet.NewBGPNotificationMessage(6, 4, nil))
		r.closed()
		dropped = time.Now()
		r.establish(routerOpen(64513))
		if took := time.Since(dropped); took > 100*time.Millisecond {
			t.Errorf("back %s after a session that had lasted, want at once", took)
		}
		synctest.Wait()
		if got := s.Status(); got.State != bgp.Established || !strings.Contains(got.LastError, "administrative reset") {
			t.Errorf("status %+v, want Established with the last error to read", got)
		}
	})
}

func TestTellsEverythingAgainAfterReconnect(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32", "192.0.2.2/32"))
		for range 2 {
			r.establish(routerOpen(64513))
			m, _ := r.expect(packet.BGP_MSG_UPDATE)
			if got := len(m.Body.(*packet.BGPUpdate).NLRI); got != 2 {
				t.Errorf("%d prefixes, want 2", got)
			}
			r.conn.Close()
		}
	})
}

func TestDownForADay(t *testing.T) {
	n := neighbor()
	down := func(r *router, s *speaker) {
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		got := s.Status()
		if got.State != bgp.Active || !strings.Contains(got.LastError, "refuses TCP connections") {
			t.Errorf("status %+v", got)
		}
		if s.changes.Load() > 3 {
			t.Errorf("%d changes of status in a day of one and the same failure", s.changes.Load())
		}
		for i := 12; i < len(r.dials); i++ {
			if gap := r.dials[i].Sub(r.dials[i-1]); gap < 7500*time.Millisecond || gap > 10*time.Second {
				t.Fatalf("%s between two attempts, want 7.5s to 10s", gap)
			}
		}
		a := advert()
		a.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.9")}
		attempts := len(r.dials)
		s.Set(a)
		synctest.Wait()
		if len(r.dials) != attempts+1 {
			t.Error("a change of the node's addresses did not cause an attempt at once")
		}
		s.Set(bgp.Advert{Paths: advert("192.0.2.1/32").Paths, Addresses: a.Addresses})
		synctest.Wait()
		if len(r.dials) != attempts+1 {
			t.Error("a change of routes caused an attempt")
		}
	}
	run(t, n, func(r *router, s *speaker) {
		r.accept()
		r.refuse.Store(true)
		r.conn.Close()
		down(r, s)
	})
}

func TestGoodbyes(t *testing.T) {
	for cause, subcode := range map[error]uint8{nil: 2, bgp.ErrRemoved: 3, bgp.ErrChanged: 6} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
			run(t, neighbor(), func(r *router, s *speaker) {
				r.establish(routerOpen(64513))
				synctest.Wait()
				s.cancel(cause)
				r.expectNotification(packet.BGP_ERROR_CEASE, subcode)
				<-s.done
				if got := s.Status().State; got != bgp.Idle {
					t.Errorf("state %s after the end", got)
				}
			})
		})
	}
}

// TestRouterThatDoesNotRead checks that Set never blocks, that a stop does not wait for such a router, and that it is given up.
func TestRouterThatDoesNotRead(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		r.establish(routerOpen(64513))
		synctest.Wait()
		began := time.Now()
		for i := range 100 {
			s.Set(advert(fmt.Sprintf("192.0.2.%d/32", i)))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("Set took %s", took)
		}
		time.Sleep(90*time.Second + shortestDial/2)
		synctest.Wait()
		if got := s.Status().LastError; !strings.Contains(got, "has read nothing") {
			t.Errorf("last error %q", got)
		}
		r.conn.Close()
		r.establish(routerOpen(64513))
		synctest.Wait()
		s.Set(advert("192.0.2.1/32"))
		synctest.Wait()
		began = time.Now()
		s.stop(bgp.ErrRemoved)
		if took := time.Since(began); took > 3*goodbye {
			t.Errorf("the end took %s", took)
		}
	})
}

func TestRouteRefresh(t *testing.T) {
	n := neighbor()
	n.Families = bgp.Families{IPv4: true, IPv6: true}
	run(t, n, func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32", "192.0.2.2/32", "2001:db8:1::1/128"))
		r.establish(routerOpen(64513))
		r.expect(packet.BGP_MSG_UPDATE)
		r.expect(packet.BGP_MSG_UPDATE)
		r.send(packet.NewBGPRouteRefreshMessage(packet.AFI_IP, 0, packet.SAFI_UNICAST))
		m, _ := r.expect(packet.BGP_MSG_UPDATE)
		if got := len(m.Body.(*packet.BGPUpdate).NLRI); got != 2 {
			t.Errorf("%d IPv4 prefixes after a refresh, want 2", got)
		}
		r.send(packet.NewBGPRouteRefreshMessage(packet.AFI_L2VPN, 0, packet.SAFI_EVPN))
		r.quiet(20 * time.Second)
	})
}

func TestReceivedRoutesAreDropped(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		r.establish(routerOpen(64513))
		n := neighbor()
		n.LocalASN = 64513
		a := bgp.Attributes{NextHop: netip.MustParseAddr("10.0.0.1")}
		g := bgp.Group{Attributes: a, Prefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("198.51.100.0/24")}}
		r.write(announcements(n, terms{fourOctets: true}, g)[0])
		r.write(unhex(t, marker+"001a 02 ffff 1234 5678 9a")) // malformed: lengths that lie
		r.send(packet.NewEndOfRib(packet.RF_IPv4_UC))
		r.quiet(20 * time.Second)
		if got := s.Status(); got.State != bgp.Established || got.Received != 3 || got.Refused != 2 {
			t.Errorf("status %+v, want Established, 3 UPDATEs, 2 routes refused", got)
		}
	})
}

func TestNoNextHop(t *testing.T) {
	n := neighbor()
	n.Families = bgp.Families{IPv4: true, IPv6: true}
	run(t, n, func(r *router, s *speaker) {
		r.local = netip.MustParseAddr("10.9.9.9") // on no interface, and the node has no IPv6 address that Kubernetes knows
		s.Set(advert("192.0.2.1/32", "2001:db8:1::1/128"))
		r.establish(routerOpen(64513))
		r.expect(packet.BGP_MSG_UPDATE)
		synctest.Wait()
		if got := s.Status(); got.Advertised != (bgp.Count{IPv4: 1}) || !strings.Contains(got.LastError, "IPv6 routes are not advertised") {
			t.Errorf("status %+v", got)
		}
		a := advert("192.0.2.1/32", "2001:db8:1::1/128")
		a.Addresses = []netip.Addr{netip.MustParseAddr("2001:db8::77")}
		s.Set(a)
		m, _ := r.expect(packet.BGP_MSG_UPDATE)
		if got := fmt.Sprint(m.Body.(*packet.BGPUpdate).PathAttributes); !strings.Contains(got, "2001:db8::77") {
			t.Errorf("attributes %s, want the node's new address as next hop", got)
		}
	})
}
