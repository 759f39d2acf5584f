package peer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// bird is BIRD 2.
type bird struct {
	processes
	c Config
}

func startBIRD(ctx context.Context, c Config) (Daemon, error) {
	conf, err := write(c.Dir, "bird.conf", birdConfig(c), 0o644)
	if err != nil {
		return nil, err
	}
	b := &bird{c: c}
	p, err := run(c.Host, c.Dir, "bird", exec.Command("bird", "-f", "-c", conf, "-s", b.socket(), "-P", filepath.Join(c.Dir, "bird.pid")))
	if err != nil {
		return nil, err
	}
	b.processes = processes{p}
	if err := p.ready(ctx, func(ctx context.Context) error { _, err := b.ask(ctx, "show status"); return err }); err != nil {
		p.kill()
		return nil, err
	}
	return b, nil
}

func birdConfig(c Config) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("log stderr all;\nrouter id %s;\nprotocol device {}", c.RouterID)
	if !c.TableOnly {
		line("protocol kernel { ipv4 { import none; export all; }; }\nprotocol kernel { ipv6 { import none; export all; }; }")
	}
	if c.Interface != "" {
		line("protocol radv { interface %q { max ra interval 4; min ra interval 3; default lifetime 0; }; }", c.Interface)
	}
	line("protocol bgp herald {")
	if c.Interface != "" {
		line("  local as %d;\n  neighbor range fe80::/10 as %d;\n  interface %q;", c.ASN, c.NeighborASN, c.Interface)
	} else {
		line("  local %s as %d;\n  neighbor %s as %d;\n  passive;", c.Local, c.ASN, c.Neighbor, c.NeighborASN)
	}
	line("  hold time %d;\n  error wait time 1, 2;", c.hold())
	if c.Password != "" {
		line("  password %q;", c.Password)
	}
	if c.TTLSecurity {
		line("  ttl security on;")
	}
	if c.MultiHop {
		line("  multihop 8;")
	}
	if c.Restart {
		line("  graceful restart aware;")
	} else {
		line("  graceful restart off;")
	}
	if c.IPv4 {
		extended := ""
		if c.ExtendedNextHop {
			extended = " extended next hop on;"
		}
		line("  ipv4 { import all; export none;%s };", extended)
	}
	if c.IPv6 {
		line("  ipv6 { import all; export none; };")
	}
	line("}")
	return b.String()
}

func (b *bird) socket() string { return filepath.Join(b.c.Dir, "bird.ctl") }

func (b *bird) ask(ctx context.Context, command string) (string, error) {
	out, err := output(ctx, "birdc", append([]string{"-s", b.socket()}, strings.Fields(command)...)...)
	return string(out), err
}

// Session implements Daemon.
func (b *bird) Session(ctx context.Context) (Session, error) {
	out, err := b.ask(ctx, "show protocols all") // a session from a range has a protocol of its own, named by BIRD
	s := parseBIRDProtocols(out)
	for line := range strings.Lines(b.Log()) { // the words that came with it stand there only
		if _, words, ok := strings.Cut(line, s.LastEnd+": "); ok && s.LastEnd != "" {
			s.LastEnd += ": " + strings.TrimSpace(words)
			break
		}
	}
	return s, err
}

// parseBIRDProtocols reads `show protocols all`; of several BGP protocols, the established one counts.
func parseBIRDProtocols(out string) Session {
	var best Session
	var p birdProtocol
	end := func() {
		if p.isBGP && (p.Established || best == Session{}) {
			best = p.Session
		}
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); !strings.HasPrefix(line, " ") && len(fields) > 3 {
			end()
			p = birdProtocol{isBGP: fields[1] == "BGP"}
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		p.read(key, strings.TrimSpace(value))
	}
	end()
	return best
}

// birdProtocol is a protocol that is being read.
type birdProtocol struct {
	Session
	isBGP   bool
	section string // the heading that was read last
}

// read takes in a line.
func (p *birdProtocol) read(key, value string) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	switch key {
	case "Local capabilities", "Neighbor capabilities", "Channel ipv4", "Channel ipv6":
		p.section = key
	case "BGP state":
		p.Established = value == "Established"
	case "Neighbor AS":
		p.RemoteASN = uint32(number(value))
	case "Hold timer": // "6.123/9"
		_, whole, _ := strings.Cut(value, "/")
		p.HoldTime = time.Duration(number(whole)) * time.Second
	case "Last error":
		p.LastEnd = value
	case "Graceful restart":
		p.Restart = p.Restart || p.section == "Neighbor capabilities"
	case "State":
		if family, ok := strings.CutPrefix(p.section, "Channel ipv"); ok && value == "UP" {
			p.Families = strings.TrimSpace(p.Families + " IPv" + family)
		}
	}
}

// Routes implements Daemon.
func (b *bird) Routes(ctx context.Context) ([]Route, error) {
	var list []Route
	for _, table := range []string{"master4", "master6"} {
		out, err := b.ask(ctx, "show route table "+table+" all")
		if err != nil {
			return nil, err
		}
		list = append(list, parseBIRDRoutes(out)...)
	}
	return tidy(list), nil
}

// parseBIRDRoutes reads `show route all`.
func parseBIRDRoutes(out string) []Route {
	var list []Route
	for line := range strings.Lines(out) {
		first, _, _ := strings.Cut(line, " ")
		if p, err := netip.ParsePrefix(strings.TrimSpace(first)); err == nil {
			list = append(list, Route{Prefix: p, MED: -1})
			continue
		}
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		attribute, ours := strings.CutPrefix(name, "BGP.")
		if ok && ours && len(list) > 0 {
			list[len(list)-1].birdAttribute(attribute, strings.TrimSpace(value))
		}
	}
	return list
}

func (r *Route) birdAttribute(name, value string) {
	number := func() int64 { n, _ := strconv.ParseInt(value, 10, 64); return n }
	switch name {
	case "origin":
		r.Origin = value
	case "as_path":
		r.ASPath = value
	case "next_hop":
		first, second, _ := strings.Cut(value, " ")
		if first == "::" { // there is a link-local one only
			first = second
		}
		r.NextHop, _ = netip.ParseAddr(first)
	case "local_pref":
		r.LocalPref = uint32(number())
	case "med":
		r.MED = number()
	case "community":
		for _, t := range tuples(value) {
			r.Communities = append(r.Communities, standard(strings.Join(t, ":")))
		}
	case "large_community":
		for _, t := range tuples(value) {
			r.Communities = append(r.Communities, "large:"+strings.Join(t, ":"))
		}
	case "ext_community":
		for _, t := range tuples(value) {
			r.Communities = append(r.Communities, birdExtended(t))
		}
	}
}

// tuples reads "(65000,100) (rt, 65000, 100)".
func tuples(s string) [][]string {
	var out [][]string
	for part := range strings.SplitSeq(s, ")") {
		part = strings.TrimLeft(part, " (")
		if part == "" {
			continue
		}
		var t []string
		for w := range strings.SplitSeq(part, ",") {
			t = append(t, strings.TrimSpace(w))
		}
		out = append(out, t)
	}
	return out
}

// birdExtended names an extended community. BIRD 2 shows link bandwidth as "unknown 0x4004, AS, bits of the float".
func birdExtended(t []string) string {
	switch t[0] {
	case "rt":
		t[0] = "rt"
	case "ro":
		t[0] = "soo"
	case "unknown 0x4004":
		bits, _ := strconv.ParseUint(t[len(t)-1], 0, 32)
		return fmt.Sprintf("bandwidth:%s:%d", t[1], int64(math.Float32frombits(uint32(bits))))
	}
	return strings.Join(t, ":")
}

// extended names an extended community by its eight octets in hexadecimal.
func extended(octets string) string {
	b, err := hex.DecodeString(strings.TrimPrefix(octets, "0x"))
	if err != nil || len(b) != 8 {
		return octets
	}
	as2, as4 := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[2:])
	kind := map[byte]string{0x02: "rt", 0x03: "soo"}[b[1]]
	switch {
	case b[0]&0x3f == 0x00 && b[1] == 0x04:
		return fmt.Sprintf("bandwidth:%d:%d", as2, int64(math.Float32frombits(binary.BigEndian.Uint32(b[4:]))))
	case kind == "":
		return octets
	case b[0]&0x3f == 0x00:
		return fmt.Sprintf("%s:%d:%d", kind, as2, binary.BigEndian.Uint32(b[4:]))
	case b[0]&0x3f == 0x01:
		return fmt.Sprintf("%s:%s:%d", kind, netip.AddrFrom4([4]byte(b[2:6])), binary.BigEndian.Uint16(b[6:]))
	case b[0]&0x3f == 0x02:
		return fmt.Sprintf("%s:%d:%d", kind, as4, binary.BigEndian.Uint16(b[6:]))
	}
	return octets
}
