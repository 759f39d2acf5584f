package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	golog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"go.uber.org/goleak"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/osrg/gobgp/v3/pkg/server.(*BgpServer).Serve")) // never returns, by design of GoBGP
}

// silent is a GoBGP logger that says nothing.
type silent struct{}

func (silent) Panic(msg string, _ golog.Fields) { panic(msg) }
func (silent) Fatal(msg string, _ golog.Fields) { panic(msg) }
func (silent) Error(string, golog.Fields)       {}
func (silent) Warn(string, golog.Fields)        {}
func (silent) Info(string, golog.Fields)        {}
func (silent) Debug(string, golog.Fields)       {}
func (silent) SetLevel(golog.LogLevel)          {}
func (silent) GetLevel() golog.LogLevel         { return golog.ErrorLevel }

// gobgpd is a GoBGP server that listens on a loopback address.
type gobgpd struct {
	*server.BgpServer
	t *testing.T
}

// startGoBGP starts the server. StartBgp writes package variables that all servers read, so every server of a test is started before the
// first is given a peer.
func startGoBGP(t *testing.T, listen string, port int32, asn uint32) *gobgpd {
	t.Helper()
	s := server.NewBgpServer(server.LoggerOption(silent{}))
	go s.Serve()
	must(t, s.StartBgp(t.Context(), &api.StartBgpRequest{Global: &api.Global{
		Asn: asn, RouterId: "192.0.2.254", ListenPort: port, ListenAddresses: []string{listen},
	}}))
	t.Cleanup(func() { _ = s.StopBgp(context.Background(), &api.StopBgpRequest{}) })
	return &gobgpd{s, t}
}

// expect makes the server take a session from the given address.
func (g *gobgpd) expect(peer string, asn uint32, families ...*api.Family) {
	p := &api.Peer{
		Conf:         &api.PeerConf{NeighborAddress: peer, PeerAsn: asn},
		Transport:    &api.Transport{PassiveMode: true},
		EbgpMultihop: &api.EbgpMultihop{Enabled: true, MultihopTtl: 8},
		Timers:       &api.Timers{Config: &api.TimersConfig{HoldTime: 9, KeepaliveInterval: 3}},
	}
	for _, f := range families {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f, Enabled: true}})
	}
	must(g.t, g.AddPeer(context.Background(), &api.AddPeerRequest{Peer: p}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// routes returns the prefixes in the server's table with their next hops.
func (g *gobgpd) routes(f *api.Family) map[string]string {
	out := map[string]string{}
	must(g.t, g.ListPath(context.Background(), &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: f}, func(d *api.Destination) {
		for _, p := range d.Paths {
			hop := ""
			for _, a := range p.Pattrs {
				m, err := a.UnmarshalNew()
				must(g.t, err)
				switch m := m.(type) {
				case *api.NextHopAttribute:
					hop = m.NextHop
				case *api.MpReachNLRIAttribute:
					hop = m.NextHops[0]
				}
			}
			out[d.Prefix] = hop
		}
	}))
	return out
}

var (
	v4Family = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	v6Family = &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
)

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	eventuallyEvery(t, 2*time.Millisecond, what, cond)
}

// eventuallyEvery is for conditions that cost something to ask for.
func eventuallyEvery(t *testing.T, every time.Duration, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// announcer starts the whole BGP part of a speaker over real sockets.
func announcer(t *testing.T, opt Options) *bgp.Announcer { return drainingAnnouncer(t, opt, 0) }

// drainingAnnouncer is an announcer that gives routers time before it withdraws routes, but not at the end of the test.
func drainingAnnouncer(t *testing.T, opt Options, wait time.Duration) *bgp.Announcer {
	a, stop := stoppableAnnouncer(opt, wait)
	t.Cleanup(func() { stop(bgp.ErrRestarting) })
	return a
}

// stoppableAnnouncer returns an announcer, and a function that ends it for the given cause.
func stoppableAnnouncer(opt Options, wait time.Duration) (a *bgp.Announcer, stop func(error)) {
	opt.Log = slog.New(slog.DiscardHandler)
	a = bgp.New(bgp.Options{Node: "node-1", Router: New(opt), Log: opt.Log, DrainWait: wait})
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Run(ctx) // always nil
	}()
	return a, func(cause error) {
		cancel(cause)
		<-done
	}
}

func configPeer(name, address, source string, port uint16, my, their uint32, families ...config.Family) *config.Peer {
	p := &config.Peer{
		Name: name, MyASN: my, PeerASN: their, Address: netip.MustParseAddr(address), Port: port, Families: families,
		HoldTime: 9 * time.Second, KeepaliveTime: 3 * time.Second, ConnectTime: time.Second, Nodes: config.All[string](),
	}
	if source != "" {
		p.Source = netip.MustParseAddr(source)
	}
	return p
}

func sessionOf(a *bgp.Announcer, peer string) config.Session {
	for _, s := range a.Sessions() {
		if s.Peer == peer {
			return s
		}
	}
	return config.Session{}
}

func established(t *testing.T, a *bgp.Announcer, peers ...string) {
	t.Helper()
	for _, p := range peers {
		eventually(t, p+" to be Established", func() bool { return sessionOf(a, p).State == "Established" })
	}
}

// TestGoBGPPeer announces both families to a GoBGP router over IPv4 and over IPv6, with two sessions in one process.
func TestGoBGPPeer(t *testing.T) {
	const port = 17931
	over4, over6 := startGoBGP(t, "127.0.17.1", port, 64513), startGoBGP(t, "::1", port, 64512)
	over4.expect("127.0.17.9", 64512, v4Family, v6Family)
	over6.expect("::1", 64512, v4Family, v6Family)
	a := announcer(t, Options{})
	d := bgp.Desired{
		Peers: []*config.Peer{
			configPeer("over4", "127.0.17.1", "127.0.17.9", port, 64512, 64513, config.IPv4, config.IPv6),
			configPeer("over6", "::1", "::1", port, 64512, 64512, config.IPv4, config.IPv6),
		},
		Routes: [][]decide.Route{{
			{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Peers: []string{"over4", "over6"}},
			{Prefix: netip.MustParsePrefix("2001:db8:1::1/128"), Peers: []string{"over4", "over6"}},
		}},
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("2001:db8::5")},
	}
	began := time.Now()
	a.Set(d)
	established(t, a, "over4", "over6")
	t.Logf("both sessions up %s after Set", time.Since(began).Round(time.Millisecond))
	want := []struct {
		server *gobgpd
		family *api.Family
		prefix string
		hop    string
	}{
		{over4, v4Family, "198.51.100.1/32", "127.0.17.9"},
		{over4, v6Family, "2001:db8:1::1/128", "2001:db8::5"},
		{over6, v4Family, "198.51.100.1/32", "::1"},
		{over6, v6Family, "2001:db8:1::1/128", "::1"},
	}
	for _, w := range want {
		eventually(t, w.prefix+" at the router", func() bool { return w.server.routes(w.family)[w.prefix] == w.hop })
	}
	measureFirstPath(t, a, d, over4)
	d.Routes = nil
	a.Set(d)
	eventually(t, "all routes to be withdrawn", func() bool {
		return len(over4.routes(v4Family))+len(over4.routes(v6Family))+len(over6.routes(v4Family))+len(over6.routes(v6Family)) == 0
	})
	s := sessionOf(a, "over4")
	if s.LocalAddress != "127.0.17.9" || s.HoldTime != 9*time.Second || s.LastError != "" || len(s.Families) != 2 {
		t.Errorf("session over4: %+v", s)
	}
}

// measureFirstPath logs how long a new route takes from Set to the router's table.
func measureFirstPath(t *testing.T, a *bgp.Announcer, d bgp.Desired, router *gobgpd) {
	var worst time.Duration
	for i := range 10 {
		prefix := netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", i))
		d.Routes = append(d.Routes, []decide.Route{{Prefix: prefix, Peers: []string{"over4"}}})
		began := time.Now()
		a.Set(d)
		eventually(t, prefix.String(), func() bool { return router.routes(v4Family)[prefix.String()] != "" })
		worst = max(worst, time.Since(began))
	}
	t.Logf("Set to the router's table: worst of 10 %s (polled every 2ms)", worst.Round(100*time.Microsecond))
}

// TestSourceAddress checks what an operator is told about an address that the node does not have.
func TestSourceAddress(t *testing.T) {
	a := announcer(t, Options{})
	a.Set(bgp.Desired{Peers: []*config.Peer{
		configPeer("no-source", "127.0.17.1", "192.0.2.77", 17932, 64512, 64513, config.IPv4),
		configPeer("no-router", "127.0.17.2", "", 17932, 64512, 64513, config.IPv4),
	}})
	for peer, want := range map[string]string{
		"no-source": "sourceAddress 192.0.2.77 is not an address of this node",
		"no-router": "127.0.17.2:17932 refuses TCP connections: no BGP speaker listens there, or it does not know this node's address",
	} {
		eventually(t, "an error of "+peer, func() bool { return sessionOf(a, peer).LastError != "" })
		if s := sessionOf(a, peer); s.LastError != want || s.State != "Active" {
			t.Errorf("%s: state %s, error %q; want Active, %q", peer, s.State, s.LastError, want)
		}
	}
}

// TestWrongASAtGoBGP has the router expect another AS from us.
func TestWrongASAtGoBGP(t *testing.T) {
	startGoBGP(t, "127.0.17.3", 17933, 64513).expect("127.0.17.9", 64999, v4Family)
	a := announcer(t, Options{})
	a.Set(bgp.Desired{Peers: []*config.Peer{configPeer("p", "127.0.17.3", "127.0.17.9", 17933, 64512, 64513, config.IPv4)}})
	// GoBGP closes a connection that comes before it has made up its mind to take one; the attempt after that is told why.
	want := "peer refused: bad peer AS 64512: the router expects another AS number from this node; compare spec.myASN with its configuration"
	eventually(t, want, func() bool { return sessionOf(a, "p").LastError == want })
}

// TestManyRoutes sends 10,000 routes and takes them back.
func TestManyRoutes(t *testing.T) {
	router := startGoBGP(t, "127.0.17.4", 17934, 64513)
	router.expect("127.0.17.9", 64512, v4Family)
	a := announcer(t, Options{})
	d := bgp.Desired{Peers: []*config.Peer{configPeer("p", "127.0.17.4", "127.0.17.9", 17934, 64512, 64513, config.IPv4)}}
	a.Set(d)
	established(t, a, "p")
	d.Routes = manyRoutes(10_000, "p")
	began := time.Now()
	a.Set(d)
	eventually(t, "10,000 routes to be sent", func() bool { return sessionOf(a, "p").Advertised[config.IPv4] == 10_000 })
	t.Logf("10,000 routes written after %s", time.Since(began).Round(time.Millisecond))
	received := func() int {
		n := 0
		must(t, router.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
			for _, f := range p.AfiSafis {
				n += int(f.State.Received)
			}
		}))
		return n
	}
	eventually(t, "10,000 routes at the router", func() bool { return received() == 10_000 })
	d.Routes = manyRoutes(1, "p")
	a.Set(d)
	eventually(t, "all but one to be withdrawn", func() bool { return received() == 1 })
}
