package bgp

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
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	engine "github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/bgp/gobgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/test/bench/figures"
	"github.com/heraldlb/herald/test/lab/netlab"
)

const (
	engineEnv = "HERALD_BENCH_ENGINE"
	nodeAS    = 64512
	routerAS  = 64513
)

// order is what the engine's process is told, a line each.
type order struct {
	Peers   []string // addresses of routers
	Routes  int      // the first so many of all routes
	Restart bool     // end as one that will be back
}

// prefix is the i-th of all routes.
func prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>16), byte(i >> 8), byte(i)}), 32)
}

// runEngine is the engine's process: it obeys until its input ends or it is told to.
func runEngine(in io.Reader) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	a := engine.New(engine.Options{Node: "node-1", Log: log, Router: gobgp.New(gobgp.Options{Log: log})})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var cause error
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if o.Restart {
			cause = engine.ErrRestarting
			break
		}
		a.Set(o.desired())
	}
	cancel(cause)
	return <-done
}

// desired is what the order asks for.
func (o order) desired() engine.Desired {
	var d engine.Desired
	var names []string
	for i, address := range o.Peers {
		p := &config.Peer{
			Name: fmt.Sprintf("peer-%d", i), MyASN: nodeAS, PeerASN: routerAS, Address: netip.MustParseAddr(address), Port: 179,
			Families: []config.Family{config.IPv4}, HoldTime: 90 * time.Second, KeepaliveTime: 30 * time.Second, ConnectTime: time.Second,
			Restart: config.GracefulRestart{Enabled: true, RestartTime: 2 * time.Minute}, Nodes: config.All[string](),
		}
		d.Peers, names = append(d.Peers, p), append(names, p.Name)
	}
	var routes []decide.Route
	for i := range o.Routes {
		routes = append(routes, decide.Route{Prefix: prefix(i), Peers: names})
	}
	d.Routes = slices.Collect(slices.Chunk(routes, 50))
	return d
}

// process is the engine's process as seen from outside.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{}
}

func startEngine(t *testing.T, h *netlab.Host, dir string) *process {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	p := &process{t: t, cmd: exec.Command(self), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), engineEnv+"=1")
	log, err := os.OpenFile(filepath.Join(dir, "engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	must(t, h.Start(p.cmd))
	go func() { defer close(p.done); _ = p.cmd.Wait() }() // joined in end
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("the engine said:\n%s", said)
		}
	})
	return p
}

func (p *process) tell(o order) {
	p.t.Helper()
	line, err := json.Marshal(o)
	must(p.t, err)
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatalf("the engine's process is gone: %v", err)
	}
}

// end closes the process's input, which ends it, and waits for that.
func (p *process) end() {
	p.in.Close()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Error("the engine's process does not end")
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// memory returns a size of the process in MiB.
func (p *process) memory(field string) float64 {
	p.t.Helper()
	size, err := figures.Memory(p.cmd.Process.Pid, field)
	must(p.t, err)
	return size
}

// cpu returns the processor time that the process has used.
func (p *process) cpu() time.Duration {
	p.t.Helper()
	used, err := figures.CPU(p.cmd.Process.Pid)
	must(p.t, err)
	return used
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
