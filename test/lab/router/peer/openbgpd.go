package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// openbgpd is OpenBGPD's portable edition.
type openbgpd struct {
	processes
	c Config
}

func openbgpdAvailable() error {
	if netlab.SingleUser() {
		return errors.New("OpenBGPD changes to a user of its own, which an ordinary user's namespace does not have")
	}
	return installed("openbgpd", "bgpctl")
}

// openbgpdPath finds the daemon; FRR's has the same name and lives elsewhere.
func openbgpdPath() string { return "/usr/sbin/bgpd" }

func startOpenBGPD(ctx context.Context, c Config) (Daemon, error) {
	o := &openbgpd{c: c}
	if err := openbgpdJail(); err != nil {
		return nil, err
	}
	conf, err := write(c.Dir, "bgpd.conf", o.config(), 0o600)
	if err != nil {
		return nil, err
	}
	p, err := run(c.Host, c.Dir, "openbgpd", exec.Command(openbgpdPath(), "-d", "-f", conf))
	if err != nil {
		return nil, err
	}
	o.processes = processes{p}
	if err := p.ready(ctx, func(ctx context.Context) error { _, err := o.Session(ctx); return err }); err != nil {
		p.kill()
		return nil, err
	}
	return o, nil
}

// openbgpdJail makes the directory that the daemon locks itself in: the home of its user, which a laboratory's own /run does not have.
func openbgpdJail() error {
	for _, name := range []string{"_openbgpd", "_bgpd"} {
		if u, err := user.Lookup(name); err == nil {
			return os.MkdirAll(u.HomeDir, 0o755)
		}
	}
	return errors.New("OpenBGPD's user is neither _openbgpd nor _bgpd here")
}

func (o *openbgpd) socket() string { return filepath.Join(o.c.Dir, "bgpd.sock") }

func (o *openbgpd) config() string {
	c := o.c
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("AS %d\nrouter-id %s\nfib-update no\nsocket %q", c.ASN, c.RouterID, o.socket())
	line("listen on %s", c.Local)
	line("neighbor %s {\n  remote-as %d\n  passive\n  holdtime %d", c.Neighbor, c.NeighborASN, c.hold())
	line("  announce IPv4 %s\n  announce IPv6 %s", unicast(c.IPv4), unicast(c.IPv6))
	line("  announce restart %s", map[bool]string{true: "yes", false: "no"}[c.Restart])
	if c.Password != "" {
		line("  tcp md5sig password %q", c.Password)
	}
	if c.TTLSecurity {
		line("  ttl-security yes")
	}
	if c.MultiHop && !c.Internal() {
		line("  multihop 8")
	}
	line("}\nallow from any\ndeny to any")
	return b.String()
}

func unicast(on bool) string {
	if on {
		return "unicast"
	}
	return "none"
}

func (o *openbgpd) ask(ctx context.Context, into any, words ...string) error {
	out, err := output(ctx, "bgpctl", append([]string{"-s", o.socket(), "-j"}, words...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("read bgpctl's %q: %w", strings.Join(words, " "), err)
	}
	return nil
}

// Session implements Daemon.
func (o *openbgpd) Session(ctx context.Context) (Session, error) {
	var doc openbgpdNeighbors
	if err := o.ask(ctx, &doc, "show", "neighbor"); err != nil {
		return Session{}, err
	}
	return doc.session(), nil
}

// openbgpdNeighbors is what bgpctl prints of neighbours.
type openbgpdNeighbors struct {
	Neighbors []struct {
		RemoteAS  string `json:"remote_as"`
		State     string
		LastError string `json:"last_error_received"`
		LastSent  string `json:"last_error_sent"`
		Shutdown  string `json:"last_shutdown_reason"`
		Session   struct {
			HoldTime int `json:"holdtime"`
			Remote   struct {
				Capabilities map[string]json.RawMessage
			}
		}
	}
}

func (doc openbgpdNeighbors) session() Session {
	if len(doc.Neighbors) == 0 {
		return Session{}
	}
	n := doc.Neighbors[0]
	asn, _ := strconv.ParseUint(n.RemoteAS, 10, 32)
	s := Session{
		Established: n.State == "Established",
		RemoteASN:   uint32(asn),
		HoldTime:    time.Duration(n.Session.HoldTime) * time.Second,
		LastEnd:     strings.TrimSpace(n.LastError + " " + n.Shutdown),
	}
	mp := string(n.Session.Remote.Capabilities["multiprotocol"])
	s.Families = families(strings.Contains(mp, "IPv4 unicast"), strings.Contains(mp, "IPv6 unicast"))
	_, s.Restart = n.Session.Remote.Capabilities["graceful_restart"]
	return s
}

// Routes implements Daemon.
func (o *openbgpd) Routes(ctx context.Context) ([]Route, error) {
	var doc openbgpdRIB
	if err := o.ask(ctx, &doc, "show", "rib", "detail"); err != nil {
		return nil, err
	}
	return doc.routes()
}

// openbgpdRIB is what `bgpctl -j show rib detail` prints.
type openbgpdRIB struct {
	RIB []struct {
		Prefix    string
		ASPath    string `json:"aspath"`
		NextHop   string `json:"exit_nexthop"`
		Origin    string
		Metric    int64
		LocalPref uint32
		Standard  []string `json:"communities"`
		Large     []string `json:"large_communities"`
		Extended  []string `json:"extended_communities"`
	}
}

func (doc openbgpdRIB) routes() ([]Route, error) {
	var list []Route
	for _, e := range doc.RIB {
		prefix, err := netip.ParsePrefix(e.Prefix)
		if err != nil {
			return nil, fmt.Errorf("read bgpctl's routes: %w", err)
		}
		r := Route{Prefix: prefix, ASPath: e.ASPath, Origin: e.Origin, MED: e.Metric, LocalPref: e.LocalPref}
		r.NextHop, _ = netip.ParseAddr(e.NextHop)
		for _, s := range e.Standard {
			r.Communities = append(r.Communities, standard(s))
		}
		for _, s := range e.Large {
			r.Communities = append(r.Communities, "large:"+s)
		}
		for _, s := range e.Extended {
			r.Communities = append(r.Communities, strings.Replace(s, " ", ":", 1))
		}
		list = append(list, r)
	}
	return tidy(list), nil
}
