package peer

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// gobgp is a GoBGP server in a process of its own, which is this program again (see Dispatch), asked by its API.
type gobgp struct {
	processes
	conn   *grpc.ClientConn
	client api.GobgpApiClient
}

func startGoBGP(ctx context.Context, c Config) (Daemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Go's listeners are multipath TCP sockets where the kernel has that; those know neither TCP MD5 nor a TTL of their own.
	if err := c.Host.Sysctl("net.mptcp.enabled", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	p := gobgpParams{Config: c, Socket: filepath.Join(c.Dir, "gobgp.sock")}
	p.Host = nil // stays here
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), gobgpEnv+"="+string(text))
	proc, err := run(c.Host, c.Dir, "gobgp", cmd)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.DialContext(ctx, "unix://"+p.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		proc.kill()
		return nil, err
	}
	g := &gobgp{processes{proc}, conn, api.NewGobgpApiClient(conn)}
	ready := func(ctx context.Context) error {
		if _, err := os.Stat(p.Socket + ".ready"); err != nil {
			return err
		}
		_, err := g.peer(ctx)
		return err
	}
	if err := proc.ready(ctx, ready); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Close implements Daemon.
func (g *gobgp) Close() error { return errors.Join(g.processes.Close(), g.conn.Close()) }

func (g *gobgp) peer(ctx context.Context) (*api.Peer, error) {
	stream, err := g.client.ListPeer(ctx, &api.ListPeerRequest{})
	if err != nil {
		return nil, err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("GoBGP lists no neighbour: %w", err)
		}
		if r.Peer != nil {
			return r.Peer, nil
		}
	}
}

// Session implements Daemon.
func (g *gobgp) Session(ctx context.Context) (Session, error) {
	p, err := g.peer(ctx)
	if err != nil {
		return Session{}, err
	}
	s := Session{
		Established: p.State.SessionState == api.PeerState_ESTABLISHED,
		RemoteASN:   p.State.PeerAsn,
		LastEnd:     strings.TrimSpace(p.State.AdminState.String()),
	}
	if p.Timers != nil && p.Timers.State != nil {
		s.HoldTime = time.Duration(p.Timers.State.NegotiatedHoldTime) * time.Second
	}
	var v4, v6 bool
	for _, c := range p.State.RemoteCap {
		m, err := c.UnmarshalNew()
		if err != nil {
			return s, err
		}
		switch c := m.(type) {
		case *api.MultiProtocolCapability:
			v4, v6 = v4 || c.Family.Afi == api.Family_AFI_IP, v6 || c.Family.Afi == api.Family_AFI_IP6
		case *api.GracefulRestartCapability:
			s.Restart = true
		}
	}
	s.Families = families(v4, v6)
	s.LastEnd = notifications(g.Log())
	return s, nil
}

// notifications returns the last notification that GoBGP wrote of into its log; its API does not tell.
func notifications(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "received notification") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// Routes implements Daemon.
func (g *gobgp) Routes(ctx context.Context) ([]Route, error) {
	var list []Route
	for _, f := range gobgpFamilies(Config{IPv4: true, IPv6: true}) {
		stream, err := g.client.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: f})
		if err != nil {
			return nil, err
		}
		for {
			r, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			found, err := gobgpRoute(r.Destination)
			if err != nil {
				return nil, err
			}
			list = append(list, found...)
		}
	}
	return tidy(list), nil
}

func gobgpRoute(d *api.Destination) ([]Route, error) {
	if d == nil || len(d.Paths) == 0 {
		return nil, nil
	}
	prefix, err := netip.ParsePrefix(d.Prefix)
	if err != nil {
		return nil, fmt.Errorf("read GoBGP's route: %w", err)
	}
	attrs, err := apiutil.GetNativePathAttributes(d.Paths[0])
	if err != nil {
		return nil, fmt.Errorf("read GoBGP's attributes: %w", err)
	}
	r := Route{Prefix: prefix, MED: -1}
	for _, a := range attrs {
		if err := r.gobgpAttribute(a); err != nil {
			return nil, err
		}
	}
	return []Route{r}, nil
}

func (r *Route) gobgpAttribute(a bgp.PathAttributeInterface) error {
	switch a := a.(type) {
	case *bgp.PathAttributeOrigin:
		r.Origin = map[uint8]string{0: "IGP", 1: "EGP", 2: "incomplete"}[a.Value]
	case *bgp.PathAttributeAsPath:
		var path []string
		for _, p := range a.Value {
			for _, n := range p.GetAS() {
				path = append(path, fmt.Sprint(n))
			}
		}
		r.ASPath = strings.Join(path, " ")
	case *bgp.PathAttributeNextHop:
		r.NextHop, _ = netip.AddrFromSlice(a.Value)
		r.NextHop = r.NextHop.Unmap()
	case *bgp.PathAttributeMpReachNLRI:
		r.NextHop, _ = netip.AddrFromSlice(a.Nexthop)
		r.NextHop = r.NextHop.Unmap()
	case *bgp.PathAttributeMultiExitDisc:
		r.MED = int64(a.Value)
	case *bgp.PathAttributeLocalPref:
		r.LocalPref = a.Value
	default:
		return r.gobgpCommunities(a)
	}
	return nil
}

func (r *Route) gobgpCommunities(a bgp.PathAttributeInterface) error {
	switch a := a.(type) {
	case *bgp.PathAttributeCommunities:
		for _, c := range a.Value {
			r.Communities = append(r.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
		}
	case *bgp.PathAttributeLargeCommunities:
		for _, c := range a.Values {
			r.Communities = append(r.Communities, "large:"+c.String())
		}
	case *bgp.PathAttributeExtendedCommunities:
		for _, c := range a.Value {
			octets, err := c.Serialize()
			if err != nil {
				return err
			}
			r.Communities = append(r.Communities, extended(hex.EncodeToString(octets)))
		}
	}
	return nil
}
