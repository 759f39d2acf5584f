package interop

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router"
)

// TestWeights: two nodes, one with three times as many endpoints as the other, and FRR's kernel spreads flows accordingly. A change of the
// numbers changes the weights, and resets no session.
func TestWeights(t *testing.T) {
	netlab.Need(t)
	if err := router.FRRAvailable(); err != nil {
		t.Skip(err)
	}
	c := newCell(t, "FRR")
	const other4 = "10.9.0.6"
	other := c.host("other")
	c.join(other, c.segment, nodeNIC, other4+"/24")
	c.must(c.router.EnableForwarding())
	frr, err := router.Start(t.Context(), router.Config{
		Kind: router.FRR, Host: c.router, ASN: routerAS, RouterID: netip.MustParseAddr(router4),
		Listen: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}, PeerASN: nodeAS,
		RunDir: filepath.Join(c.dir, "frr"), Log: slog.New(slog.NewTextHandler(c, nil)),
	})
	c.must(err)
	t.Cleanup(func() {
		if err := frr.Close(); err != nil {
			t.Errorf("end FRR: %v", err)
		}
	})
	one, two := c.speaker(), c.speakerOn(other)
	tell := func(first, second uint32) {
		one.tell(our(), route(service4, config.RouteAttributes{Weight: first}))
		two.tell(our(), route(service4, config.RouteAttributes{Weight: second}))
	}
	tell(3, 1)
	c.weighs(service4, map[string]float64{node4: 0.75, other4: 0.25})
	since := one.session().Since
	tell(1, 1)
	c.weighs(service4, map[string]float64{node4: 0.5, other4: 0.5})
	one.tell(our()) // has no endpoint left
	c.weighs(service4, map[string]float64{other4: 1})
	if s := one.session(); s.State != string(bgp.Established) || !s.Since.Equal(since) {
		t.Errorf("session %+v, want the one since %s", s, since)
	}
}

// weighs waits until the router's kernel spreads a prefix over next hops with the given shares.
func (c *cell) weighs(prefix string, want map[string]float64) {
	c.Helper()
	c.eventually("the weights", func() string {
		got := c.shares(prefix)
		for hop, share := range want {
			if d := got[hop] - share; d > 0.02 || d < -0.02 {
				return fmt.Sprint(got)
			}
		}
		if len(got) != len(want) {
			return fmt.Sprint(got)
		}
		return ""
	})
	c.Logf("shares in the router's kernel: %v", maps.Clone(c.shares(prefix)))
}

// shares reads the next hops of a prefix in the router's kernel, with the share of flows that each gets.
func (c *cell) shares(prefix string) map[string]float64 {
	c.Helper()
	of, err := router.Shares(c.router, netip.MustParsePrefix(prefix))
	c.must(err)
	shares := map[string]float64{}
	for hop, share := range of {
		shares[hop.String()] = share
	}
	return shares
}
