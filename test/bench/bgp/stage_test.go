package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router/peer"
)

func TestMain(m *testing.M) {
	peer.Dispatch()
	if os.Getenv(engineEnv) != "" {
		if err := runEngine(os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	netlab.Main(m)
}

const nodeAddress = "10.9.0.250"

// stage is a node and routers on one segment.
type stage struct {
	*testing.T
	net     *netlab.Network
	segment *netlab.Segment
	node    *netlab.Host
	dir     string
	engine  *process
	peers   []string // addresses
}

// station is a router on the stage.
type station struct {
	peer.Daemon
	host *netlab.Host
	vty  *peer.VTY // of FRR

	last peer.Counts // when it had last done all it had to do
}

func newStage(t *testing.T) *stage {
	t.Helper()
	netlab.Need(t)
	dir, err := os.MkdirTemp("", "herald-bench-bgp") //nolint:usetesting // t.TempDir is closed to the users that daemons change to
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	s := &stage{T: t, dir: dir}
	s.net, err = netlab.New(netlab.Options{})
	must(t, err)
	t.Cleanup(func() {
		if err := s.net.Close(); err != nil {
			t.Errorf("remove the network: %v", err)
		}
	})
	s.segment, err = s.net.Segment("lan")
	must(t, err)
	s.node, err = s.net.Host("node")
	must(t, err)
	_, err = s.node.Join(s.segment, "eth0", netip.MustParsePrefix(nodeAddress+"/24"))
	must(t, err)
	s.engine = startEngine(t, s.node, dir)
	return s
}

// router adds a router to the stage.
func (s *stage) router(kind peer.Kind, tableOnly bool) *station {
	s.Helper()
	n := len(s.peers) + 1
	address := netip.AddrFrom4([4]byte{10, 9, 0, byte(n)})
	h, err := s.net.Host(fmt.Sprintf("router-%d", n))
	must(s.T, err)
	_, err = h.Join(s.segment, "eth0", netip.PrefixFrom(address, 24))
	must(s.T, err)
	d, err := peer.Start(s.Context(), peer.Config{
		Kind: kind, Host: h, Dir: fmt.Sprintf("%s/router-%d", s.dir, n), ASN: routerAS, RouterID: address, Local: address,
		Neighbor: netip.MustParseAddr(nodeAddress), NeighborASN: nodeAS, IPv4: true, HoldTime: 90 * time.Second, Restart: true, TableOnly: tableOnly,
	})
	must(s.T, err)
	st := &station{Daemon: d, host: h}
	s.Cleanup(func() {
		_ = d.Close() // killed
		if s.Failed() {
			said := d.Log()
			s.Log(said[max(0, len(said)-2000):])
		}
	})
	if kind == peer.FRR {
		st.vty, err = peer.OpenVTY(d)
		must(s.T, err)
		s.Cleanup(func() { st.vty.Close() })
	}
	s.peers = append(s.peers, address.String())
	return st
}

// tell has the engine advertise the first n routes to all routers.
func (s *stage) tell(n int) { s.engine.tell(order{Peers: s.peers, Routes: n}) }

// until waits for a condition that is cheap to ask for, and returns how long that took.
func (s *stage) until(every time.Duration, what string, holds func() bool) time.Duration {
	s.Helper()
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("waited in vain for %s", what)
		}
	}
	return time.Since(began)
}

// settled reports whether the router has n routes of the node, and has chosen anew for each that came or went.
func (st *station) settled(s *stage, n int) bool {
	s.Helper()
	now, err := st.vty.Counts(s.Context())
	must(s.T, err)
	changed := n - st.last.Received
	if now.Received != n || now.Version-st.last.Version < max(changed, -changed) {
		return false
	}
	st.last = now
	return true
}

// received waits until each of the routers has n routes of the node, and nothing left to do.
func (s *stage) received(n int, routers ...*station) time.Duration {
	s.Helper()
	began := time.Now()
	for i, r := range routers {
		s.until(10*time.Millisecond, fmt.Sprintf("%d routes at router %d", n, i+1), func() bool { return r.settled(s, n) })
	}
	return time.Since(began)
}
