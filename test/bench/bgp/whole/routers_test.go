package whole

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

const (
	numRouters    = 4
	firstOnLAN    = 150 // last octet of the first router's address on the LAN
	manyAdvertise = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: bench}
spec:
  addresses: [10.64.0.0/16]
  autoAssign: false
---
apiVersion: heraldlb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: bench}
spec:
  ipAddressPools: [bench]
`
)

// station is a router with the node as its one neighbour. What it learns stays in its table.
type station struct {
	name string
	vty  *peer.VTY
	last peer.Counts // when it had last done all it had to do
}

// stations starts FRR routers on the LAN and makes them the node's only peers.
func (s *stage) stations() []*station {
	s.t.Helper()
	_, err := s.Kubectl(s.t.Context(), "delete", scene.Peers+","+scene.BGPAdvertisements, "--all")
	s.must(err)
	dir, err := os.MkdirTemp("", "herald-bench-bgp")
	s.must(err)
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	s.must(os.Chmod(dir, 0o755))
	var list []*station
	var peers strings.Builder
	for i := range numRouters {
		at := netip.AddrFrom4([4]byte{192, 168, 100, byte(firstOnLAN + i)})
		st := s.station(fmt.Sprintf("frr-%d", i+1), at, filepath.Join(dir, fmt.Sprint(i)))
		list = append(list, st)
		fmt.Fprintf(&peers, "---\napiVersion: heraldlb.io/v1beta1\nkind: BGPPeer\nmetadata: {name: %s}\nspec: {myASN: %d, peerASN: %d, peerAddress: %s}\n",
			st.name, lab.NodeASN, lab.RouterASN, at)
	}
	s.must(s.Apply(s.t.Context(), manyAdvertise+peers.String()))
	s.until(100*time.Millisecond, "the sessions", func(ctx context.Context) (bool, error) { return s.told(ctx, 0) })
	return list
}

func (s *stage) station(name string, at netip.Addr, dir string) *station {
	s.t.Helper()
	h, err := s.Network.Host(name)
	s.must(err)
	_, err = h.Join(s.LAN, "eth0", netip.PrefixFrom(at, 24))
	s.must(err)
	d, err := peer.Start(s.t.Context(), peer.Config{
		Kind: peer.FRR, Host: h, Dir: dir, ASN: lab.RouterASN, RouterID: at, Local: at, Neighbor: s.Nodes[0].Addresses[0], NeighborASN: lab.NodeASN,
		IPv4: true, HoldTime: 90 * time.Second, Restart: true, TableOnly: true,
	})
	s.must(err)
	s.t.Cleanup(func() { _ = d.Close() }) // killed
	st := &station{name: name}
	st.vty, err = peer.OpenVTY(d)
	s.must(err)
	s.t.Cleanup(func() { st.vty.Close() })
	return st
}

// told reports whether the node has a session with each router and has told it of n routes.
func (s *stage) told(ctx context.Context, n int) (bool, error) {
	of, err := s.Sessions(ctx, s.Nodes[0].Name)
	if err != nil {
		return false, err
	}
	for _, session := range of {
		if session.State != "Established" || int(session.Advertised.IPv4) != n {
			return false, fmt.Errorf("the session to %s is %s with %d routes: %s", session.Peer, session.State, session.Advertised.IPv4, session.LastError)
		}
	}
	return len(of) == numRouters, nil
}

// settled reports whether the router has n routes of the node, and has chosen anew for each that came or went.
func (st *station) settled(ctx context.Context, n int) (bool, error) {
	now, err := st.vty.Counts(ctx)
	if err != nil {
		return false, err
	}
	changed := n - st.last.Received
	if now.Received != n || now.Version-st.last.Version < max(changed, -changed) {
		return false, fmt.Errorf("%s has %d routes", st.name, now.Received)
	}
	st.last = now
	return true, nil
}

// received waits until each router has n routes.
func (s *stage) received(n int, all []*station) {
	s.t.Helper()
	for _, st := range all {
		s.until(10*time.Millisecond, fmt.Sprintf("%d routes at %s", n, st.name), func(ctx context.Context) (bool, error) { return st.settled(ctx, n) })
	}
}
