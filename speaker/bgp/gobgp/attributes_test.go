package gobgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

func communities(t *testing.T, list ...string) config.Communities {
	t.Helper()
	var out []config.Community
	for _, s := range list {
		c, err := config.ParseCommunity(s)
		must(t, err)
		out = append(out, c)
	}
	return config.CommunitiesOf(out...)
}

// TestAttributeBytes compares the attributes of one UPDATE with what the RFCs say, octet for octet.
func TestAttributeBytes(t *testing.T) {
	const (
		origin, path, hop = "40 01 01 00 ", "40 02 06 02 01 0000fc00 ", "40 03 04 0a000005 "
		emptyPath         = "40 02 00 "
	)
	tests := []struct {
		name     string
		internal bool
		asn      uint32
		narrow   bool // the peer knows two-octet AS numbers only
		attrs    config.RouteAttributes
		want     string
	}{
		{
			name:  "communities of each kind, sorted",
			attrs: config.RouteAttributes{Communities: communities(t, "no-export", "65000:100", "large:4200000000:1:2", "rt:65000:100", "soo:192.0.2.1:7")},
			want: origin + path + hop + "c0 08 08 fde80064 ffffff01" +
				"c0 10 10 0002fde800000064 0103c00002010007" + "c0 20 0c fa56ea00 00000001 00000002",
		},
		{name: "MED 0 is told", attrs: config.RouteAttributes{MED: config.Some(0)}, want: origin + path + hop + "80 04 04 00000000"},
		{
			name: "prepend", attrs: config.RouteAttributes{Prepend: 2},
			want: origin + "40 02 0e 02 03 0000fc00 0000fc00 0000fc00" + hop,
		},
		{
			name: "prepend with a large AS to a two-octet peer", asn: 4200000001, narrow: true, attrs: config.RouteAttributes{Prepend: 1, MED: config.Some(7)},
			want: origin + "40 02 06 02 02 5ba0 5ba0" + hop + "80 04 04 00000007" + "c0 11 0a 02 02 fa56ea01 fa56ea01",
		},
		{
			name: "external: no LOCAL_PREF although it is given", attrs: config.RouteAttributes{LocalPref: config.Some(300)},
			want: origin + path + hop,
		},
		{
			name: "internal: LOCAL_PREF, MED, no prepend", internal: true,
			attrs: config.RouteAttributes{LocalPref: config.Some(300), MED: config.Some(5), Prepend: 3},
			want:  origin + emptyPath + hop + "80 04 04 00000005" + "40 05 04 0000012c",
		},
		{ // 3 × 125,000 octets per second as IEEE float: 375000 = 0x48b71b00
			name: "link bandwidth", attrs: config.RouteAttributes{Weight: 3},
			want: origin + path + hop + "c0 10 08 4004fc00 48b71b00",
		},
		{
			name: "link bandwidth of a four-octet AS", asn: 4200000001, attrs: config.RouteAttributes{Weight: 1},
			want: origin + "40 02 06 02 01 fa56ea01" + hop + "c0 10 08 40045ba0 47f42400",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, o := neighbor(), routerOpen(64513)
			if tt.asn != 0 {
				n.LocalASN = tt.asn
			}
			if tt.internal {
				n.PeerASN, o = n.LocalASN, routerOpen(n.LocalASN)
			}
			if tt.narrow {
				o.caps = []packet.ParameterCapabilityInterface{v4Capability}
			}
			run(t, n, func(r *router, s *speaker) {
				s.Set(bgp.Advert{Paths: [][]bgp.Path{{{Prefix: netip.MustParsePrefix("192.0.2.1/32"), RouteAttributes: tt.attrs}}}})
				r.establish(o)
				_, raw := r.expect(packet.BGP_MSG_UPDATE)
				attrs := unhex(t, tt.want)
				want := update(nil, attrs, []byte{32, 192, 0, 2, 1})
				if string(raw) != string(want) {
					t.Errorf("UPDATE\n got %x\nwant %x", raw, want)
				}
			})
		})
	}
}

// TestManyCommunities: more than 63 need the longer length field, more than fit are told of and leave the others alone.
func TestManyCommunities(t *testing.T) {
	var standard []config.Community
	for i := range 500 {
		standard = append(standard, config.Standard(uint32(i)))
	}
	run(t, neighbor(), func(r *router, s *speaker) {
		a := advert("192.0.2.1/32", "192.0.2.2/32")
		a.Paths[0][0].Communities = config.CommunitiesOf(standard...)
		a.Paths[0][1].Communities = config.CommunitiesOf(largest(317)...)
		s.Set(a)
		r.establish(routerOpen(64513))
		m, raw := r.expect(packet.BGP_MSG_UPDATE)
		if len(raw) > packet.BGP_MAX_MESSAGE_LENGTH {
			t.Errorf("message of %d octets", len(raw))
		}
		for _, attr := range m.Body.(*packet.BGPUpdate).PathAttributes {
			if c, ok := attr.(*packet.PathAttributeCommunities); ok && len(c.Value) != 500 {
				t.Errorf("%d communities, want 500", len(c.Value))
			}
		}
		synctest.Wait()
		if got := s.Status(); got.Advertised.IPv4 != 1 || !strings.Contains(got.LastError, "1 routes are not advertised: they have more communities") {
			t.Errorf("status %+v", got)
		}
	})
}

// TestAttributeChangeIsOneUpdate changes one attribute of one route among many.
func TestAttributeChangeIsOneUpdate(t *testing.T) {
	run(t, neighbor(), func(r *router, s *speaker) {
		var prefixes []string
		for i := range 100 {
			prefixes = append(prefixes, fmt.Sprintf("192.0.2.%d/32", i))
		}
		s.Set(advert(prefixes...))
		r.establish(routerOpen(64513))
		r.expect(packet.BGP_MSG_UPDATE)
		a := advert(prefixes...)
		a.Paths[0][50].MED = config.Some(9)
		s.Set(a)
		m, _ := r.expect(packet.BGP_MSG_UPDATE)
		if u := m.Body.(*packet.BGPUpdate); len(u.NLRI) != 1 || u.NLRI[0].String() != "192.0.2.50/32" || len(u.WithdrawnRoutes) != 0 {
			t.Errorf("UPDATE for one changed attribute: %v", u)
		}
		a.Draining = true
		s.Set(a)
		for announced := 0; announced < 100; { // those with MED 9, and the others
			m, _ := r.expect(packet.BGP_MSG_UPDATE)
			u := m.Body.(*packet.BGPUpdate)
			if !slices.ContainsFunc(u.PathAttributes, func(a packet.PathAttributeInterface) bool {
				c, ok := a.(*packet.PathAttributeCommunities)
				return ok && slices.Contains(c.Value, config.GracefulShutdown)
			}) {
				t.Errorf("attributes while draining: %v", u.PathAttributes)
			}
			announced += len(u.NLRI)
		}
	})
}
