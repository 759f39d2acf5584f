package gobgp

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
)

const bgpdPath = "/usr/lib/frr/bgpd"

// cable is a node and a router, each in a network namespace of its own, with a cable between them.
type cable struct {
	t            *testing.T
	node, router netns.NsHandle
	dir          string // run directory of bgpd
}

// inside calls f on a thread that is in the given namespace.
func inside(ns netns.NsHandle, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// needNamespaces skips the test when network namespaces cannot be made here.
func needNamespaces(t *testing.T) (node, router netns.NsHandle) {
	t.Helper()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if node, err = netns.New(); err == nil {
			router, err = netns.New()
		}
	}()
	<-done
	if errors.Is(err, syscall.EPERM) {
		t.Skip("needs the privilege to make network namespaces (CAP_SYS_ADMIN)")
	}
	must(t, err)
	t.Cleanup(func() { node.Close(); router.Close() })
	return node, router
}

// newCable makes the two namespaces with 10.9.0.5 and fd09::5 on the node, 10.9.0.1 and fd09::1 on the router.
func newCable(t *testing.T) *cable {
	t.Helper()
	c := &cable{t: t}
	c.node, c.router = needNamespaces(t)
	must(t, inside(c.node, func() error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1", PeerNamespace: netlink.NsFd(int(c.router))}
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		return setUp("eth0", "10.9.0.5/24", "fd09::5/64")
	}))
	must(t, inside(c.router, func() error { return setUp("eth1", "10.9.0.1/24", "fd09::1/64") }))
	return c
}

func setUp(name string, addrs ...string) error {
	for _, n := range []string{"lo", name} {
		l, err := netlink.LinkByName(n)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		if n == "lo" {
			continue
		}
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			a.Flags = syscall.IFA_F_NODAD
			if err := netlink.AddrAdd(l, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// dial connects from the node. A socket stays in the namespace of the thread that made it.
func (c *cable) dial(ctx context.Context, n bgp.Neighbor) (conn net.Conn, err error) {
	err = inside(c.node, func() (err error) { conn, err = DialTCP(ctx, n); return err })
	return conn, err
}

func (c *cable) nics() (out []bgp.NIC, err error) {
	err = inside(c.node, func() (err error) { out, err = HostNICs(); return err })
	return out, err
}

// frr starts bgpd on the router with the given configuration; it keeps its routes to itself.
func (c *cable) frr(conf string) {
	c.t.Helper()
	c.daemon("bgpd", conf, "--no_zebra", "--no_kernel")
}

// frrWithKernel starts zebra and bgpd on the router: routes go into the kernel, and IPv6 routers are advertised.
func (c *cable) frrWithKernel(conf string) {
	c.t.Helper()
	c.daemon("zebra", conf)
	c.daemon("bgpd", conf)
}

// daemon starts one of FRR's daemons.
func (c *cable) daemon(name, conf string, more ...string) {
	t := c.t
	t.Helper()
	path := filepath.Join(filepath.Dir(bgpdPath), name)
	if _, err := os.Stat(path); err != nil {
		t.Skip("needs FRR (Debian and Ubuntu: apt-get install frr)")
	}
	account, err := user.Lookup("frr")
	must(t, err)
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	c.makeDir()
	file := filepath.Join(c.dir, name+".conf")
	must(t, os.WriteFile(file, []byte("frr defaults traditional\n"+conf), 0o640))
	for _, p := range []string{c.dir, file} {
		must(t, os.Chown(p, uid, gid))
	}
	args := append([]string{
		"--vty_port", "0", "--config_file", file, "--pid_file", filepath.Join(c.dir, name+".pid"),
		"--vty_socket", c.dir, "--socket", filepath.Join(c.dir, "zserv"), "--log", "stdout",
	}, more...)
	c.process(name, path, args...)
	eventually(t, name+" to answer", func() bool {
		_, err := exec.Command("vtysh", "--vty_socket", c.dir, "-d", name, "-c", "show version").Output()
		return err == nil
	})
}

// makeDir makes the run directory. Others may enter it: FRR drops root.
func (c *cable) makeDir() {
	c.t.Helper()
	if c.dir != "" {
		return
	}
	dir, err := os.MkdirTemp("", "herald-bgp")
	must(c.t, err)
	c.t.Cleanup(func() { os.RemoveAll(dir) })
	c.dir = dir
}

// process starts a program on the router, which ends with the test. What it said is shown when the test failed.
func (c *cable) process(name, path string, args ...string) *os.Process {
	t := c.t
	t.Helper()
	logfile, err := os.Create(filepath.Join(c.dir, name+".log"))
	must(t, err)
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = logfile, logfile
	must(t, inside(c.router, cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		logfile.Close()
		if t.Failed() {
			b, _ := os.ReadFile(logfile.Name())
			lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return strings.Contains(l, "sendmsg_nexthop") }) // without zebra
			t.Logf("%s said:\n%s", name, strings.Join(lines, "\n"))
		}
	})
	return cmd.Process
}

func (c *cable) vtysh(command string) (string, error) {
	out, err := exec.Command("vtysh", "--vty_socket", c.dir, "-d", "bgpd", "-c", command).Output()
	return string(out), err
}

// table returns the prefixes FRR has of a family, with next hop, AS path, local preference and origin.
func (c *cable) table(family string) map[string]string {
	out, err := c.vtysh("show bgp " + family + " unicast json")
	if err != nil {
		return nil
	}
	var doc struct {
		Routes map[string][]struct {
			Valid     bool
			Path      string
			Origin    string
			LocPrf    *int
			Nexthops  []struct{ IP string }
			Bestpath  bool
			PathFrom  string
			LocalPref *int
		}
	}
	must(c.t, json.Unmarshal([]byte(out), &doc))
	table := map[string]string{}
	for prefix, paths := range doc.Routes {
		p := paths[0]
		pref := "none"
		if p.LocPrf != nil {
			pref = strconv.Itoa(*p.LocPrf)
		}
		table[prefix] = strings.Join([]string{"via", p.Nexthops[0].IP, "path", "[" + p.Path + "]", "pref", pref, p.Origin}, " ")
	}
	return table
}

// TestFRR announces both families over both transports to FRR, inside and outside the AS.
func TestFRR(t *testing.T) {
	tests := []struct {
		name   string
		asn    uint32
		remote string
		v4, v6 string
		extra  string
	}{
		{"external over IPv4", 4200000001, "10.9.0.1", "via 10.9.0.5 path [64512] pref none IGP", "via fd09::5 path [64512] pref none IGP", ""},
		{"internal over IPv4", 64512, "10.9.0.1", "via 10.9.0.5 path [] pref 100 IGP", "via fd09::5 path [] pref 100 IGP", ""},
		{
			"external over IPv6", 64513, "fd09::1", "via fd09::5 path [64512] pref none IGP", "via fd09::5 path [64512] pref none IGP",
			" neighbor fd09::5 capability extended-nexthop\n",
		},
		{
			"internal over IPv6", 64512, "fd09::1", "via fd09::5 path [] pref 100 IGP", "via fd09::5 path [] pref 100 IGP",
			" neighbor fd09::5 capability extended-nexthop\n",
		},
		{
			"external over IPv6 without RFC 8950", 64513, "fd09::1", "via 10.9.0.5 path [64512] pref none IGP", "via fd09::5 path [64512] pref none IGP",
			"",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCable(t)
			local := "10.9.0.5"
			if tt.remote == "fd09::1" {
				local = "fd09::5"
			}
			asn := strconv.FormatUint(uint64(tt.asn), 10)
			c.frr("router bgp " + asn + "\n bgp router-id 10.9.0.1\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n no bgp network import-check\n" +
				" neighbor " + local + " remote-as 64512\n" + tt.extra +
				" address-family ipv4 unicast\n  network 203.0.113.0/24\n  neighbor " + local + " activate\n exit-address-family\n" +
				" address-family ipv6 unicast\n  neighbor " + local + " activate\n exit-address-family\n")
			a := announcer(t, Options{Dial: c.dial, NICs: c.nics})
			d := bgp.Desired{
				Peers: []*config.Peer{configPeer("frr", tt.remote, "", 179, 64512, tt.asn, config.IPv4, config.IPv6)},
				Routes: [][]decide.Route{{
					{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Peers: []string{"frr"}},
					{Prefix: netip.MustParsePrefix("2001:db8:1::1/128"), Peers: []string{"frr"}},
				}},
				Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.5")},
			}
			began := time.Now()
			a.Set(d)
			established(t, a, "frr")
			t.Logf("established %s after Set", time.Since(began).Round(time.Millisecond))
			own := map[string]string{}
			eventually(t, "routes at FRR", func() bool { own = c.table("ipv4"); return own["198.51.100.1/32"] != "" })
			if diff := cmp.Diff(tt.v4, own["198.51.100.1/32"]); diff != "" {
				t.Errorf("IPv4 route at FRR (-want +got):\n%s", diff)
			}
			eventually(t, "the IPv6 route at FRR", func() bool { return len(c.table("ipv6")) == 1 })
			if diff := cmp.Diff(map[string]string{"2001:db8:1::1/128": tt.v6}, c.table("ipv6")); diff != "" {
				t.Errorf("IPv6 routes at FRR (-want +got):\n%s", diff)
			}
			d.Routes = [][]decide.Route{d.Routes[0][1:]}
			a.Set(d)
			eventually(t, "the IPv4 route to be withdrawn", func() bool { return len(c.table("ipv4")) == 1 })
			if s := sessionOf(a, "frr"); s.State != "Established" || s.LastError != "" || s.Since.Before(began) {
				t.Errorf("session %+v", s)
			}
		})
	}
}

// TestFRRRefusals has FRR turn the session down, and drop it.
func TestFRRRefusals(t *testing.T) {
	c := newCable(t)
	c.frr("router bgp 64513\n bgp router-id 10.9.0.1\n no bgp ebgp-requires-policy\n neighbor 10.9.0.5 remote-as 64999\n")
	a := announcer(t, Options{Dial: c.dial, NICs: c.nics})
	a.Set(bgp.Desired{
		Peers:  []*config.Peer{configPeer("frr", "10.9.0.1", "10.9.0.5", 179, 64512, 64513, config.IPv4)},
		Routes: [][]decide.Route{{{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Peers: []string{"frr"}}}},
	})
	said := func(want string) {
		t.Helper()
		eventually(t, want, func() bool { return strings.Contains(sessionOf(a, "frr").LastError, want) })
	}
	said("bad peer AS 64512")
	configure := func(lines ...string) {
		t.Helper()
		args := []string{"--vty_socket", c.dir, "-d", "bgpd", "-c", "configure terminal", "-c", "router bgp 64513"}
		for _, l := range lines {
			args = append(args, "-c", l)
		}
		if out, err := exec.Command("vtysh", args...).CombinedOutput(); err != nil {
			t.Fatalf("vtysh: %v: %s", err, out)
		}
	}
	configure("neighbor 10.9.0.5 remote-as 64512")
	established(t, a, "frr")
	configure("neighbor 10.9.0.5 shutdown message night work")
	said(`administrative shutdown, the router says "night work"`)
	configure("no neighbor 10.9.0.5 shutdown")
	began := time.Now()
	established(t, a, "frr")
	t.Logf("back %s after the shutdown was lifted (connect time 1s)", time.Since(began).Round(time.Millisecond))
	eventually(t, "the route to be back", func() bool { return len(c.table("ipv4")) == 1 })
	configure("no neighbor 10.9.0.5")
	said("configuration of this peer was removed")
}

// TestFRRFallsSilent cuts the cable without a word.
func TestFRRFallsSilent(t *testing.T) {
	c := newCable(t)
	c.frr("router bgp 64513\n bgp router-id 10.9.0.1\n no bgp ebgp-requires-policy\n neighbor 10.9.0.5 remote-as 64512\n neighbor 10.9.0.5 timers 1 3\n")
	a := announcer(t, Options{Dial: c.dial, NICs: c.nics})
	a.Set(bgp.Desired{Peers: []*config.Peer{configPeer("frr", "10.9.0.1", "", 179, 64512, 64513, config.IPv4)}})
	established(t, a, "frr")
	if s := sessionOf(a, "frr"); s.HoldTime != 3*time.Second {
		t.Errorf("hold time %s, want FRR's 3s", s.HoldTime)
	}
	setLink := func(f func(netlink.Link) error) {
		must(t, inside(c.router, func() error {
			l, err := netlink.LinkByName("eth1")
			if err != nil {
				return err
			}
			return f(l)
		}))
	}
	began := time.Now()
	setLink(netlink.LinkSetDown)
	eventually(t, "the hold timer", func() bool { return strings.Contains(sessionOf(a, "frr").LastError, "hold timer expired") })
	if took := time.Since(began); took < time.Second || took > 30*time.Second {
		t.Errorf("silence noticed after %s, want about 3s", took)
	} else {
		t.Logf("silence noticed after %s", took.Round(time.Millisecond))
	}
	setLink(netlink.LinkSetUp)
	established(t, a, "frr")
}
