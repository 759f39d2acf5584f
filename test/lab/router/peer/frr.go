package peer

import (
	"bytes"
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
	"text/template"
	"time"

	"github.com/heraldlb/herald/test/lab/router"
)

func frrAvailable() error { return router.FRRAvailable() }

const frrTemplate = `frr defaults traditional
router bgp {{.ASN}}
 bgp router-id {{.RouterID}}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor {{.Who}}{{if .Interface}} interface{{end}} remote-as {{.NeighborASN}}
 neighbor {{.Who}} timers {{.Keepalive}} {{.Hold}}
{{- if .Interface}}
 neighbor {{.Who}} timers connect 1
{{- else}}
 neighbor {{.Who}} passive
{{- end}}
{{- if .Password}}
 neighbor {{.Who}} password {{.Password}}
{{- end}}
{{- if .TTLSecurity}}
 neighbor {{.Who}} ttl-security hops 1
{{- end}}
{{- if and .MultiHop (not .Internal)}}
 neighbor {{.Who}} ebgp-multihop 8
{{- end}}
{{- if .ExtendedNextHop}}
 neighbor {{.Who}} capability extended-nexthop
{{- end}}
{{- if .BFD}}
 neighbor {{.Who}} bfd 3 300 300
{{- end}}
{{- range .Families}}
 address-family {{.}} unicast
  neighbor {{$.Who}} activate
  neighbor {{$.Who}} soft-reconfiguration inbound
 exit-address-family
{{- end}}
exit
`

// frr is zebra and bgpd, and bfdd where it is asked for.
type frr struct {
	processes
	c   Config
	dir string
}

func startFRR(ctx context.Context, c Config) (_ Daemon, err error) {
	f := &frr{c: c, dir: filepath.Join(c.Dir, "frr")}
	conf, err := f.config()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, name := range f.daemons() {
		path, err := f.find(name)
		if err != nil {
			return nil, err
		}
		args := []string{
			"-f", conf, "-i", filepath.Join(f.dir, name+".pid"), "-z", filepath.Join(f.dir, "zserv.api"),
			"--vty_socket", f.dir, "-P", "0", "--log", "stdout",
		}
		if c.TableOnly {
			args = append(args, "--no_zebra", "--no_kernel")
		}
		if name == "bfdd" {
			args = append(args, "--bfdctl", filepath.Join(f.dir, "bfdd.sock"))
		}
		p, err := run(c.Host, c.Dir, name, exec.Command(path, args...))
		if err != nil {
			return nil, err
		}
		f.processes = append(f.processes, p)
		if err := p.ready(ctx, func(ctx context.Context) error { _, err := f.ask(ctx, name, "show version"); return err }); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *frr) daemons() []string {
	switch {
	case f.c.TableOnly:
		return []string{"bgpd"}
	case f.c.BFD:
		return []string{"zebra", "bfdd", "bgpd"}
	}
	return []string{"zebra", "bgpd"}
}

func (f *frr) find(name string) (string, error) {
	for _, dir := range []string{"/usr/lib/frr", "/usr/libexec/frr", "/usr/sbin"} {
		if path := filepath.Join(dir, name); isFile(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("FRR has no %s here", name)
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// config writes the configuration into a directory of the user that FRR changes to.
func (f *frr) config() (string, error) {
	u, err := user.Lookup("frr")
	if err != nil {
		return "", err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	text, err := template.New("frr").Parse(frrTemplate)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	who := f.c.Interface
	if who == "" {
		who = f.c.Neighbor.String()
	}
	err = text.Execute(&b, struct {
		Config
		Who             string
		Hold, Keepalive int
		Families        []string
	}{f.c, who, f.c.hold(), max(1, f.c.hold()/3), strings.Fields(strings.ToLower(families(f.c.IPv4, f.c.IPv6)))})
	if err != nil {
		return "", err
	}
	path, err := write(f.dir, "frr.conf", b.String(), 0o640)
	return path, errors.Join(err, os.Chown(f.dir, uid, gid), os.Chown(path, uid, gid))
}

// ask runs one command in a daemon's shell.
func (f *frr) ask(ctx context.Context, daemon, command string) ([]byte, error) {
	return output(ctx, "vtysh", "--vty_socket", f.dir, "-d", daemon, "-c", command)
}

// Log implements Daemon.
func (f *frr) Log() string {
	if !f.c.BFD {
		return f.processes.Log()
	}
	out, err := f.ask(context.Background(), "bfdd", "show bfd peers")
	return fmt.Sprintf("%sshow bfd peers: %s (error %v)", f.processes.Log(), out, err)
}

// Session implements Daemon.
func (f *frr) Session(ctx context.Context) (Session, error) {
	out, err := f.ask(ctx, "bgpd", "show bgp neighbors json")
	if err != nil {
		return Session{}, err
	}
	return parseFRRNeighbor(out)
}

func parseFRRNeighbor(out []byte) (Session, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(out, &doc); err != nil {
		return Session{}, fmt.Errorf("read bgpd's neighbours: %w", err)
	}
	for _, raw := range doc {
		var n struct {
			RemoteAs                uint32
			BgpState                string
			BgpTimerHoldTimeMsecs   int64
			LastResetDueTo          string
			PeerBfdInfo             struct{ Status string }
			LastNotificationReason  string
			LastShutdownDescription string
			AddressFamilyInfo       map[string]json.RawMessage
			NeighborCapabilities    struct {
				GracefulRestart         string
				MultiprotocolExtensions map[string]map[string]bool
			}
		}
		if err := json.Unmarshal(raw, &n); err != nil {
			continue // a value that is no neighbour
		}
		mp := n.NeighborCapabilities.MultiprotocolExtensions
		return Session{
			Established: n.BgpState == "Established",
			HoldTime:    time.Duration(n.BgpTimerHoldTimeMsecs) * time.Millisecond,
			Families:    families(mp["ipv4Unicast"]["advertisedAndReceived"], mp["ipv6Unicast"]["advertisedAndReceived"]),
			RemoteASN:   n.RemoteAs,
			Restart:     strings.Contains(strings.ToLower(n.NeighborCapabilities.GracefulRestart), "received"),
			LastEnd:     strings.TrimSpace(n.LastResetDueTo + " " + n.LastNotificationReason + " " + n.LastShutdownDescription),
			BFD:         n.PeerBfdInfo.Status,
		}, nil
	}
	return Session{}, nil
}

// Routes implements Daemon.
func (f *frr) Routes(ctx context.Context) ([]Route, error) {
	var list []Route
	for _, family := range []string{"ipv4", "ipv6"} {
		out, err := f.ask(ctx, "bgpd", "show bgp "+family+" unicast json")
		if err != nil {
			return nil, err
		}
		var table struct{ Routes map[string]json.RawMessage }
		if err := json.Unmarshal(out, &table); err != nil {
			return nil, fmt.Errorf("read bgpd's table: %w", err)
		}
		for prefix := range table.Routes {
			out, err := f.ask(ctx, "bgpd", "show bgp "+family+" unicast "+prefix+" json")
			if err != nil {
				return nil, err
			}
			found, err := parseFRRRoute(out)
			if err != nil {
				return nil, err
			}
			list = append(list, found...)
		}
	}
	return tidy(list), nil
}

func parseFRRRoute(out []byte) ([]Route, error) {
	type words struct{ String string }
	var doc struct {
		Prefix string
		Paths  []struct {
			ASPath            words
			Origin            string
			LocPrf            uint32
			Metric            *int64
			Community         words
			ExtendedCommunity words
			LargeCommunity    words
			Nexthops          []struct{ IP string }
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, fmt.Errorf("read bgpd's route: %w", err)
	}
	if len(doc.Paths) == 0 { // went between two questions
		return nil, nil
	}
	prefix, err := netip.ParsePrefix(doc.Prefix)
	if err != nil {
		return nil, fmt.Errorf("read bgpd's route: %w", err)
	}
	p := doc.Paths[0]
	r := Route{Prefix: prefix, ASPath: p.ASPath.String, Origin: p.Origin, LocalPref: p.LocPrf, MED: -1}
	if r.ASPath == "Local" { // FRR's word for an empty path
		r.ASPath = ""
	}
	if p.Metric != nil {
		r.MED = *p.Metric
	}
	for _, h := range p.Nexthops {
		if a, err := netip.ParseAddr(h.IP); err == nil && (!r.NextHop.IsValid() || r.NextHop.IsLinkLocalUnicast()) {
			r.NextHop = a
		}
	}
	for s := range strings.FieldsSeq(p.Community.String) {
		r.Communities = append(r.Communities, standard(s))
	}
	for s := range strings.FieldsSeq(p.LargeCommunity.String) {
		r.Communities = append(r.Communities, "large:"+s)
	}
	r.Communities = append(r.Communities, frrExtended(p.ExtendedCommunity.String)...)
	return []Route{r}, nil
}

// frrExtended reads "RT:65000:100 SoO:192.0.2.1:7 LB:64512:1000000 (8.000 Mbps)".
func frrExtended(s string) []string {
	var out []string
	for w := range strings.FieldsSeq(s) {
		kind, value, ok := strings.Cut(w, ":")
		name := map[string]string{"RT": "rt", "SoO": "soo", "LB": "bandwidth"}[kind]
		if ok && name != "" {
			out = append(out, name+":"+value)
		}
	}
	return out
}
