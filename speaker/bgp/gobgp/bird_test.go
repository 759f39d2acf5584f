package gobgp

import (
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
)

// bird starts BIRD on the router with a BGP session that has the given options.
func (c *cable) bird(local, asn string, options ...string) {
	t := c.t
	t.Helper()
	path, err := exec.LookPath("bird")
	if err != nil {
		t.Skip("needs BIRD (Debian and Ubuntu: apt-get install bird2)")
	}
	c.makeDir()
	conf := "log stderr all;\nrouter id 10.9.0.1;\nprotocol device {}\n" +
		"protocol kernel { merge paths on; ipv4 { export all; import none; }; }\nprotocol kernel { ipv6 { export all; import none; }; }\n" +
		"protocol bgp herald {\n local " + local + " as " + asn + ";\n passive;\n" +
		" ipv4 { import all; export none; extended next hop on; };\n ipv6 { import all; export none; };\n " + strings.Join(options, "\n ") + "\n}\n"
	file := filepath.Join(c.dir, "bird.conf")
	must(t, os.WriteFile(file, []byte(conf), 0o644))
	c.process("bird", path, "-f", "-c", file, "-s", c.socket(), "-P", filepath.Join(c.dir, "bird.pid"))
	eventually(t, "BIRD to answer", func() bool { _, err := c.birdc("show", "status"); return err == nil })
}

func (c *cable) socket() string { return filepath.Join(c.dir, "bird.ctl") }

func (c *cable) birdc(command ...string) (string, error) {
	out, err := exec.Command("birdc", append([]string{"-s", c.socket()}, command...)...).Output()
	return string(out), err
}

// birdAttributes returns BIRD's view of a route: its BGP attributes by name; nil when there is none.
func (c *cable) birdAttributes(prefix string) map[string]string {
	out, err := c.birdc("show", "route", "for", prefix, "all")
	if err != nil {
		return nil
	}
	var attrs map[string]string
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if name, ok2 := strings.CutPrefix(name, "BGP."); ok && ok2 {
			if attrs == nil {
				attrs = map[string]string{}
			}
			attrs[name] = value
		}
	}
	return attrs
}

// TestBIRDAttributes reads every attribute at BIRD, over both transports, outside and inside the AS.
func TestBIRDAttributes(t *testing.T) {
	attrs := rich
	attrs.Communities = communities(t, "65000:100", "no-peer", "large:4200000000:1:2", "rt:65000:100", "soo:192.0.2.1:7")
	extended := "(rt, 65000, 100) (ro, 192.0.2.1, 7) (unknown 0x4004, 64512, 1232348160)"
	for _, tt := range []struct {
		name, remote, local string
		their               uint32
		want                map[string]string
		hop6                string
	}{
		{"external over IPv4", "10.9.0.1", "10.9.0.5", 64513, map[string]string{
			"as_path": "64512 64512 64512", "next_hop": "10.9.0.5", "med": "50", "local_pref": "100",
		}, "fd09::5"},
		{"internal over IPv4", "10.9.0.1", "10.9.0.5", 64512, map[string]string{
			"next_hop": "10.9.0.5", "med": "50", "local_pref": "300",
		}, "fd09::5"},
		{"external over IPv6", "fd09::1", "fd09::5", 64513, map[string]string{
			"as_path": "64512 64512 64512", "next_hop": "fd09::5", "med": "50", "local_pref": "100",
		}, "fd09::5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCable(t)
			asn := "64513"
			if tt.their == 64512 {
				asn = "64512"
			}
			c.bird(tt.remote, asn, "neighbor "+tt.local+" as 64512;")
			a := announcer(t, c.options())
			p := configPeer("bird", tt.remote, "", 179, 64512, tt.their, config.IPv4, config.IPv6)
			a.Set(bgp.Desired{Peers: []*config.Peer{p}, Routes: [][]decide.Route{{
				{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Peers: []string{"bird"}, Attributes: attrs},
				{Prefix: netip.MustParsePrefix("2001:db8:1::1/128"), Peers: []string{"bird"}, Attributes: attrs},
			}}})
			for prefix, hop := range map[string]string{"198.51.100.1": tt.want["next_hop"], "2001:db8:1::1": tt.hop6} {
				eventually(t, prefix+" at BIRD", func() bool { return c.birdAttributes(prefix) != nil })
				want := map[string]string{
					"origin": "IGP", "community": "(65000,100) (65535,65284)", "ext_community": extended, "large_community": "(4200000000, 1, 2)",
				}
				maps.Copy(want, tt.want)
				want["next_hop"] = hop
				if diff := cmp.Diff(want, c.birdAttributes(prefix)); diff != "" {
					t.Errorf("%s at BIRD (-want +got):\n%s", prefix, diff)
				}
			}
		})
	}
}

// TestBIRDRestart: BIRD keeps all routes over a restart, and none after a stop.
func TestBIRDRestart(t *testing.T) {
	size := 20_000
	if testing.Short() {
		size = 500
	}
	for end, want := range map[error]int64{bgp.ErrRestarting: 1, nil: int64(size)} {
		c := newCable(t)
		c.bird("10.9.0.1", "64513", "neighbor 10.9.0.5 as 64512;")
		if n := testRestart(t, map[string]*cable{"r1": c}, size, end)["r1"]; n != want {
			t.Errorf("cause %v: BIRD took out %d routes, want %d", end, n, want)
		}
	}
}

// TestBIRDOptions: MD5, GTSM and unnumbered sessions with BIRD.
func TestBIRDOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		option string
		adjust func(*config.Peer)
	}{
		"password":    {`neighbor 10.9.0.5 as 64512; password "secret";`, func(p *config.Peer) { p.Password = "secret" }},
		"ttlSecurity": {"neighbor 10.9.0.5 as 64512; ttl security on;", func(p *config.Peer) { p.TTLSecurity = true }},
		"hold time":   {"neighbor 10.9.0.5 as 64512; hold time 6;", func(p *config.Peer) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCable(t)
			c.bird("10.9.0.1", "64513", tt.option)
			a := announcer(t, c.options())
			p := configPeer("bird", "10.9.0.1", "", 179, 64512, 64513, config.IPv4)
			tt.adjust(p)
			a.Set(bgp.Desired{Peers: []*config.Peer{p}, Routes: manyRoutes(1, "bird")})
			eventually(t, "the route in the kernel", func() bool { return c.kernelRoutes() == 1 })
			if s := sessionOf(a, "bird"); name == "hold time" && s.HoldTime != 6*time.Second {
				t.Errorf("hold time %s, want 6s", s.HoldTime)
			}
		})
	}
}
