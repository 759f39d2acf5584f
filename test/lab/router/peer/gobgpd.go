package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	api "github.com/osrg/gobgp/v3/api"
	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// gobgpEnv tells this program, started again, to be a GoBGP server, and which.
const gobgpEnv = "HERALD_PEER_GOBGP"

// gobgpParams are what the server needs to know.
type gobgpParams struct {
	Config
	Socket string // of its API
}

// Dispatch turns this process into a helper if it was started as one, and does not return then. Call it first in main or TestMain.
func Dispatch() {
	text := os.Getenv(gobgpEnv)
	if text == "" {
		return
	}
	fmt.Fprintln(os.Stderr, "gobgp:", serveGoBGP(text))
	os.Exit(1)
}

// serveGoBGP runs the server until the process is killed. It returns only when that does not work.
func serveGoBGP(text string) error {
	var p gobgpParams
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	ctx := context.Background()
	s := server.NewBgpServer(server.GrpcListenAddress("unix://"+p.Socket), server.LoggerOption(lines{os.Stdout}))
	go s.Serve()
	err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: p.ASN, RouterId: p.RouterID.String(), ListenPort: 179, ListenAddresses: []string{p.listen()},
	}})
	if err != nil {
		return err
	}
	if err := s.AddPeer(ctx, &api.AddPeerRequest{Peer: p.peer()}); err != nil {
		return err
	}
	if err := os.WriteFile(p.Socket+".ready", nil, 0o644); err != nil {
		return err
	}
	select {}
}

func (p gobgpParams) listen() string {
	if p.Interface != "" {
		return "::"
	}
	return p.Local.String()
}

func (p gobgpParams) peer() *api.Peer {
	hold := uint64(p.hold())
	peer := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: p.Neighbor.String(), PeerAsn: p.NeighborASN, AuthPassword: p.Password},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: hold, KeepaliveInterval: max(1, hold/3), IdleHoldTimeAfterReset: 1}},
		Transport: &api.Transport{PassiveMode: true},
	}
	if p.Interface != "" {
		peer.Conf.NeighborAddress = p.Neighbor.WithZone(p.Interface).String()
		peer.Transport.LocalAddress = "::"
	}
	if p.TTLSecurity {
		peer.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 255}
	}
	if p.MultiHop {
		peer.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: 8}
	}
	if p.Restart {
		peer.GracefulRestart = &api.GracefulRestart{Enabled: true, HelperOnly: true, RestartTime: 120}
	}
	for _, f := range gobgpFamilies(p.Config) {
		peer.AfiSafis = append(peer.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: p.Restart}},
		})
	}
	return peer
}

func gobgpFamilies(c Config) []*api.Family {
	var out []*api.Family
	if c.IPv4 {
		out = append(out, &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST})
	}
	if c.IPv6 {
		out = append(out, &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST})
	}
	return out
}

// lines writes GoBGP's log as lines.
type lines struct{ to io.Writer }

func (l lines) write(msg string, fields gobgplog.Fields) { fmt.Fprintln(l.to, msg, fields) }

func (l lines) Panic(msg string, fields gobgplog.Fields) { l.write(msg, fields); panic(msg) }
func (l lines) Fatal(msg string, fields gobgplog.Fields) { l.write(msg, fields); os.Exit(1) }
func (l lines) Error(msg string, fields gobgplog.Fields) { l.write(msg, fields) }
func (l lines) Warn(msg string, fields gobgplog.Fields)  { l.write(msg, fields) }
func (l lines) Info(msg string, fields gobgplog.Fields)  { l.write(msg, fields) }
func (l lines) Debug(string, gobgplog.Fields)            {}
func (l lines) SetLevel(gobgplog.LogLevel)               {}
func (l lines) GetLevel() gobgplog.LogLevel              { return gobgplog.InfoLevel }
