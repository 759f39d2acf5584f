package router

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// speakerEnv makes the re-executed test binary a BGP speaker: a process of its own, because it must dial from a host's namespace.
const speakerEnv = "ROUTER_TEST_SPEAKER"

func TestMain(m *testing.M) {
	if conf := os.Getenv(speakerEnv); conf != "" {
		if err := runSpeaker(conf); err != nil {
			fmt.Fprintln(os.Stderr, "speaker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	netlab.Main(m)
}

type speakerConfig struct {
	ASN, PeerASN uint32
	RouterID     string
	Peers        []string
	Password     string
}

// order is one line of the speaker's standard input.
type order struct {
	Prefix   netip.Prefix
	NextHop  netip.Addr
	Med      uint32
	Withdraw bool
}

func runSpeaker(conf string) error {
	var c speakerConfig
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		return err
	}
	ctx := context.Background()
	s := server.NewBgpServer(server.LoggerOption(gobgpLog{slog.New(slog.NewTextHandler(os.Stderr, nil))}))
	go s.Serve()
	if err := s.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{Asn: c.ASN, RouterId: c.RouterID, ListenPort: -1}}); err != nil {
		return err
	}
	for _, address := range c.Peers {
		p := &api.Peer{Conf: &api.PeerConf{NeighborAddress: address, PeerAsn: c.PeerASN, AuthPassword: c.Password}}
		for _, f := range families() {
			p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f, Enabled: true}})
		}
		if err := s.AddPeer(ctx, &api.AddPeerRequest{Peer: p}); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if err := obey(ctx, s, o); err != nil {
			return err
		}
	}
	return s.StopBgp(ctx, &api.StopBgpRequest{})
}

func obey(ctx context.Context, s *server.BgpServer, o order) error {
	path := &api.Path{Family: families()[0], IsWithdraw: o.Withdraw}
	nlri, err := anypb.New(&api.IPAddressPrefix{Prefix: o.Prefix.Addr().String(), PrefixLen: uint32(o.Prefix.Bits())})
	if err != nil {
		return err
	}
	path.Nlri = nlri
	origin, _ := anypb.New(&api.OriginAttribute{})
	med, _ := anypb.New(&api.MultiExitDiscAttribute{Med: o.Med})
	path.Pattrs = append(path.Pattrs, origin, med)
	if o.Prefix.Addr().Is6() {
		path.Family = families()[1]
		mp, err := anypb.New(&api.MpReachNLRIAttribute{Family: path.Family, NextHops: []string{o.NextHop.String()}, Nlris: []*anypb.Any{nlri}})
		if err != nil {
			return err
		}
		path.Pattrs = append(path.Pattrs, mp)
	} else {
		hop, _ := anypb.New(&api.NextHopAttribute{NextHop: o.NextHop.String()})
		path.Pattrs = append(path.Pattrs, hop)
	}
	_, err = s.AddPath(ctx, &api.AddPathRequest{Path: path})
	return err
}

// speaker is the speaker's process, seen from the test.
type speaker struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
}

func startSpeaker(t *testing.T, h *netlab.Host, c speakerConfig) *speaker {
	t.Helper()
	conf, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), speakerEnv+"="+string(conf))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	s := &speaker{t: t, cmd: cmd, in: in}
	t.Cleanup(s.kill)
	return s
}

func (s *speaker) tell(o order) {
	s.t.Helper()
	if err := json.NewEncoder(s.in).Encode(o); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the speaker without a farewell.
func (s *speaker) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
