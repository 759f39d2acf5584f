package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/bgp/adjacent"
	"github.com/heraldlb/herald/speaker/bgp/gobgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

// The addresses of a cell: the node and the router are on one segment, but for multihop.
const (
	nodeAS   = 64512
	routerAS = 64513
	node4    = "10.9.0.5"
	node6    = "fd09::5"
	router4  = "10.9.0.1"
	router6  = "fd09::1"
	nodeNIC  = "eth0"
	routeNIC = "eth1"
)

// patient is how long anything may take.
const patient = 90 * time.Second

// cell is one make and one feature at work: a node with a speaker, a router, and what is between them.
type cell struct {
	*testing.T
	kind    peer.Kind
	net     *netlab.Network
	node    *netlab.Host
	router  *netlab.Host
	segment *netlab.Segment
	port    *netlab.Port // the node's
	dir     string
	daemon  peer.Daemon
	said    bytes.Buffer // the speaker's log
	logging sync.Mutex
}

func newCell(t *testing.T, kind peer.Kind) *cell {
	t.Helper()
	c := &cell{T: t, kind: kind}
	var err error
	if c.dir, err = os.MkdirTemp("", "herald-interop"); err != nil { //nolint:usetesting // t.TempDir is closed to the users that daemons change to
		t.Fatal(err)
	}
	dir := c.dir
	t.Cleanup(func() { os.RemoveAll(dir) })
	c.must(os.Chmod(c.dir, 0o755))
	prefix := "i" + filepath.Base(c.dir)[len("herald-interop"):]
	c.net, err = netlab.New(netlab.Options{Prefix: prefix[:min(len(prefix), 12)] + "-"})
	c.must(err)
	t.Cleanup(func() {
		if err := c.net.Close(); err != nil {
			t.Errorf("remove the network: %v", err)
		}
	})
	c.node, c.router = c.host("node"), c.host("router")
	c.segment, err = c.net.Segment("lan")
	c.must(err)
	c.port = c.join(c.node, c.segment, nodeNIC, node4+"/24", node6+"/64")
	c.join(c.router, c.segment, routeNIC, router4+"/24", router6+"/64")
	t.Cleanup(func() {
		if t.Failed() {
			c.logging.Lock()
			defer c.logging.Unlock()
			t.Logf("the speaker said:\n%s", c.said.String())
		}
	})
	return c
}

// Write takes the speaker's log.
func (c *cell) Write(b []byte) (int, error) {
	c.logging.Lock()
	defer c.logging.Unlock()
	return c.said.Write(b)
}

func (c *cell) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cell) host(name string) *netlab.Host {
	c.Helper()
	h, err := c.net.Host(name)
	c.must(err)
	return h
}

func (c *cell) join(h *netlab.Host, s *netlab.Segment, nic string, addrs ...string) *netlab.Port {
	c.Helper()
	var list []netip.Prefix
	for _, a := range addrs {
		list = append(list, netip.MustParsePrefix(a))
	}
	p, err := h.Join(s, nic, list...)
	c.must(err)
	return p
}

// external is what a router needs to know of an ordinary session over IPv4.
func (c *cell) external() peer.Config {
	return peer.Config{
		Kind: c.kind, Host: c.router, ASN: routerAS, RouterID: netip.MustParseAddr(router4),
		Local: netip.MustParseAddr(router4), Neighbor: netip.MustParseAddr(node4), NeighborASN: nodeAS,
		IPv4: true, HoldTime: 9 * time.Second,
	}
}

// start starts the router.
func (c *cell) start(conf peer.Config) {
	c.Helper()
	conf.Dir = c.dir
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	d, err := peer.Start(ctx, conf)
	c.must(err)
	c.daemon = d
	closed := false
	c.Cleanup(func() {
		if c.Failed() {
			c.Log(d.Log())
		}
		if !closed {
			closed = true
			_ = d.Close() // killed
		}
	})
}

// restart ends the router and starts it with another configuration.
func (c *cell) restart(conf peer.Config) {
	c.Helper()
	_ = c.daemon.Close() // killed
	c.dir = filepath.Join(c.dir, "again")
	c.must(os.MkdirAll(c.dir, 0o755))
	c.start(conf)
}

// our is the BGPPeer that fits external.
func our() *config.Peer {
	return &config.Peer{
		Name: "router", MyASN: nodeAS, PeerASN: routerAS, Address: netip.MustParseAddr(router4), Port: 179, Families: []config.Family{config.IPv4},
		HoldTime: 9 * time.Second, KeepaliveTime: 3 * time.Second, ConnectTime: time.Second, Nodes: config.All[string](),
	}
}

// speaker is the part of a speaker that does BGP.
type speaker struct {
	*bgp.Announcer
	c    *cell
	stop func(cause error) // ends it, once
	told bgp.Desired
}

// speaker starts a speaker on the node; it is left as one that restarts when the test ends.
func (c *cell) speaker(options ...func(*bgp.Options)) *speaker {
	return c.speakerOn(c.node, options...)
}

// speakerOn starts a speaker on a host.
func (c *cell) speakerOn(h *netlab.Host, options ...func(*bgp.Options)) *speaker {
	log := slog.New(slog.NewTextHandler(c, nil))
	v := vantage{h}
	opt := bgp.Options{Node: "node-1", Log: log, Router: gobgp.New(gobgp.Options{
		Log: log, Dial: v.dial, NICs: v.nics,
		Find: func(iface string) gobgp.Finder { return adjacent.On(v, iface, log) },
	})}
	for _, o := range options {
		o(&opt)
	}
	s := &speaker{Announcer: bgp.New(opt), c: c}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() func(error) {
		var once sync.Once
		return func(cause error) {
			once.Do(func() {
				cancel(cause)
				if err := <-done; err != nil {
					c.Errorf("Run: %v", err)
				}
			})
		}
	})()
	c.Cleanup(func() { s.stop(bgp.ErrRestarting) })
	return s
}

// vantage is a host as a place to open connections and look for routers from.
type vantage struct{ *netlab.Host }

// dial connects from the host: a socket stays in the namespace of the thread that made it.
func (v vantage) dial(ctx context.Context, n bgp.Neighbor) (conn net.Conn, err error) {
	err = v.Do(func() (err error) { conn, err = gobgp.DialTCP(ctx, n); return err })
	return conn, err
}

func (v vantage) nics() (out []bgp.NIC, err error) {
	err = v.Do(func() (err error) { out, err = gobgp.HostNICs(); return err })
	return out, err
}

// Listen implements adjacent.Host.
func (v vantage) Listen(iface string) (conn adjacent.Conn, mac net.HardwareAddr, err error) {
	err = v.Do(func() (err error) { conn, mac, err = adjacent.Kernel{}.Listen(iface); return err })
	return conn, mac, err
}

// Neighbors implements adjacent.Host.
func (v vantage) Neighbors(iface string) (list []netip.Addr, err error) {
	err = v.Do(func() (err error) { list, err = adjacent.Kernel{}.Neighbors(iface); return err })
	return list, err
}

// tell tells the speaker what to advertise, and how.
func (s *speaker) tell(p *config.Peer, routes ...decide.Route) {
	for i := range routes {
		routes[i].Peers = []string{p.Name}
	}
	s.told = bgp.Desired{
		Peers: []*config.Peer{p}, Routes: [][]decide.Route{routes},
		Addresses: []netip.Addr{netip.MustParseAddr(node4), netip.MustParseAddr(node6)},
	}
	s.Set(s.told)
}

// session is our end's view.
func (s *speaker) session() config.Session {
	if list := s.Sessions(); len(list) == 1 {
		return list[0]
	}
	return config.Session{}
}

func route(prefix string, attrs ...config.RouteAttributes) decide.Route {
	r := decide.Route{Prefix: netip.MustParsePrefix(prefix)}
	for _, a := range attrs {
		r.Attributes = a
	}
	return r
}

// eventually waits until check returns "", which says what is still missing.
func (c *cell) eventually(what string, check func() string) {
	c.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patient)
	for {
		missing := check()
		if missing == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.Fatalf("waited in vain for %s: %s", what, missing)
		}
	}
}

// asked asks the router until it answers: the program that asks it may find it too busy for a moment.
func asked[T any](c *cell, ask func(context.Context) (T, error)) (answer T) {
	c.Helper()
	c.eventually("an answer of the router", func() string {
		var err error
		if answer, err = ask(c.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	return answer
}

// routes asks the router.
func (c *cell) routes() []peer.Route {
	c.Helper()
	return asked(c, c.daemon.Routes)
}

// session asks the router.
func (c *cell) session() peer.Session {
	c.Helper()
	return asked(c, c.daemon.Session)
}

// has waits until the router has exactly the given routes.
func (c *cell) has(want ...peer.Route) {
	c.Helper()
	c.eventually("routes at the router", func() string {
		return cmp.Diff(canonical(want), c.likened(c.routes(), want), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
	})
}

// likened leaves out of what the router has what is its own invention: two makes show a preference or a metric that was not sent.
func (c *cell) likened(got, want []peer.Route) []peer.Route {
	got = canonical(got)
	for i := range got {
		j := slices.IndexFunc(want, func(w peer.Route) bool { return w.Prefix == got[i].Prefix })
		if j < 0 {
			continue
		}
		invents := c.kind == peer.BIRD || c.kind == peer.OpenBGPD
		if want[j].LocalPref == 0 && got[i].LocalPref == 100 && invents {
			got[i].LocalPref = 0
		}
		if want[j].MED < 0 && got[i].MED == 0 && c.kind == peer.OpenBGPD {
			got[i].MED = -1
		}
	}
	return got
}

func canonical(list []peer.Route) []peer.Route {
	list = slices.Clone(list)
	for i := range list {
		list[i].Communities = slices.Sorted(slices.Values(list[i].Communities))
	}
	slices.SortFunc(list, func(a, b peer.Route) int { return strings.Compare(a.Prefix.String(), b.Prefix.String()) })
	if len(list) == 0 {
		return nil
	}
	return list
}

// expected is a route as an external router has it if nothing special was asked for.
func expected(prefix, hop string) peer.Route {
	return peer.Route{
		Prefix: netip.MustParsePrefix(prefix), NextHop: netip.MustParseAddr(hop), ASPath: fmt.Sprint(nodeAS), Origin: "IGP", MED: -1,
	}
}

// fails waits until our end says that the session is not up because of something with these words in it.
func (s *speaker) fails(words string) {
	s.c.Helper()
	s.c.eventually("our error "+words, func() string {
		if x := s.session(); x.State == string(bgp.Established) || !strings.Contains(x.LastError, words) {
			return fmt.Sprintf("%s, %q", x.State, x.LastError)
		}
		return ""
	})
}

// up waits until both ends say so.
func (s *speaker) up() {
	s.c.Helper()
	s.c.eventually("the session", func() string {
		if x := s.session(); x.State != string(bgp.Established) {
			return fmt.Sprintf("our end is %s: %s", x.State, x.LastError)
		}
		if x := s.c.session(); !x.Established {
			return fmt.Sprintf("the router's end: %+v", x)
		}
		return ""
	})
}

var errStop = errors.New("uninstalled")
