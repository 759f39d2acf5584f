package gobgp

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

// TestUpdatesFit checks on random differences that every message fits, that the peer ends up with exactly what was meant, and that no
// more messages are used than needed.
func TestUpdatesFit(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{1, 2, 700, 1200, 10_000} {
		for _, mode := range []string{"v4", "v6", "v4 with v6 next hop"} {
			n, tm := neighbor(), terms{fourOctets: true}
			g := bgp.Group{Attributes: bgp.Attributes{NextHop: netip.MustParseAddr("10.0.0.5")}}
			if mode != "v4" {
				g.NextHop = netip.MustParseAddr("2001:db8::5")
			}
			want := map[netip.Prefix]bool{}
			for i := range size {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 20+r.IntN(13)).Masked()
				if mode == "v6" {
					p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 5: byte(i >> 8), 7: byte(i)}), 64+r.IntN(65)).Masked()
				}
				if !want[p] {
					want[p] = true
					g.Prefixes = append(g.Prefixes, p)
				}
			}
			check(t, mode, updates(n, tm, []bgp.Group{g}, nil), want, false)
			check(t, mode, updates(n, tm, nil, g.Prefixes), want, true)
			g.Communities = config.CommunitiesOf(largest(316)...)
			check(t, mode+" with many communities", updates(n, tm, []bgp.Group{g}, nil), want, false)
		}
	}
}

// largest returns n large communities.
func largest(n int) []config.Community {
	var list []config.Community
	for i := range n {
		list = append(list, config.Large(1, 2, uint32(i)))
	}
	return list
}

func check(t *testing.T, mode string, messages [][]byte, want map[netip.Prefix]bool, withdrawn bool) {
	t.Helper()
	got := map[netip.Prefix]bool{}
	total := 0
	for i, raw := range messages {
		total += len(raw)
		if len(raw) > packet.BGP_MAX_MESSAGE_LENGTH {
			t.Fatalf("%s: message of %d octets", mode, len(raw))
		}
		if i < len(messages)-1 && len(raw) < packet.BGP_MAX_MESSAGE_LENGTH-64 {
			t.Errorf("%s: message %d of %d has only %d octets", mode, i, len(messages), len(raw))
		}
		m, err := packet.ParseBGPMessage(raw)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		adds, dels := read(m.Body.(*packet.BGPUpdate))
		if withdrawn {
			adds, dels = dels, adds
		}
		if len(dels) > 0 {
			t.Fatalf("%s: announced and withdrawn confused", mode)
		}
		for _, p := range adds {
			if got[p] {
				t.Fatalf("%s: %s twice", mode, p)
			}
			got[p] = true
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d prefixes arrived, want %d", mode, len(got), len(want))
	}
	for p := range want {
		if !got[p] {
			t.Fatalf("%s: %s did not arrive", mode, p)
		}
	}
}

// read returns what an UPDATE announces and withdraws.
func read(u *packet.BGPUpdate) (adds, dels []netip.Prefix) {
	for _, p := range u.NLRI {
		adds = append(adds, netip.MustParsePrefix(p.String()))
	}
	for _, p := range u.WithdrawnRoutes {
		dels = append(dels, netip.MustParsePrefix(p.String()))
	}
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *packet.PathAttributeMpReachNLRI:
			for _, p := range a.Value {
				adds = append(adds, netip.MustParsePrefix(p.String()))
			}
		case *packet.PathAttributeMpUnreachNLRI:
			for _, p := range a.Value {
				dels = append(dels, netip.MustParsePrefix(p.String()))
			}
		}
	}
	return adds, dels
}

func TestOffered(t *testing.T) {
	n, tm := neighbor(), terms{fourOctets: true}
	group := func(hop string, ps ...string) bgp.Group {
		g := bgp.Group{Attributes: bgp.Attributes{NextHop: netip.MustParseAddr(hop)}}
		for _, p := range ps {
			g.Prefixes = append(g.Prefixes, netip.MustParsePrefix(p))
		}
		return g
	}
	tests := []struct {
		name string
		raw  []byte
		want int
	}{
		{"IPv4", updates(n, tm, []bgp.Group{group("10.0.0.1", "0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32")}, nil)[0], 3},
		{"IPv6", updates(n, tm, []bgp.Group{group("2001:db8::1", "::/0", "2001:db8::/33")}, nil)[0], 2},
		{"withdrawn", updates(n, tm, nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})[0], 0},
		{"end of RIB", endOfRIB(config.IPv6), 0},
	}
	for _, tt := range tests {
		if got := offered(tt.raw[packet.BGP_HEADER_LENGTH:]); got != tt.want {
			t.Errorf("%s: %d routes, want %d", tt.name, got, tt.want)
		}
	}
}

// FuzzPeerBytes feeds a stream from a peer through everything that reads it.
func FuzzPeerBytes(f *testing.F) {
	n := neighbor()
	n.Address, n.Families = netip.MustParseAddr("2001:db8::1"), bgp.Families{IPv4: true, IPv6: true}
	g := bgp.Group{Attributes: bgp.Attributes{NextHop: netip.MustParseAddr("2001:db8::5")}, Prefixes: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}}
	f.Add(openMessage(n, true))
	f.Add(mustSerialize(routerOpen(64513).message()))
	f.Add(append(keepalive(), updates(n, terms{}, []bgp.Group{g}, g.Prefixes)[0]...))
	f.Add(cease(bgp.ErrRemoved).message())
	f.Add(mustSerialize(packet.NewBGPNotificationMessage(6, 2, []byte{3, 'a', 0xff, 'c'})))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			fr, err := readFrame(r, make([]byte, packet.BGP_MAX_MESSAGE_LENGTH))
			if err != nil {
				return
			}
			switch fr.kind {
			case packet.BGP_MSG_OPEN:
				if tm, err := negotiate(n, fr.body); err == nil && tm.hold > 0 && (tm.hold < 3*time.Second || tm.keepalive > tm.hold/3) {
					t.Errorf("hold %s, keepalive %s", tm.hold, tm.keepalive)
				}
			case packet.BGP_MSG_UPDATE:
				if got := offered(fr.body); got < 0 || got > len(fr.body) {
					t.Errorf("%d routes in %d octets", got, len(fr.body))
				}
			case packet.BGP_MSG_NOTIFICATION:
				if notified(n, fr.body).Error() == "" {
					t.Error("a NOTIFICATION without words")
				}
			}
		}
	})
}
