package interop

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

const (
	service4 = "198.51.100.1/32"
	service6 = "2001:db8:1::1/128"
)

var both = []config.Family{config.IPv4, config.IPv6}

// negotiated checks what the router says that the two ends agreed on.
func (c *cell) negotiated(asn uint32, families string, hold time.Duration) {
	c.Helper()
	s := c.session()
	if s.RemoteASN != asn || s.Families != families || s.HoldTime != hold {
		c.Errorf("the router's session is with AS %d, has %q and a hold time of %s; want %d, %q, %s", s.RemoteASN, s.Families, s.HoldTime, asn, families, hold)
	}
}

// comesAndGoes advertises routes, sees them at the router, and takes them back. The session stays.
func (c *cell) comesAndGoes(p *config.Peer, want ...peer.Route) *speaker {
	c.Helper()
	s := c.speaker()
	var routes []decide.Route
	for _, w := range want {
		routes = append(routes, route(w.Prefix.String()))
	}
	s.tell(p, routes...)
	s.up()
	c.has(want...)
	since := s.session().Since
	s.tell(p)
	c.has()
	s.tell(p, route(want[0].Prefix.String()))
	c.has(want[0])
	if got := s.session(); !got.Since.Equal(since) {
		c.Errorf("the session is up since %s, not %s: routes reset it (%s)", got.Since, since, got.LastError)
	}
	return s
}

func ipv4(c *cell) {
	c.start(c.external())
	c.comesAndGoes(our(), expected(service4, node4), expected("198.51.100.2/32", node4))
	c.negotiated(nodeAS, "IPv4", 9*time.Second)
}

// over6 makes both ends those of a session over IPv6.
func over6(conf *peer.Config, p *config.Peer) {
	conf.Local, conf.Neighbor = netip.MustParseAddr(router6), netip.MustParseAddr(node6)
	p.Address = netip.MustParseAddr(router6)
}

func ipv6(c *cell) {
	conf, p := c.external(), our()
	over6(&conf, p)
	conf.IPv4, conf.IPv6 = false, true
	p.Families = []config.Family{config.IPv6}
	c.start(conf)
	c.comesAndGoes(p, expected(service6, node6), expected("2001:db8:1::2/128", node6))
	c.negotiated(nodeAS, "IPv6", 9*time.Second)
}

func ipv6OverIPv4(c *cell) {
	conf, p := c.external(), our()
	conf.IPv6, p.Families = true, both
	c.start(conf)
	c.comesAndGoes(p, expected(service4, node4), expected(service6, node6))
	c.negotiated(nodeAS, "IPv4 IPv6", 9*time.Second)
}

func ipv4OverIPv6(c *cell) {
	conf, p := c.external(), our()
	over6(&conf, p)
	conf.IPv6, conf.ExtendedNextHop, p.Families = true, true, both
	hop := node6
	if c.kind == peer.OpenBGPD {
		conf.ExtendedNextHop, hop = false, node4
	}
	c.start(conf)
	c.comesAndGoes(p, expected(service4, hop), expected(service6, node6))
	c.negotiated(nodeAS, "IPv4 IPv6", 9*time.Second)
}

// md5: up with the right password, not with another one, and up again when it is set right.
func md5(c *cell) {
	conf, p := c.external(), our()
	conf.Password, p.Password = "correct-horse", "correct-horse"
	c.start(conf)
	s := c.speaker()
	s.tell(p, route(service4))
	s.up()
	c.has(expected(service4, node4))
	wrong := *p
	wrong.Password = "battery-staple"
	s.tell(&wrong, route(service4))
	s.fails("a router that has another password")
	s.tell(p, route(service4))
	s.up()
	c.has(expected(service4, node4))
}

// gtsm: both ends ask for TTL 255. When ours gives it up it sends 1, as to any external peer, and the router must not hear that.
func gtsm(c *cell) {
	conf, p := c.external(), our()
	conf.TTLSecurity, p.TTLSecurity = true, true
	conf.HoldTime, p.HoldTime, p.KeepaliveTime = 3*time.Second, 3*time.Second, time.Second
	c.start(conf)
	s := c.speaker()
	s.tell(p, route(service4))
	s.up()
	c.has(expected(service4, node4))
	plain := *p
	plain.TTLSecurity = false
	s.tell(&plain, route(service4))
	if c.kind == peer.ExaBGP {
		return
	}
	// A router may hear what came before it had set its socket up, even a whole handshake. That does not last: nothing comes after that.
	c.eventually("the session to fail", func() string {
		if x := s.session(); x.LastError == "" || x.State == string(bgp.Established) {
			return fmt.Sprintf("%+v", x)
		}
		return ""
	})
	c.has()
}

// multihop: a hop lies between the two.
func multihop(c *cell) {
	const far = "10.9.1.1"
	remote, between := c.host("remote"), c.host("between")
	lan, err := c.net.Segment("far")
	c.must(err)
	c.join(between, c.segment, "eth0", "10.9.0.2/24")
	c.join(between, lan, "eth1", "10.9.1.2/24")
	c.join(remote, lan, routeNIC, far+"/24")
	c.must(between.EnableForwarding())
	c.must(c.node.AddRoute(netip.MustParsePrefix("10.9.1.0/24"), netip.MustParseAddr("10.9.0.2")))
	c.must(remote.AddRoute(netip.MustParsePrefix("10.9.0.0/24"), netip.MustParseAddr("10.9.1.2")))
	conf, p := c.external(), our()
	conf.Host, conf.Local, conf.RouterID, conf.MultiHop = remote, netip.MustParseAddr(far), netip.MustParseAddr(far), true
	p.Address = netip.MustParseAddr(far)
	c.start(conf)
	s := c.speaker()
	s.tell(p, route(service4))
	s.fails("ebgpMultiHop is off")
	p = our()
	p.Address, p.EBGPMultiHop = netip.MustParseAddr(far), true
	s.tell(p, route(service4))
	s.up()
	c.has(expected(service4, node4))
}

func fourByteAS(c *cell) {
	const nodes, routers = 4200000001, 4200000002
	conf, p := c.external(), our()
	conf.ASN, conf.NeighborASN, p.MyASN, p.PeerASN = routers, nodes, nodes, routers
	want := expected(service4, node4)
	want.ASPath = fmt.Sprint(nodes)
	c.start(conf)
	s := c.comesAndGoes(p, want)
	c.negotiated(nodes, "IPv4", 9*time.Second)
	if got := s.session(); got.PeerASN != routers {
		c.Errorf("our end says that the router is AS %d", got.PeerASN)
	}
}

func parsed(c *cell, list ...string) config.Communities {
	c.Helper()
	var out []config.Community
	for _, text := range list {
		x, err := config.ParseCommunity(text)
		c.must(err)
		out = append(out, x)
	}
	return config.CommunitiesOf(out...)
}

// communities of each kind: standard, by a well-known name, large, extended (route target, site of origin, both forms), link bandwidth.
func communities(c *cell) {
	conf, p := c.external(), our()
	conf.IPv6, p.Families = true, both
	list := []string{"65000:100", "no-peer", "large:4200000000:1:2", "rt:65000:100", "soo:192.0.2.1:7"}
	attrs := config.RouteAttributes{Communities: parsed(c, list...), Weight: 8}
	shown := []string{"65000:100", "65535:65284", "large:4200000000:1:2", "rt:65000:100", "soo:192.0.2.1:7", "bandwidth:64512:1000000"}
	if c.kind == peer.OpenBGPD {
		shown = shown[:len(shown)-1]
	}
	a, b := expected(service4, node4), expected(service6, node6)
	a.Communities, b.Communities = shown, shown
	c.start(conf)
	s := c.speaker()
	s.tell(p, route(service4, attrs), route(service6, attrs))
	c.has(a, b)
	attrs.Communities = parsed(c, "65000:200") // changed under the session
	attrs.Weight = 0
	a.Communities, b.Communities = []string{"65000:200"}, nil
	s.tell(p, route(service4, attrs), route(service6))
	c.has(a, b)
}

// attributes: outside of the AS the path is longer and there is no preference, inside it is the other way round.
func attributes(c *cell) {
	attrs := config.RouteAttributes{LocalPref: config.Some(300), MED: config.Some(50), Prepend: 2}
	want := expected(service4, node4)
	want.ASPath, want.MED = "64512 64512 64512", 50
	c.start(c.external())
	s := c.speaker()
	s.tell(our(), route(service4, attrs))
	c.has(want)
	s.stop(errStop)

	conf, p := c.external(), our()
	conf.ASN, p.PeerASN = nodeAS, nodeAS
	c.restart(conf)
	s = c.speaker()
	s.tell(p, route(service4, attrs), route("198.51.100.2/32"))
	want.ASPath, want.LocalPref = "", 300
	other := expected("198.51.100.2/32", node4)
	other.ASPath, other.LocalPref = "", 100
	c.has(want, other)
}

// aggregation: one route for several Services, with the communities of all; it goes with the last.
func aggregation(c *cell) {
	const prefix = "198.51.100.0/24"
	p := our()
	one := route(prefix, config.RouteAttributes{Communities: parsed(c, "65000:1")})
	two := route(prefix, config.RouteAttributes{Communities: parsed(c, "65000:2")})
	want := expected(prefix, node4)
	c.start(c.external())
	s := c.speaker()
	for _, step := range []struct {
		communities []string
		services    int
	}{{[]string{"65000:1"}, 1}, {[]string{"65000:1", "65000:2"}, 2}, {[]string{"65000:1"}, 1}} {
		s.tell(p, slices.Clone([]decide.Route{one, two})[:step.services]...)
		want.Communities = step.communities
		c.has(want)
	}
	s.tell(p, two)
	want.Communities = []string{"65000:2"}
	c.has(want)
	s.tell(p)
	c.has()
	if got := s.session(); got.State != string(bgp.Established) {
		c.Errorf("the session is %s: %s", got.State, got.LastError)
	}
}

// gracefulRestart: the router keeps the routes while the speaker is away, and drops afterwards what the new one does not have.
func gracefulRestart(c *cell) {
	conf, p := c.external(), our()
	conf.IPv6, conf.Restart, p.Families = true, true, both
	p.Restart = config.GracefulRestart{Enabled: true, RestartTime: time.Minute}
	c.start(conf)
	s := c.speaker()
	const old, young = "198.51.100.2/32", "198.51.100.3/32"
	first := []peer.Route{expected(service4, node4), expected(old, node4), expected(service6, node6)}
	s.tell(p, route(service4), route(old), route(service6))
	s.up()
	c.has(first...)
	if !c.session().Restart {
		c.Error("the router was not asked to keep routes")
	}
	if c.kind == peer.ExaBGP {
		c.eventually("End-of-RIB", func() string {
			if got := c.session().EndOfRIB; got != "IPv4 IPv6" {
				return "for " + got
			}
			return ""
		})
		return
	}
	if got := s.session().Restart; got != time.Minute {
		c.Errorf("our end says that the router keeps routes for %s", got)
	}
	s.stop(bgp.ErrRestarting)
	c.eventually("the router to notice", func() string {
		if c.session().Established {
			return "it has not"
		}
		return ""
	})
	if got := prefixes(c.routes()); !slices.Equal(got, prefixes(first)) {
		c.Errorf("while the speaker is away the router has %v, want %v", got, prefixes(first))
	}
	s = c.speaker()
	s.tell(p, route(service4), route(young), route(service6))
	c.eventually("routes after the restart", func() string {
		got := prefixes(c.routes())
		for _, p := range []string{service4, service6} {
			if !slices.Contains(got, p) {
				c.Fatalf("%s was gone for a moment; the router has %v", p, got)
			}
		}
		if slices.Contains(got, old) || !slices.Contains(got, young) {
			return fmt.Sprint(got)
		}
		return ""
	})
	c.has(expected(service4, node4), expected(young, node4), expected(service6, node6))
}

func prefixes(list []peer.Route) []string {
	var out []string
	for _, r := range list {
		out = append(out, r.Prefix.String())
	}
	slices.Sort(out)
	return out
}

// gracefulShutdown: a node that drains asks for other paths first, then withdraws; one that stops says so.
func gracefulShutdown(c *cell) {
	p := our()
	p.Restart = config.GracefulRestart{Enabled: true, RestartTime: time.Minute}
	conf := c.external()
	conf.Restart = true
	c.start(conf)
	s := c.speaker(func(o *bgp.Options) { o.DrainWait = 8 * time.Second })
	s.tell(p, route(service4))
	c.has(expected(service4, node4))
	drained := expected(service4, node4)
	drained.Communities = []string{"65535:0"}
	draining := s.told
	draining.Draining = true
	s.Set(draining)
	c.has(drained)
	c.has() // later
	s.Set(s.told)
	c.has(expected(service4, node4))
	go s.stop(errStop)
	c.has(drained)
	c.has()
	s.stop(errStop)
	c.eventually("the router to be told why", func() string {
		if got := c.session(); got.Established || !c.toldOfShutdown(got.LastEnd) {
			return fmt.Sprintf("%+v", got)
		}
		return ""
	})
}

// toldOfShutdown finds Administrative Shutdown, with our words where the make shows them, in what it says of how the session ended.
func (c *cell) toldOfShutdown(words string) bool {
	want := map[peer.Kind][]string{
		peer.FRR:      {"Cease/Administrative Shutdown"},
		peer.BIRD:     {"Administrative shutdown", "Herald stops on node-1"},
		peer.OpenBGPD: {"administratively down", "Herald stops on node-1"},
		peer.ExaBGP:   {`can not decode update message of type "3"`},
		peer.GoBGP:    {"Code:6", "Subcode:2", "Herald stops on node-1"},
	}[c.kind]
	return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(words, w) })
}

// holdTime: the cable goes mute. Each end finds out by itself, the router drops the routes; all is back when it is.
func holdTime(c *cell) {
	conf, p := c.external(), our()
	conf.HoldTime = 3 * time.Second // less than ours
	c.start(conf)
	s := c.speaker()
	s.tell(p, route(service4))
	s.up()
	c.has(expected(service4, node4))
	c.negotiated(nodeAS, "IPv4", 3*time.Second)
	c.must(c.port.Block())
	c.has()
	s.fails("")
	c.eventually("our end to say why", func() string {
		if got := s.session().LastError; !strings.Contains(got, "hold timer expired") && !strings.Contains(got, "does not answer") {
			return fmt.Sprintf("it says %q", got)
		}
		return ""
	})
	c.must(c.port.Unblock())
	s.up()
	c.has(expected(service4, node4))
}

// unnumbered: our side is told an interface and no address.
func unnumbered(c *cell) {
	conf, p := c.external(), our()
	ours, theirs := c.linkLocal(c.node, nodeNIC), c.linkLocal(c.router, routeNIC)
	conf.Interface, conf.Local, conf.Neighbor, conf.IPv6, conf.ExtendedNextHop = routeNIC, theirs, ours, true, true
	p.Address, p.Interface, p.PeerASN, p.Families = netip.Addr{}, nodeNIC, 0, both
	c.start(conf)
	if c.kind == peer.GoBGP { // sends no router advertisements: the node knows it as its only neighbour
		conn, err := c.router.DialContext(c.Context(), "udp6", netip.AddrPortFrom(ours.WithZone(routeNIC), 9).String())
		c.must(err)
		defer conn.Close()
		_, err = conn.Write([]byte("hello"))
		c.must(err)
	}
	s := c.speaker()
	s.tell(p, route(service4), route(service6))
	s.up()
	c.has(expected(service4, ours.String()), expected(service6, ours.String()))
	if got := s.session(); got.Address != theirs.WithZone(nodeNIC).String() || got.PeerASN != routerAS {
		c.Errorf("our end says that the router is %s, AS %d; want %s, AS %d", got.Address, got.PeerASN, theirs, routerAS)
	}
}

// linkLocal waits for the link-local address of an interface to be usable.
func (c *cell) linkLocal(h interface {
	Addrs(string) ([]netip.Prefix, error)
}, nic string,
) (found netip.Addr) {
	c.Helper()
	c.eventually("a link-local address", func() string {
		list, err := h.Addrs(nic)
		c.must(err)
		for _, p := range list {
			if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr()
				return ""
			}
		}
		return fmt.Sprint(list)
	})
	return found
}
