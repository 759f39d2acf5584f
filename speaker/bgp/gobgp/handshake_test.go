package gobgp

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/speaker/bgp"
)

func TestRefusals(t *testing.T) {
	notify := func(code, subcode uint8, data ...byte) func(*router) {
		return func(r *router) {
			r.send(packet.NewBGPNotificationMessage(code, subcode, data))
			r.closed()
		}
	}
	answer := func(o open, code, subcode uint8) func(*router) {
		return func(r *router) {
			r.send(o.message())
			r.expectNotification(code, subcode)
		}
	}
	adjusted := func(f func(*open)) open { o := routerOpen(64513); f(&o); return o }
	tests := []struct {
		name string
		does func(*router)
		want string
	}{
		{"the router does not expect our AS", notify(2, 2), "peer refused: bad peer AS 64512"},
		{"the router has another AS", answer(routerOpen(64999), 2, 2), "the router is AS 64999, but spec.peerASN says 64513"},
		{"no common family", answer(adjusted(func(o *open) {
			o.caps = []packet.ParameterCapabilityInterface{v6Capability, fourOctets(64513)}
		}), 2, 7), "the router offers IPv6, but spec.families wants IPv4"},
		{"hold time of 2 s", answer(adjusted(func(o *open) { o.hold = 2 }), 2, 6), "it must be 0 or at least 3s"},
		{"no identifier", answer(adjusted(func(o *open) { o.id = "0.0.0.0" }), 2, 3), "BGP identifier 0.0.0.0"},
		{"closes without a word", func(r *router) { r.conn.Close() }, "closed the connection without a word"},
		{"not configured there", notify(6, 5), "connection rejected: this node is not a neighbour of the router"},
		{"shut down there, with a word", notify(6, 2, 5, 'n', 'i', 'g', 'h', 't'), `administrative shutdown, the router says "night"`},
		{"shut down there, with a lie about the length", notify(6, 2, 200, 'n'), "administrative shutdown"},
		{"not BGP", func(r *router) {
			r.conn.SetWriteDeadline(time.Now().Add(time.Hour))
			go func() { _, _ = r.conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n")) }() // cut short when they hang up
			r.expectNotification(1, 1)
		}, "not BGP"},
		{"KEEPALIVE instead of OPEN", func(r *router) { r.send(packet.NewBGPKeepAliveMessage()); r.expectNotification(5, 1) }, "out of turn"},
		{"an unknown message", func(r *router) {
			r.write(unhex(r.t, marker+"0013 09"))
			r.expectNotification(1, 3)
		}, "unknown type 9"},
		{"a KEEPALIVE that is too long", func(r *router) {
			r.write(unhex(r.t, marker+"0014 04"))
			r.expectNotification(1, 2)
		}, "impossible length 20"},
		{"says nothing at all", func(r *router) { r.expectNotification(4, 0) }, "said nothing for 1m30s"},
		{"another version", func(r *router) {
			r.write(unhex(r.t, marker+"001d 01 03 fc01 005a 0a000001 00"))
			r.expectNotification(2, 1)
		}, "BGP version 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, neighbor(), func(r *router, s *speaker) {
				r.accept()
				r.expect(packet.BGP_MSG_OPEN)
				tt.does(r)
				synctest.Wait()
				got := s.Status()
				if got.State != bgp.Idle || !strings.Contains(got.LastError, tt.want) {
					t.Errorf("state %s, error %q; want Idle, %q", got.State, got.LastError, tt.want)
				}
				r.establish(routerOpen(64513)) // and it comes up once the reason is gone
				synctest.Wait()
				if got := s.Status().State; got != bgp.Established {
					t.Errorf("state %s after the reason was gone", got)
				}
			})
		})
	}
}

func TestInternalPeerWithOurIdentifier(t *testing.T) {
	n := neighbor()
	n.PeerASN = n.LocalASN
	run(t, n, func(r *router, s *speaker) {
		o := routerOpen(64512)
		o.id = n.RouterID.String()
		r.accept()
		r.expect(packet.BGP_MSG_OPEN)
		r.send(o.message())
		r.expectNotification(2, 3)
	})
}

func TestToleratesCapabilities(t *testing.T) {
	unknown := packet.NewCapUnknown(199, []byte{1, 2, 3})
	tests := []struct {
		name string
		open open
	}{
		{"none at all", open{asn: 64513, hold: 90}},
		{"no multiprotocol", open{asn: 64513, hold: 90, caps: []packet.ParameterCapabilityInterface{fourOctets(64513)}}},
		{"unknown and many", open{asn: 64513, hold: 90, caps: []packet.ParameterCapabilityInterface{
			unknown, v4Capability, v6Capability, packet.NewCapEnhancedRouteRefresh(), packet.NewCapRouteRefreshCisco(), packet.NewCapFQDN("r1", "example.net"),
			packet.NewCapGracefulRestart(true, true, 120, []*packet.CapGracefulRestartTuple{packet.NewCapGracefulRestartTuple(packet.RF_IPv4_UC, true)}),
			packet.NewCapUnknown(6, nil), // extended messages
			fourOctets(64513),
		}}},
		{"unknown parameter", open{asn: 64513, hold: 90, raw: []packet.OptionParameterInterface{
			&packet.OptionParameterUnknown{ParamType: 77, Value: []byte{9, 9}},
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			run(t, neighbor(), func(r *router, s *speaker) {
				s.Set(advert("192.0.2.1/32"))
				r.establish(tt.open)
				r.expect(packet.BGP_MSG_UPDATE)
			})
		})
	}
}

func TestPartOfTheFamilies(t *testing.T) {
	n := neighbor()
	n.Families = bgp.Families{IPv4: true, IPv6: true}
	run(t, n, func(r *router, s *speaker) {
		s.Set(advert("192.0.2.1/32", "2001:db8:1::1/128"))
		o := routerOpen(64513)
		o.caps = []packet.ParameterCapabilityInterface{v4Capability, fourOctets(64513)}
		r.establish(o)
		r.expect(packet.BGP_MSG_UPDATE)
		r.quiet(20 * time.Second)
		got := s.Status()
		if got.Families != (bgp.Families{IPv4: true}) || got.Advertised != (bgp.Count{IPv4: 1}) || !strings.Contains(got.LastError, "does not offer IPv6") {
			t.Errorf("status %+v", got)
		}
	})
}
