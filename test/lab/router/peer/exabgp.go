package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// exabgp is ExaBGP 4. It has no table: what it reads of the wire it prints, and the table is made of that here.
type exabgp struct {
	processes
	c Config
}

func startExaBGP(ctx context.Context, c Config) (Daemon, error) {
	e := &exabgp{c: c}
	// The shell keeps its output open: ExaBGP takes the end of that for the end of the process.
	script, err := write(c.Dir, "messages.sh", "#!/bin/sh\ncat >> '"+e.messages()+"'\n", 0o755)
	if err != nil {
		return nil, err
	}
	conf, err := write(c.Dir, "exabgp.conf", e.config(script), 0o644)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("exabgp", conf)
	cmd.Env = append(os.Environ(),
		"exabgp.daemon.daemonize=false", "exabgp.daemon.user=root", "exabgp.daemon.drop=false", "exabgp.api.cli=false",
		"exabgp.log.destination=stdout", "exabgp.log.level=INFO",
		"exabgp.cache.attributes=false", "exabgp.api.ack=false",
	)
	p, err := run(c.Host, c.Dir, "exabgp", cmd)
	if err != nil {
		return nil, err
	}
	e.processes = processes{p}
	if err := p.ready(ctx, e.listens); err != nil {
		p.kill()
		return nil, err
	}
	return e, nil
}

func (e *exabgp) messages() string { return filepath.Join(e.c.Dir, "messages.json") }

// listens says whether the daemon's port is open, without connecting to it.
func (e *exabgp) listens(ctx context.Context) error {
	out, err := e.c.Host.Output(ctx, "ss", "-Htln", "sport = :179")
	if err != nil {
		return err
	}
	if strings.TrimSpace(out) == "" {
		return errors.New("nothing listens on port 179")
	}
	return nil
}

func (e *exabgp) config(script string) string {
	c := e.c
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("process log {\n  run %s;\n  encoder json;\n}", script)
	line("neighbor %s {\n  router-id %s;\n  local-address %s;\n  local-as %d;\n  peer-as %d;", c.Neighbor, c.RouterID, c.Local, c.ASN, c.NeighborASN)
	line("  hold-time %d;\n  passive true;\n  listen 179;", c.hold())
	if c.Password != "" {
		line("  md5-password %q;", c.Password)
	}
	switch {
	case c.TTLSecurity:
		line("  outgoing-ttl 255;\n  incoming-ttl 255;")
	case c.MultiHop:
		line("  outgoing-ttl 8;")
	}
	line("  capability {\n    asn4 enable;")
	if c.Restart {
		line("    graceful-restart 120;")
	}
	if c.ExtendedNextHop {
		line("    nexthop enable;")
	}
	line("  }\n  family {")
	if c.IPv4 {
		line("    ipv4 unicast;")
	}
	if c.IPv6 {
		line("    ipv6 unicast;")
	}
	line("  }")
	if c.ExtendedNextHop {
		line("  nexthop {\n    ipv4 unicast ipv6;\n  }")
	}
	line("  api {\n    processes [ log ];\n    neighbor-changes;\n    negotiated;\n    receive {\n      parsed;\n      open;\n      update;\n      notification;\n    }\n  }\n}")
	return b.String()
}

// event is a line of what the daemon prints.
type event struct {
	Type     string
	Neighbor struct {
		State        string
		Reason       string
		Open         exaOpen
		Notification struct{ Code, Subcode int }
		Message      struct {
			Update struct {
				Attribute map[string]json.RawMessage
				Announce  map[string]map[string][]exaNLRI
				Withdraw  map[string][]exaNLRI
			}
			EOR *struct {
				AFI, SAFI string
			}
		}
		Negotiated struct {
			HoldTime int `json:"hold_time"`
			Families []string
		}
	}
}

// exaOpen is an OPEN message.
type exaOpen struct {
	ASN          uint32 // as two octets can tell it
	Capabilities map[string]json.RawMessage
}

// fullASN is the number in the capability of RFC 6793, where that is.
func (o exaOpen) fullASN() uint32 {
	var long struct{ ASN4 uint32 }
	if raw, ok := o.Capabilities["65"]; ok && json.Unmarshal(raw, &long) == nil {
		return long.ASN4
	}
	return o.ASN
}

type exaNLRI struct{ NLRI string }

// state is what follows from all events.
type exaState struct {
	session Session
	eor     []string
	routes  map[string]Route
}

func (e *exabgp) read() (exaState, error) {
	s := exaState{routes: map[string]Route{}}
	raw, err := os.ReadFile(e.messages())
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	return parseExaBGP(raw)
}

func parseExaBGP(raw []byte) (exaState, error) {
	s := exaState{routes: map[string]Route{}}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var ev event
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			if !bytes.HasSuffix(raw, []byte("\n")) { // the last line is being written
				continue
			}
			return s, fmt.Errorf("read ExaBGP's line %q: %w", lines.Text(), err)
		}
		if err := s.apply(ev); err != nil {
			return s, err
		}
	}
	return s, lines.Err()
}

func (s *exaState) apply(ev event) error {
	m := ev.Neighbor.Message
	switch ev.Type {
	case "state":
		s.session.Established = ev.Neighbor.State == "up"
		if ev.Neighbor.State == "down" {
			s.session.LastEnd = strings.TrimSpace(ev.Neighbor.Reason + " " + s.session.LastEnd)
			clear(s.routes) // ExaBGP keeps nothing, so nor do we
			s.eor = nil
		}
	case "negotiated":
		s.session.HoldTime = time.Duration(ev.Neighbor.Negotiated.HoldTime) * time.Second
		f := ev.Neighbor.Negotiated.Families
		s.session.Families = families(slices.Contains(f, "ipv4 unicast"), slices.Contains(f, "ipv6 unicast"))
	case "open":
		s.session.RemoteASN = ev.Neighbor.Open.fullASN()
		s.session.Restart = slices.ContainsFunc(slicesOf(ev.Neighbor.Open.Capabilities), func(c string) bool { return strings.Contains(c, "graceful") })
	case "notification":
		s.session.LastEnd = fmt.Sprintf("%d/%d", ev.Neighbor.Notification.Code, ev.Neighbor.Notification.Subcode)
	case "update":
		if m.EOR != nil {
			s.eor = append(s.eor, m.EOR.AFI)
			s.session.EndOfRIB = families(slices.Contains(s.eor, "ipv4"), slices.Contains(s.eor, "ipv6"))
			return nil
		}
		return s.update(m.Update.Attribute, m.Update.Announce, m.Update.Withdraw)
	}
	return nil
}

func slicesOf(m map[string]json.RawMessage) []string {
	var out []string
	for _, v := range m {
		out = append(out, string(v))
	}
	return out
}

func (s *exaState) update(attrs map[string]json.RawMessage, announce map[string]map[string][]exaNLRI, withdraw map[string][]exaNLRI) error {
	for _, list := range withdraw {
		for _, n := range list {
			delete(s.routes, n.NLRI)
		}
	}
	for _, hops := range announce {
		for hop, list := range hops {
			for _, n := range list {
				r, err := exaRoute(n.NLRI, hop, attrs)
				if err != nil {
					return err
				}
				s.routes[n.NLRI] = r
			}
		}
	}
	return nil
}

func exaRoute(nlri, hop string, attrs map[string]json.RawMessage) (Route, error) {
	prefix, err := netip.ParsePrefix(nlri)
	if err != nil {
		return Route{}, fmt.Errorf("read ExaBGP's route: %w", err)
	}
	r := Route{Prefix: prefix, MED: -1}
	r.NextHop, _ = netip.ParseAddr(hop)
	var (
		path            []uint32
		standards       [][]uint32
		larges          [][]uint32
		extendeds       []struct{ Value uint64 }
		med             *int64
		origin          string
		pathErr, extErr error
	)
	read := func(name string, into any) error {
		if raw, ok := attrs[name]; ok {
			return json.Unmarshal(raw, into)
		}
		return nil
	}
	pathErr = read("as-path", &path)
	extErr = read("extended-community", &extendeds)
	err = errors.Join(pathErr, extErr, read("community", &standards), read("large-community", &larges), read("med", &med),
		read("origin", &origin), read("local-preference", &r.LocalPref))
	if err != nil {
		return Route{}, fmt.Errorf("read ExaBGP's attributes: %w", err)
	}
	r.Origin = strings.ToUpper(origin)
	r.ASPath = strings.Trim(fmt.Sprint(path), "[]")
	if med != nil {
		r.MED = *med
	}
	for _, c := range standards {
		r.Communities = append(r.Communities, joined(c))
	}
	for _, c := range larges {
		r.Communities = append(r.Communities, "large:"+joined(c))
	}
	for _, c := range extendeds {
		r.Communities = append(r.Communities, extended(fmt.Sprintf("%016x", c.Value)))
	}
	return r, nil
}

func joined(list []uint32) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(list), "[]"), " ", ":")
}

// Log implements Daemon.
func (e *exabgp) Log() string {
	raw, _ := os.ReadFile(e.messages())
	return e.processes.Log() + "and of messages:\n" + string(raw)
}

// Session implements Daemon.
func (e *exabgp) Session(context.Context) (Session, error) {
	s, err := e.read()
	return s.session, err
}

// Routes implements Daemon.
func (e *exabgp) Routes(context.Context) ([]Route, error) {
	s, err := e.read()
	var list []Route
	for _, r := range s.routes {
		list = append(list, r)
	}
	return tidy(list), err
}
