package router

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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// frrDirs are where distributions put FRR's daemons.
func frrDirs() []string { return []string{"/usr/lib/frr", "/usr/libexec/frr", "/usr/sbin"} }

const frrUser = "frr"

// FRRAvailable says why FRR cannot be used here; nil if it can.
func FRRAvailable() error {
	if netlab.SingleUser() {
		return errors.New("FRR changes to a user of its own, which an ordinary user's namespace does not have")
	}
	if _, err := user.Lookup(frrUser); err != nil {
		return err
	}
	if _, err := exec.LookPath("vtysh"); err != nil {
		return err
	}
	_, err := frrDaemon("bgpd")
	return err
}

func frrDaemon(name string) (string, error) {
	for _, dir := range frrDirs() {
		if path := filepath.Join(dir, name); isExecutable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("FRR's %s is in none of %v", name, frrDirs())
}

func isExecutable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// frrConfig is the template of the whole configuration; one file serves zebra and bgpd.
const frrConfig = `hostname {{.Host.Name}}
log stdout informational
!
router bgp {{.ASN}}
 bgp router-id {{.RouterID}}
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp bestpath as-path multipath-relax
 bgp listen limit 1000
 neighbor lan peer-group
 neighbor lan remote-as {{if .PeerASN}}{{.PeerASN}}{{else}}external{{end}}
 neighbor lan timers {{.Keepalive}} {{.Hold}}
{{- if .Password}}
 neighbor lan password {{.Password}}
{{- end}}
{{- range .Listen}}
 bgp listen range {{.}} peer-group lan
{{- end}}
{{- range .Families}}
 address-family {{.}} unicast
  neighbor lan activate
  maximum-paths 64
  maximum-paths ibgp 64
 exit-address-family
{{- end}}
exit
!
`

// renderFRR is FRR's configuration for c.
func renderFRR(c Config) ([]byte, error) {
	if strings.ContainsAny(c.Password, " \t\n") {
		return nil, errors.New("router: FRR takes no password with blanks in it")
	}
	text, err := template.New("frr.conf").Parse(frrConfig)
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	hold := int(c.holdTime() / time.Second)
	var b bytes.Buffer
	err = text.Execute(&b, struct {
		Config
		Hold, Keepalive int
		Families        []string
	}{c, hold, max(1, hold/3), []string{"ipv4", "ipv6"}})
	return b.Bytes(), err
}

// frr is zebra and bgpd with a run directory of their own.
type frr struct {
	config  Config
	runDir  string // sockets and pid files, owned by FRR's user
	daemons []*daemon
}

// daemon is a child process.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when it ended
}

func startFRR(ctx context.Context, c Config) (_ Router, err error) {
	if err := FRRAvailable(); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	f := &frr{config: c, runDir: filepath.Join("/run/frr", c.Host.Name())}
	conf, err := f.writeFiles()
	if err != nil {
		return nil, fmt.Errorf("router: prepare FRR: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, name := range []string{"zebra", "bgpd"} {
		if err := f.startDaemon(name, conf); err != nil {
			return nil, err
		}
		if err := f.waitReady(ctx, name); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// writeFiles writes the configuration and makes the directories, owned by the user that the daemons change to.
func (f *frr) writeFiles() (confPath string, err error) {
	u, err := user.Lookup(frrUser)
	if err != nil {
		return "", err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	conf, err := renderFRR(f.config)
	if err != nil {
		return "", err
	}
	confPath = filepath.Join(f.runDir, "frr.conf")
	for _, err := range []error{
		os.MkdirAll(f.config.RunDir, 0o755),
		os.MkdirAll(f.runDir, 0o755),
		os.WriteFile(confPath, conf, 0o640),
		os.Chown(filepath.Dir(f.runDir), uid, gid),
		os.Chown(f.runDir, uid, gid),
		os.Chown(confPath, uid, gid),
		os.WriteFile(filepath.Join(f.config.RunDir, "frr.conf"), conf, 0o644), // for people to read
	} {
		if err != nil {
			return "", err
		}
	}
	return confPath, nil
}

func (f *frr) startDaemon(name, conf string) error {
	path, err := frrDaemon(name)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(f.config.RunDir, name+".log"))
	if err != nil {
		return fmt.Errorf("router: log of %s: %w", name, err)
	}
	args := []string{
		"-f", conf, "-i", filepath.Join(f.runDir, name+".pid"), "-z", filepath.Join(f.runDir, "zserv.api"),
		"--vty_socket", f.runDir, "-P", "0", "--log", "stdout",
	}
	if name == "zebra" {
		args = append(args, "--v6-rr-semantics") // replace IPv6 routes in one step: without, there is none for a moment
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := f.config.Host.Start(cmd); err != nil {
		log.Close()
		return fmt.Errorf("router: start %s: %w", path, err)
	}
	d := &daemon{name: name, cmd: cmd, log: log, done: make(chan struct{})}
	f.daemons = append(f.daemons, d)
	go func() { // joined in stop
		defer close(d.done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return nil
}

// waitReady waits until a daemon answers on its control socket.
func (f *frr) waitReady(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d := f.daemons[len(f.daemons)-1]
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := os.Stat(filepath.Join(f.runDir, name+".vty"))
		if err == nil {
			if _, err = f.vtysh(ctx, name, "show version"); err == nil {
				return nil
			}
		}
		select {
		case <-d.done:
			return fmt.Errorf("router: %s ended (%s): see %s", name, d.cmd.ProcessState, d.log.Name())
		case <-ctx.Done():
			return fmt.Errorf("router: %s does not answer: %w: see %s", name, err, d.log.Name())
		case <-tick.C:
		}
	}
}

// vtysh runs one command in a daemon's shell.
func (f *frr) vtysh(ctx context.Context, name, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "vtysh", "--vty_socket", f.runDir, "-d", name, "-c", command)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("vtysh %q: %w: %s", command, err, bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}

// Kind implements [Router].
func (f *frr) Kind() Kind { return FRR }

// Neighbors implements [Router].
func (f *frr) Neighbors(ctx context.Context) ([]Neighbor, error) {
	out, err := f.vtysh(ctx, "bgpd", "show bgp summary json")
	if err != nil {
		return nil, err
	}
	return parseFRRSummary(out)
}

// parseFRRSummary reads `show bgp summary json`: per address family the peers that have it activated.
func parseFRRSummary(out []byte) ([]Neighbor, error) {
	var families map[string]json.RawMessage
	if err := json.Unmarshal(out, &families); err != nil {
		return nil, fmt.Errorf("read bgpd's summary: %w", err)
	}
	seen := map[netip.Addr]Neighbor{}
	for _, raw := range families {
		var family struct {
			Peers map[string]struct {
				RemoteAs uint32
				State    string
			}
		}
		if json.Unmarshal(raw, &family) != nil {
			continue // a top-level value that is no address family
		}
		for key, p := range family.Peers {
			addr, err := netip.ParseAddr(key)
			if err != nil {
				return nil, fmt.Errorf("read bgpd's summary: %w", err)
			}
			seen[addr] = Neighbor{Address: addr, ASN: p.RemoteAs, State: p.State, Established: p.State == "Established"}
		}
	}
	return sortNeighbors(seen), nil
}

func sortNeighbors(m map[netip.Addr]Neighbor) []Neighbor {
	list := make([]Neighbor, 0, len(m))
	for _, n := range m {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b Neighbor) int { return a.Address.Compare(b.Address) })
	return list
}

// Close implements [Router]: bgpd first, so that zebra still removes its routes.
func (f *frr) Close() error {
	var errs []error
	for _, d := range slices.Backward(f.daemons) {
		errs = append(errs, d.stop())
	}
	f.daemons = nil
	return errors.Join(append(errs, os.RemoveAll(f.runDir))...)
}

// endWithin is how long a router may take to end; the machine may be busy.
const endWithin = 30 * time.Second

// stop asks the daemon to end, insists after a while, and waits for it.
func (d *daemon) stop() error {
	defer d.log.Close()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
		return nil
	case <-time.After(endWithin):
	}
	_ = d.cmd.Process.Kill()
	<-d.done
	return fmt.Errorf("router: %s did not end by itself", d.name)
}
