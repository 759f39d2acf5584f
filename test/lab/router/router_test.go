package router

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/test/lab/netlab"
)

var addrCmp = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// world is a router and two speakers' hosts on one segment.
type world struct {
	router *netlab.Host
	nodes  []*netlab.Host
	ports  []*netlab.Port
}

func newWorld(t *testing.T) world {
	t.Helper()
	netlab.Need(t)
	n, err := netlab.New(netlab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	seg, err := n.Segment("lan")
	if err != nil {
		t.Fatal(err)
	}
	join := func(name string, last int) (*netlab.Host, *netlab.Port) {
		h, err := n.Host(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.Join(seg, "eth0", netip.MustParsePrefix(fmt.Sprintf("192.168.100.%d/24", last)), netip.MustParsePrefix(fmt.Sprintf("fd00:100::%d/64", last)))
		if err != nil {
			t.Fatal(err)
		}
		return h, p
	}
	var w world
	w.router, _ = join("router", 1)
	if err := w.router.EnableForwarding(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		h, p := join(fmt.Sprintf("node-%d", i+1), 11+i)
		w.nodes, w.ports = append(w.nodes, h), append(w.ports, p)
	}
	return w
}

func (w world) config(t *testing.T, kind Kind) Config {
	return Config{
		Kind: kind, Host: w.router, ASN: 64600, RouterID: netip.MustParseAddr("192.168.100.1"), PeerASN: 64500, HoldTime: 9 * time.Second,
		Listen: []netip.Prefix{netip.MustParsePrefix("192.168.100.0/24"), netip.MustParsePrefix("fd00:100::/64")},
		RunDir: filepath.Join(t.TempDir(), "router"), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func eachKind(t *testing.T, f func(t *testing.T, kind Kind)) {
	for _, kind := range []Kind{FRR, GoBGP} {
		t.Run(string(kind), func(t *testing.T) {
			netlab.Need(t)
			if err := FRRAvailable(); kind == FRR && err != nil {
				t.Skip(err)
			}
			f(t, kind)
		})
	}
}

func mustStart(t *testing.T, c Config) Router {
	t.Helper()
	r, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// await waits until the router's kernel holds exactly the routes, each written "prefix via hop hop".
func await(t *testing.T, h *netlab.Host, want ...string) {
	t.Helper()
	var got []string
	deadline := time.Now().Add(2 * time.Minute)
	for {
		routes, err := Routes(h)
		if err != nil {
			t.Fatal(err)
		}
		got = got[:0]
		for _, r := range routes {
			got = append(got, strings.NewReplacer("[", "", "]", "").Replace(r.String()))
		}
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("routes: %s", cmp.Diff(want, got))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const (
	vip4 = "203.0.113.10/32"
	vip6 = "2001:db8::10/128"
)

func vips(node int) []order {
	return []order{
		{Prefix: netip.MustParsePrefix(vip4), NextHop: netip.MustParseAddr(fmt.Sprintf("192.168.100.%d", 11+node))},
		{Prefix: netip.MustParsePrefix(vip6), NextHop: netip.MustParseAddr(fmt.Sprintf("fd00:100::%d", 11+node))},
	}
}

func TestRoutesFollowTheSpeakers(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		w := newWorld(t)
		r := mustStart(t, w.config(t, kind))
		if r.Kind() != kind {
			t.Errorf("kind %s", r.Kind())
		}
		watch, err := NewWatch(w.router)
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Close()

		// One session over each family; both carry both families.
		a := startSpeaker(t, w.nodes[0], speakerConfig{ASN: 64500, PeerASN: 64600, RouterID: "192.168.100.11", Peers: []string{"192.168.100.1"}})
		b := startSpeaker(t, w.nodes[1], speakerConfig{ASN: 64500, PeerASN: 64600, RouterID: "192.168.100.12", Peers: []string{"fd00:100::1"}})
		for _, o := range vips(0) {
			a.tell(o)
		}
		one4, one6 := vip4+" via 192.168.100.11", vip6+" via fd00:100::11"
		await(t, w.router, one4, one6)
		for _, o := range vips(1) {
			b.tell(o)
		}
		await(t, w.router, one4+" 192.168.100.12", one6+" fd00:100::12")

		neighbors, err := r.Neighbors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range neighbors {
			neighbors[i].State = ""
		}
		want := []Neighbor{
			{Address: netip.MustParseAddr("192.168.100.11"), ASN: 64500, Established: true},
			{Address: netip.MustParseAddr("fd00:100::12"), ASN: 64500, Established: true},
		}
		if diff := cmp.Diff(want, neighbors, addrCmp); diff != "" {
			t.Errorf("neighbors (-want +got):\n%s", diff)
		}

		worse := vips(1)[0]
		worse.Med = 50
		b.tell(worse)
		await(t, w.router, one4, one6+" fd00:100::12")
		for _, o := range vips(1) {
			o.Withdraw = true
			b.tell(o)
		}
		await(t, w.router, one4, one6)
		a.kill() // the connection is reset, so the router need not wait for its hold timer
		await(t, w.router)

		checkEvents(t, watch)
	})
}

// checkEvents wants both prefixes to have come, in this order of time, and to have gone.
func checkEvents(t *testing.T, watch *Watch) {
	t.Helper()
	last := map[string]bool{}
	var before time.Time
	timeout := time.After(2 * time.Minute)
	for !last[vip4] || !last[vip6] {
		select {
		case e, ok := <-watch.Events():
			if !ok {
				t.Fatalf("events ended: %v", watch.Close())
			}
			if e.Time.Before(before) {
				t.Errorf("event at %s after one at %s", e.Time, before)
			}
			before = e.Time
			last[e.Route.Prefix.String()] = e.Deleted
		case <-timeout:
			t.Fatalf("deletions not seen: %v", last)
		}
	}
	if err := watch.Close(); err != nil {
		t.Error(err)
	}
}

func TestSilentSpeakerIsForgotten(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		w := newWorld(t)
		c := w.config(t, kind)
		c.HoldTime = 3 * time.Second
		mustStart(t, c)
		a := startSpeaker(t, w.nodes[0], speakerConfig{ASN: 64500, PeerASN: 64600, RouterID: "192.168.100.11", Peers: []string{"192.168.100.1"}})
		a.tell(vips(0)[0])
		await(t, w.router, vip4+" via 192.168.100.11")
		if err := w.ports[0].Block(); err != nil {
			t.Fatal(err)
		}
		await(t, w.router)
	})
}

func TestPassword(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		w := newWorld(t)
		c := w.config(t, kind)
		c.Password, c.PeerASN = "secret", 64501
		if kind == FRR {
			c.PeerASN = 0
		}
		r := mustStart(t, c)
		right := speakerConfig{ASN: 64501, PeerASN: 64600, RouterID: "192.168.100.11", Peers: []string{"192.168.100.1"}, Password: "secret"}
		wrong := speakerConfig{ASN: 64501, PeerASN: 64600, RouterID: "192.168.100.12", Peers: []string{"192.168.100.1"}, Password: "Secret"}
		bad, good := startSpeaker(t, w.nodes[1], wrong), startSpeaker(t, w.nodes[0], right)
		for _, o := range vips(0) {
			good.tell(o)
		}
		for _, o := range vips(1) {
			bad.tell(o)
		}
		await(t, w.router, vip4+" via 192.168.100.11", vip6+" via fd00:100::11")
		neighbors, err := r.Neighbors(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range neighbors {
			if n.Established != (n.Address == netip.MustParseAddr("192.168.100.11")) {
				t.Errorf("%+v", n)
			}
		}
	})
}

func TestCloseWithdraws(t *testing.T) {
	eachKind(t, func(t *testing.T, kind Kind) {
		w := newWorld(t)
		r, err := Start(t.Context(), w.config(t, kind))
		if err != nil {
			t.Fatal(err)
		}
		a := startSpeaker(t, w.nodes[0], speakerConfig{ASN: 64500, PeerASN: 64600, RouterID: "192.168.100.11", Peers: []string{"192.168.100.1"}})
		a.tell(vips(0)[0])
		await(t, w.router, vip4+" via 192.168.100.11")
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		await(t, w.router)
		// The same host can be a router again.
		mustStart(t, w.config(t, kind))
		await(t, w.router, vip4+" via 192.168.100.11")
	})
}

func TestConfigErrors(t *testing.T) {
	netlab.Need(t)
	w := newWorld(t)
	good := w.config(t, GoBGP)
	for name, spoil := range map[string]func(c *Config){
		"no host":         func(c *Config) { c.Host = nil },
		"no log":          func(c *Config) { c.Log = nil },
		"no asn":          func(c *Config) { c.ASN = 0 },
		"v6 router id":    func(c *Config) { c.RouterID = netip.MustParseAddr("::1") },
		"no subnets":      func(c *Config) { c.Listen = nil },
		"odd hold time":   func(c *Config) { c.HoldTime = 1500 * time.Millisecond },
		"unknown kind":    func(c *Config) { c.Kind = "bird" },
		"no run dir":      func(c *Config) { c.RunDir = "" },
		"password spaces": func(c *Config) { c.Kind, c.Password = FRR, "a b" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			if r, err := Start(context.Background(), c); err == nil {
				r.Close()
				t.Error("accepted")
			}
		})
	}
}

func TestRenderFRR(t *testing.T) {
	w := Config{
		ASN: 64600, RouterID: netip.MustParseAddr("192.0.2.1"), Password: "secret", HoldTime: 3 * time.Second,
		Listen: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Host: &netlab.Host{},
	}
	got, err := renderFRR(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"router bgp 64600", " bgp router-id 192.0.2.1", " no bgp ebgp-requires-policy", " neighbor lan remote-as external",
		" neighbor lan timers 1 3", " neighbor lan password secret", " bgp listen range 192.0.2.0/24 peer-group lan",
		" address-family ipv6 unicast", "  neighbor lan activate", "  maximum-paths 64",
	} {
		if !slices.Contains(strings.Split(string(got), "\n"), line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

func TestParseFRRSummary(t *testing.T) {
	got, err := parseFRRSummary([]byte(`{
		"ipv4Unicast":{"routerId":"1.1.1.1","peers":{
			"*ignored*":{}, "192.0.2.9":{"remoteAs":64500,"state":"Active"},"192.0.2.2":{"remoteAs":64500,"state":"Established"}}},
		"ipv6Unicast":{"peers":{"fd00::2":{"remoteAs":64501,"state":"Established"}}}}`))
	if err == nil {
		t.Errorf("a peer without an address was read: %v", got)
	}
	got, err = parseFRRSummary([]byte(`{
		"ipv4Unicast":{"routerId":"1.1.1.1","peers":{
			"192.0.2.9":{"remoteAs":64500,"state":"Active"},"192.0.2.2":{"remoteAs":64500,"state":"Established"}}},
		"ipv6Unicast":{"peers":{"fd00::2":{"remoteAs":64501,"state":"Established"}}}}`))
	want := []Neighbor{
		{netip.MustParseAddr("192.0.2.2"), 64500, true, "Established"},
		{netip.MustParseAddr("192.0.2.9"), 64500, false, "Active"},
		{netip.MustParseAddr("fd00::2"), 64501, true, "Established"},
	}
	if diff := cmp.Diff(want, got, addrCmp); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}
