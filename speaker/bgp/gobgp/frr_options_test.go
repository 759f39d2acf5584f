package gobgp

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/bgp/adjacent"
	"github.com/heraldlb/herald/speaker/decide"
)

var discard = slog.New(slog.DiscardHandler)

// nodeHost is the node as a place to look for routers from.
type nodeHost struct{ *cable }

func (h nodeHost) Listen(iface string) (conn adjacent.Conn, mac net.HardwareAddr, err error) {
	err = inside(h.node, func() error { conn, mac, err = adjacent.Kernel{}.Listen(iface); return err })
	return conn, mac, err
}

func (h nodeHost) Neighbors(iface string) (list []netip.Addr, err error) {
	err = inside(h.node, func() error { list, err = adjacent.Kernel{}.Neighbors(iface); return err })
	return list, err
}

// find looks for a router from the node.
func (c *cable) find(iface string) Finder { return adjacent.On(nodeHost{c}, iface, discard) }

// options are those of a Router whose sockets are on the node.
func (c *cable) options() Options { return Options{Dial: c.dial, NICs: c.nics, Find: c.find} }

// configure changes bgpd's configuration.
func (c *cable) configure(lines ...string) {
	c.t.Helper()
	args := []string{"--vty_socket", c.dir, "-d", "bgpd", "-c", "configure terminal"}
	for _, l := range lines {
		args = append(args, "-c", l)
	}
	if out, err := exec.Command("vtysh", args...).CombinedOutput(); err != nil {
		c.t.Fatalf("vtysh: %v: %s", err, out)
	}
}

// path is what FRR says of one route.
type path struct {
	ASPath    string
	Community string
	Extended  string
	Large     string
	LocalPref int
	MED       int
	Hops      []string
}

// path returns what FRR has for a prefix; the zero path when it has none.
func (c *cable) path(prefix string) (p path) {
	c.t.Helper()
	out, err := c.vtysh("show bgp " + familyOf(prefix) + " unicast " + prefix + " json")
	must(c.t, err)
	type text struct{ String string }
	var doc struct {
		Paths []struct {
			ASPath            text
			Community         text
			ExtendedCommunity text
			LargeCommunity    text
			LocPrf            int
			Metric            int
			Nexthops          []struct{ IP string }
		}
	}
	must(c.t, json.Unmarshal([]byte(out), &doc))
	if len(doc.Paths) == 0 {
		return p
	}
	d := doc.Paths[0]
	p = path{
		ASPath: d.ASPath.String, Community: d.Community.String, Extended: d.ExtendedCommunity.String, Large: d.LargeCommunity.String,
		LocalPref: d.LocPrf, MED: d.Metric,
	}
	for _, h := range d.Nexthops {
		p.Hops = append(p.Hops, h.IP)
	}
	return p
}

func familyOf(prefix string) string {
	if strings.Contains(prefix, ":") {
		return "ipv6"
	}
	return "ipv4"
}

func routerBGP(asn, peer string, more ...string) string {
	return "router bgp " + asn + "\n bgp router-id 10.9.0.1\n no bgp ebgp-requires-policy\n no bgp network import-check\n" +
		" neighbor " + peer + "\n " + strings.Join(more, "\n ") + "\n"
}

var rich = config.RouteAttributes{LocalPref: config.Some(300), MED: config.Some(50), Prepend: 2, Weight: 8}

// TestFRRAttributes reads every attribute at FRR, outside and inside the AS.
func TestFRRAttributes(t *testing.T) {
	attrs := rich
	attrs.Communities = communities(t, "65000:100", "no-peer", "large:4200000000:1:2", "rt:65000:100", "soo:192.0.2.1:7")
	for asn, want := range map[string]path{
		"64513": {
			ASPath: "64512 64512 64512", Community: "65000:100 no-peer", Large: "4200000000:1:2",
			Extended: "RT:65000:100 SoO:192.0.2.1:7 LB:64512:1000000 (8.000 Mbps)", MED: 50, Hops: []string{"10.9.0.5"},
		},
		"64512": {
			ASPath: "Local", Community: "65000:100 no-peer", Large: "4200000000:1:2",
			Extended: "RT:65000:100 SoO:192.0.2.1:7 LB:64512:1000000 (8.000 Mbps)", LocalPref: 300, MED: 50, Hops: []string{"10.9.0.5"},
		},
	} {
		t.Run(asn, func(t *testing.T) {
			c := newCable(t)
			c.frr(routerBGP(asn, "10.9.0.5 remote-as 64512"))
			a := drainingAnnouncer(t, c.options(), time.Hour)
			their := uint32(64513)
			if asn == "64512" {
				their = 64512
			}
			d := bgp.Desired{
				Peers:  []*config.Peer{configPeer("frr", "10.9.0.1", "", 179, 64512, their, config.IPv4)},
				Routes: [][]decide.Route{{{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Peers: []string{"frr"}, Attributes: attrs}}},
			}
			a.Set(d)
			eventually(t, "the route at FRR", func() bool { return c.path("198.51.100.1/32").Hops != nil })
			if diff := cmp.Diff(want, c.path("198.51.100.1/32")); diff != "" {
				t.Errorf("at FRR (-want +got):\n%s", diff)
			}
			d.Draining = true
			a.Set(d)
			eventually(t, "GRACEFUL_SHUTDOWN at FRR", func() bool { return strings.Contains(c.path("198.51.100.1/32").Community, "graceful-shutdown") })
			if got := c.path("198.51.100.1/32"); got.LocalPref != 0 {
				t.Errorf("local preference %d while draining, want 0: %+v", got.LocalPref, got)
			}
		})
	}
}

// TestFRRPassword: the right one, then another, then the wrong one.
func TestFRRPassword(t *testing.T) {
	for _, address := range []string{"10.9.0.", "fd09::"} {
		t.Run(address, func(t *testing.T) {
			c := newCable(t)
			c.frr(routerBGP("64513", address+"5 remote-as 64512", "neighbor "+address+"5 password first", "neighbor "+address+"5 timers connect 1",
				"address-family ipv6 unicast", " neighbor "+address+"5 activate"))
			a := announcer(t, c.options())
			family := config.FamilyOf(netip.MustParseAddr(address + "5"))
			set := func(password config.Password) {
				p := configPeer("frr", address+"1", "", 179, 64512, 64513, family)
				p.Password, p.Restart = password, config.GracefulRestart{Enabled: true, RestartTime: time.Minute}
				a.Set(bgp.Desired{Peers: []*config.Peer{p}})
			}
			set("first")
			established(t, a, "frr")
			c.configure("router bgp 64513", "neighbor "+address+"5 password second")
			set("second")
			eventually(t, "a session with the new password", func() bool { return sessionOf(a, "frr").State == "Established" && a.Counters()["frr"].Ups == 2 })
			set("third")
			eventually(t, "an error", func() bool {
				return strings.Contains(sessionOf(a, "frr").LastError, "a router that has another password")
			})
		})
	}
}

// TestFRRSessionOptions: what else a connection can be like.
func TestFRRSessionOptions(t *testing.T) {
	tests := []struct {
		name   string
		conf   string // of the neighbour at the router
		adjust func(*config.Peer)
		asn    uint32 // FRR sees
		fails  string
	}{
		{name: "ttlSecurity", conf: "ttl-security hops 1", adjust: func(p *config.Peer) { p.TTLSecurity = true }},
		{name: "ttlSecurity over IPv6", conf: "ttl-security hops 1", adjust: func(p *config.Peer) {
			p.TTLSecurity, p.Address, p.Families = true, netip.MustParseAddr("fd09::1"), []config.Family{config.IPv6}
		}},
		{name: "ttlSecurity at the router only", conf: "ttl-security hops 1", adjust: func(p *config.Peer) {}, fails: "router"},
		{name: "ttlSecurity here only", conf: "timers connect 1", adjust: func(p *config.Peer) { p.TTLSecurity = true }, fails: "said nothing for 3s; spec.ttlSecurity is on"},
		{name: "bound to a device", conf: "timers connect 1", adjust: func(p *config.Peer) { p.VRF = "eth0" }},
		{name: "bound to another device", conf: "timers connect 1", adjust: func(p *config.Peer) { p.VRF = "lo" }, fails: "10.9.0.1"},
		{name: "bound to no device", conf: "timers connect 1", adjust: func(p *config.Peer) { p.VRF = "red" }, fails: "the device red of spec.vrf does not exist on this node"},
		{name: "any external AS", conf: "timers connect 1", adjust: func(p *config.Peer) { p.PeerASN = 0 }},
		{name: "localASN", conf: "timers connect 1", adjust: func(p *config.Peer) { p.MyASN, p.LocalASN = 64999, 64512 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCable(t)
			c.frr(routerBGP("64513", "10.9.0.5 remote-as 64512", "neighbor 10.9.0.5 "+tt.conf,
				"neighbor fd09::5 remote-as 64512", "neighbor fd09::5 "+tt.conf, "address-family ipv6 unicast", " neighbor fd09::5 activate"))
			a := announcer(t, c.options())
			p := configPeer("frr", "10.9.0.1", "", 179, 64512, 64513, config.IPv4)
			p.HoldTime, p.KeepaliveTime = 3*time.Second, time.Second
			tt.adjust(p)
			prefix := "198.51.100.1/32"
			if p.Address.Is6() {
				prefix = "2001:db8:1::1/128"
			}
			a.Set(bgp.Desired{Peers: []*config.Peer{p}, Routes: [][]decide.Route{{{Prefix: netip.MustParsePrefix(prefix), Peers: []string{"frr"}}}}})
			if tt.fails != "" {
				eventually(t, tt.fails, func() bool {
					s := sessionOf(a, "frr")
					return strings.Contains(s.LastError, tt.fails) && s.State != "Established"
				})
				return
			}
			eventually(t, "the route at FRR", func() bool { return c.path(prefix).ASPath == "64512" })
			if s := sessionOf(a, "frr"); s.PeerASN != 64513 || s.LocalASN != 64512 {
				t.Errorf("session %+v", s)
			}
		})
	}
}

// TestFRRUnnumbered: neither side is told an address of the other.
func TestFRRUnnumbered(t *testing.T) {
	c := newCable(t)
	c.frrWithKernel("router bgp 64513\n bgp router-id 10.9.0.1\n no bgp ebgp-requires-policy\n neighbor eth1 interface remote-as external\n" +
		" neighbor eth1 timers connect 1\n address-family ipv6 unicast\n  neighbor eth1 activate\n exit-address-family\n")
	a := announcer(t, c.options())
	p := configPeer("frr", "10.9.0.1", "", 179, 64512, 0, config.IPv4, config.IPv6)
	p.Address, p.Interface = netip.Addr{}, "eth0"
	began := time.Now()
	a.Set(bgp.Desired{Peers: []*config.Peer{p}, Routes: [][]decide.Route{{
		{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Peers: []string{"frr"}},
		{Prefix: netip.MustParsePrefix("2001:db8:1::1/128"), Peers: []string{"frr"}},
	}}})
	established(t, a, "frr")
	t.Logf("established %s after Set (duplicate address detection included)", time.Since(began).Round(time.Millisecond))
	s := sessionOf(a, "frr")
	if !strings.HasPrefix(s.Address, "fe80::") || !strings.HasSuffix(s.Address, "%eth0") || !strings.HasPrefix(s.LocalAddress, "fe80::") || s.PeerASN != 64513 {
		t.Errorf("session %+v", s)
	}
	for _, prefix := range []string{"198.51.100.1/32", "2001:db8:1::1/128"} {
		eventually(t, prefix+" in the router's kernel", func() bool { return c.kernelHop(prefix) == s.LocalAddress })
	}
}

// kernelHop returns the next hop of a route in the router's kernel.
func (c *cable) kernelHop(prefix string) (hop string) {
	p := netip.MustParsePrefix(prefix)
	must(c.t, inside(c.router, func() error {
		list, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		for _, r := range list {
			if r.Dst != nil && r.Dst.String() == p.String() {
				switch {
				case r.Via != nil:
					hop = r.Via.(*netlink.Via).Addr.String()
				case r.Gw != nil:
					hop = r.Gw.String()
				}
			}
		}
		return err
	}))
	return hop
}

// TestFRRLongLived: FRR is asked to keep routes for long.
func TestFRRLongLived(t *testing.T) {
	c := newCable(t)
	c.frr(routerBGP("64513", "10.9.0.5 remote-as 64512", "bgp long-lived-graceful-restart stale-time 60"))
	a := announcer(t, c.options())
	p := configPeer("frr", "10.9.0.1", "", 179, 64512, 64513, config.IPv4)
	p.Restart = config.GracefulRestart{Enabled: true, RestartTime: time.Minute, LongLived: time.Hour}
	a.Set(bgp.Desired{Peers: []*config.Peer{p}})
	established(t, a, "frr")
	out, err := c.vtysh("show bgp neighbors json")
	must(t, err)
	for _, want := range []string{`"longLivedGracefulRestart":"advertisedAndReceived"`, `"gracefulRestart":"advertisedAndReceived"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing in what FRR says of its neighbour: %s", want, out)
		}
	}
	if got := sessionOf(a, "frr").Restart; got != time.Minute {
		t.Errorf("restart time %s", got)
	}
}
