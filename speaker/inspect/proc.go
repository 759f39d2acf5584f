package inspect

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/config"
)

// ipvsDevice is the interface that kube-proxy gives the Services' addresses to in IPVS mode.
const ipvsDevice = "kube-ipvs0"

// readProc reads what there is in a proc file system (proc(5)). Who listens on a port is read there only where the kernel does not answer.
func readProc(proc fs.FS, listening func(port uint16) (bool, error)) *Node {
	n := &Node{Settings: readSettings(proc)}
	_, n.IPVS = n.Settings[ipvsDevice]
	n.Gateways = sortGateways(append(parseRoutes(read(proc, "net/route")), parseRoutes6(read(proc, "net/ipv6_route"))...))
	var err error
	if n.BGP, err = listening(bgpPort); err != nil {
		n.BGP = listens(read(proc, "net/tcp"), bgpPort) || listens(read(proc, "net/tcp6"), bgpPort)
	}
	return n
}

// read returns a file's text; nothing when it cannot be read: a kernel without IPv6 has none of its files.
func read(proc fs.FS, name string) []byte {
	text, _ := fs.ReadFile(proc, name)
	return text
}

func readSettings(proc fs.FS) map[string]Settings {
	const dir = "sys/net/ipv4/conf"
	entries, _ := fs.ReadDir(proc, dir)
	out := make(map[string]Settings, len(entries))
	for _, e := range entries {
		number := func(name string) int {
			v, _ := strconv.Atoi(strings.TrimSpace(string(read(proc, path.Join(dir, e.Name(), name)))))
			return v
		}
		out[e.Name()] = Settings{ProxyARP: number("proxy_arp"), RPFilter: number("rp_filter"), ARPIgnore: number("arp_ignore")}
	}
	return out
}

// Flags of routes (linux/route.h).
const (
	routeUp     = 0x1
	routeReject = 0x200
)

// parseRoutes finds the default routes in net/route: interface, destination, gateway, flags, and further on the mask, addresses as
// numbers of the host's byte order.
func parseRoutes(text []byte) []Gateway {
	var out []Gateway
	for _, f := range fields(text, 8) {
		flags, err := strconv.ParseUint(f[3], 16, 32)
		if err != nil || f[1] != "00000000" || f[7] != "00000000" || !leads(flags) {
			continue
		}
		g := Gateway{Interface: f[0], Family: config.IPv4}
		if number, err := strconv.ParseUint(f[2], 16, 32); err == nil && number != 0 {
			var b [4]byte
			binary.NativeEndian.PutUint32(b[:], uint32(number))
			g.Addr = netip.AddrFrom4(b)
		}
		out = append(out, g)
	}
	return out
}

// leads reports whether a route leads somewhere.
func leads(flags uint64) bool { return flags&routeUp != 0 && flags&routeReject == 0 }

// parseRoutes6 finds the default routes in net/ipv6_route: destination and its length, source and its length, next hop, metric, two
// counters, flags, interface.
func parseRoutes6(text []byte) []Gateway {
	var out []Gateway
	for _, f := range fields(text, 10) {
		flags, err := strconv.ParseUint(f[8], 16, 32)
		if err != nil || f[1] != "00" || strings.Trim(f[0], "0") != "" || !leads(flags) || f[9] == "lo" {
			continue
		}
		g := Gateway{Interface: f[9], Family: config.IPv6}
		if b, err := hex.DecodeString(f[4]); err == nil && len(b) == 16 {
			if a := netip.AddrFrom16([16]byte(b)); !a.IsUnspecified() {
				g.Addr = a
			}
		}
		out = append(out, g)
	}
	return out
}

// listening is TCP_LISTEN (net/tcp_states.h) as net/tcp prints it.
const listening = "0A"

// listens reports whether a socket of net/tcp or net/tcp6 listens on a port.
func listens(text []byte, port uint64) bool {
	return slices.ContainsFunc(fields(text, 4), func(f []string) bool {
		_, number, ok := strings.Cut(f[1], ":")
		n, err := strconv.ParseUint(number, 16, 16)
		return ok && err == nil && n == port && f[3] == listening
	})
}

// fields splits lines into words; lines with fewer than least are left out.
func fields(text []byte, least int) [][]string {
	var out [][]string
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) >= least {
			out = append(out, f)
		}
	}
	return out
}
