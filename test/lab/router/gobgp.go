package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/server"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// gobgp is a GoBGP server in this process, whose sockets are made in the router's namespace, and a goroutine that carries
// what it learns into the kernel.
type gobgp struct {
	host   *netlab.Host
	server *server.BgpServer
	fib    *fib
	cancel context.CancelFunc
	joined sync.WaitGroup
}

const (
	gobgpGroup = "lan"
	bgpPort    = 179
)

func startGoBGP(ctx context.Context, c Config) (_ Router, err error) {
	g := &gobgp{host: c.Host, server: server.NewBgpServer(server.LoggerOption(gobgpLog{c.Log})), fib: newFIB(c.Host, c.Log)}
	// The server opens its listeners in the goroutine that serves, so that one stays in the namespace. It only waits for neighbours:
	// sessions it opened itself would be made elsewhere. GoBGP gives no way to end this goroutine, so it is not joined.
	if err := plainTCP(c.Host); err != nil {
		return nil, fmt.Errorf("router: start GoBGP: %w", err)
	}
	serving := make(chan error, 1)
	go func() {
		err := c.Host.Do(func() error { serving <- nil; g.server.Serve(); return nil })
		serving <- err
	}()
	if err := <-serving; err != nil {
		return nil, fmt.Errorf("router: start GoBGP: %w", err)
	}
	run, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if err := g.configure(ctx, run, c); err != nil {
		return nil, fmt.Errorf("router: start GoBGP: %w", err)
	}
	g.joined.Go(func() { g.carry(run) })
	return g, nil
}

// plainTCP keeps Go's listeners from being multipath TCP sockets: those know neither TCP MD5 nor a TTL of their own.
func plainTCP(h *netlab.Host) error {
	err := h.Sysctl("net.mptcp.enabled", "0")
	if errors.Is(err, os.ErrNotExist) { // a kernel without multipath TCP
		return nil
	}
	return err
}

func (g *gobgp) configure(ctx, run context.Context, c Config) error {
	err := g.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: c.ASN, RouterId: c.RouterID.String(), ListenPort: bgpPort, ListenAddresses: []string{"0.0.0.0", "::"},
	}})
	if err != nil {
		return err
	}
	if err := g.subscribe(run); err != nil {
		return err
	}
	hold := uint64(c.holdTime() / time.Second)
	group := &api.PeerGroup{
		Conf:            &api.PeerGroupConf{PeerGroupName: gobgpGroup, PeerAsn: c.PeerASN, AuthPassword: c.Password},
		Timers:          &api.Timers{Config: &api.TimersConfig{HoldTime: hold, KeepaliveInterval: max(1, hold/3)}},
		Transport:       &api.Transport{PassiveMode: true},
		GracefulRestart: &api.GracefulRestart{Enabled: true, HelperOnly: true, RestartTime: 120},
	}
	for _, f := range families() {
		group.AfiSafis = append(group.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
		})
	}
	if err := g.server.AddPeerGroup(ctx, &api.AddPeerGroupRequest{PeerGroup: group}); err != nil {
		return err
	}
	for _, p := range c.Listen {
		dyn := &api.DynamicNeighbor{Prefix: p.String(), PeerGroup: gobgpGroup}
		if err := g.server.AddDynamicNeighbor(ctx, &api.AddDynamicNeighborRequest{DynamicNeighbor: dyn}); err != nil {
			return err
		}
	}
	return nil
}

func families() []*api.Family {
	return []*api.Family{
		{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST},
		{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST},
	}
}

// subscribe notes which prefixes may have changed. The events only say where to look: what holds is read from the table afterwards,
// because neither kind alone tells of every change (a path that was not the best goes; a neighbour goes with all its paths).
func (g *gobgp) subscribe(ctx context.Context) error {
	watch := &api.WatchEventRequest{
		Peer: &api.WatchEventRequest_Peer{},
		Table: &api.WatchEventRequest_Table{Filters: []*api.WatchEventRequest_Table_Filter{
			{Type: api.WatchEventRequest_Table_Filter_BEST},
			{Type: api.WatchEventRequest_Table_Filter_POST_POLICY},
		}},
	}
	return g.server.WatchEvent(ctx, watch, func(r *api.WatchEventResponse) {
		if t := r.GetTable(); t != nil {
			prefixes := make([]netip.Prefix, 0, len(t.Paths))
			for _, p := range t.Paths {
				if prefix, err := prefixOf(p); err == nil {
					prefixes = append(prefixes, prefix)
				}
			}
			g.fib.look(prefixes)
		}
		if r.GetPeer() != nil {
			g.fib.lookEverywhere()
		}
	})
}

func prefixOf(p *api.Path) (netip.Prefix, error) {
	nlri, err := apiutil.GetNativeNlri(p)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.ParsePrefix(nlri.String())
}

// carry brings the kernel up to date with the table until the context ends.
func (g *gobgp) carry(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.fib.wake:
		}
		prefixes, everywhere := g.fib.take()
		learned, err := g.table(ctx, prefixes, everywhere)
		if err != nil {
			g.fib.log.Warn("reading the BGP table failed", "error", err)
			continue
		}
		if everywhere {
			g.fib.replaceAll(learned)
		} else {
			g.fib.replace(prefixes, learned)
		}
	}
}

// table reads the paths of the given prefixes, or of all, and picks the equally good ones.
func (g *gobgp) table(ctx context.Context, prefixes []netip.Prefix, everywhere bool) (map[netip.Prefix][]netip.Addr, error) {
	learned := map[netip.Prefix][]netip.Addr{}
	for _, f := range families() {
		req := &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: f}
		for _, p := range prefixes {
			if p.Addr().Is6() == (f.Afi == api.Family_AFI_IP6) {
				req.Prefixes = append(req.Prefixes, &api.TableLookupPrefix{Prefix: p.String()})
			}
		}
		if !everywhere && len(req.Prefixes) == 0 {
			continue
		}
		err := g.server.ListPath(ctx, req, func(d *api.Destination) {
			prefix, err := netip.ParsePrefix(d.Prefix)
			if err != nil {
				return
			}
			if hops := equalBest(d.Paths); len(hops) > 0 {
				learned[prefix] = hops
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return learned, nil
}

// Kind implements [Router].
func (g *gobgp) Kind() Kind { return GoBGP }

// Neighbors implements [Router].
func (g *gobgp) Neighbors(ctx context.Context) ([]Neighbor, error) {
	seen := map[netip.Addr]Neighbor{}
	err := g.server.ListPeer(ctx, &api.ListPeerRequest{}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.State.NeighborAddress)
		if err != nil {
			return
		}
		seen[addr] = Neighbor{
			Address: addr, ASN: p.State.PeerAsn, State: p.State.SessionState.String(),
			Established: p.State.SessionState == api.PeerState_ESTABLISHED,
		}
	})
	return sortNeighbors(seen), err
}

// Close implements [Router].
func (g *gobgp) Close() error {
	stopped := make(chan error, 1)
	go func() { stopped <- g.server.StopBgp(context.Background(), &api.StopBgpRequest{}) }()
	var err error
	select {
	case err = <-stopped:
	case <-time.After(endWithin):
		err = errors.New("router: GoBGP did not stop")
	}
	g.cancel()
	g.joined.Wait()
	g.fib.replaceAll(nil)
	return err
}
