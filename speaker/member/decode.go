package member

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// decode reads one message: *record, *delta, digest, want, bundle or word.
func decode(b []byte) (any, error) {
	if len(b) < 2 || b[0] != magic {
		return nil, fmt.Errorf("%w: not ours", errMalformed)
	}
	r := &reader{buf: b[2:]}
	var out any
	switch b[1] {
	case kindFull:
		out = r.record()
	case kindDelta:
		out = r.delta()
	case kindDigest:
		out = digest{node: r.name(), stamp: r.stamp()}
	case kindWant:
		out = want{from: r.name()}
	case kindSync:
		out = r.bundle()
	case kindLook, kindSilent:
		out = word{from: r.name(), node: r.name(), silent: b[1] == kindSilent}
	default:
		return nil, fmt.Errorf("%w: unknown kind %d", errMalformed, b[1])
	}
	if r.err == nil && len(r.buf) > 0 {
		r.fail("trailing bytes")
	}
	if r.err != nil {
		return nil, r.err
	}
	return out, nil
}

// want asks for the receiver's whole record.
type want struct{ from string }

// word is what speakers tell each other of a node that may have died.
type word struct {
	from, node string
	silent     bool // from has found it so; else from asks the receiver to look
}

// reader takes values off a buffer. After the first error everything reads as zero.
type reader struct {
	buf []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	r.buf = nil
}

func (r *reader) take(n int, what string) []byte {
	if n < 0 || n > len(r.buf) {
		r.fail(what)
		return nil
	}
	out := r.buf[:n]
	r.buf = r.buf[n:]
	return out
}

func (r *reader) byte(what string) byte {
	if b := r.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint(what string) uint64 {
	v, n := binary.Uvarint(r.buf)
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

func (r *reader) varint(what string) int64 {
	v, n := binary.Varint(r.buf)
	if n <= 0 {
		r.fail(what)
		return 0
	}
	r.buf = r.buf[n:]
	return v
}

// count reads how many things follow, each of which takes at least size bytes: so a message cannot make us reserve more than it holds.
func (r *reader) count(size int, what string) int {
	n := r.uvarint(what)
	if n > uint64(len(r.buf)/size) {
		r.fail(what)
		return 0
	}
	return int(n)
}

func (r *reader) string(limit int, what string) string {
	n := r.count(1, what)
	if n > limit {
		r.fail(what)
		return ""
	}
	return string(r.take(n, what))
}

// name reads a node's name: a DNS subdomain, RFC 1123.
func (r *reader) name() string {
	s := r.string(253, "node name")
	if s == "" {
		r.fail("empty node name")
	}
	return s
}

func (r *reader) stamp() stamp {
	s := stamp{epoch: r.varint("epoch")}
	if b := r.take(8, "run"); b != nil {
		s.run = binary.BigEndian.Uint64(b)
	}
	s.version = r.uvarint("version")
	return s
}

func (r *reader) addr() netip.Addr {
	a, ok := netip.AddrFromSlice(r.take(int(r.byte("address length")), "address"))
	if !ok || a.Is4In6() {
		r.fail("address")
		return netip.Addr{}
	}
	return a
}

func (r *reader) state() decide.State {
	// A state that only a later version knows: what such a speaker has it keeps, and nothing new is given to it.
	return min(decide.State(r.byte("state")), decide.Restarting)
}

func (r *reader) record() *record {
	node := r.name()
	rec := &record{stamp: r.stamp()}
	rec.member = decide.Member{Node: node, State: r.state(), Started: r.varint("start time"), Interfaces: r.interfaces(), Claims: r.claims()}
	r.heirs(rec.member.Claims)
	return rec
}

func (r *reader) delta() *delta {
	d := &delta{node: r.name(), stamp: r.stamp(), base: r.uvarint("base"), state: r.state(), started: r.varint("start time")}
	if d.hasLinks = r.byte("links") != 0; d.hasLinks {
		d.interfaces = r.interfaces()
	}
	d.set = r.claims()
	for range r.count(5, "dropped claims") {
		d.dropped = append(d.dropped, r.addr())
	}
	r.heirs(d.set)
	if d.base >= d.version {
		r.fail("a delta that leads nowhere")
	}
	return d
}

func (r *reader) bundle() bundle {
	s := bundle{memory: decide.Memory{}}
	for range r.count(15, "records") {
		s.records = append(s.records, r.record())
	}
	for range r.count(6, "counters") {
		a := r.addr()
		s.memory[a] = max(s.memory[a], r.uvarint("counter"))
	}
	r.extras(func(kind uint64, body *reader) {
		for kind == extraAbsent && len(body.buf) > 0 {
			s.absent = append(s.absent, body.absence())
		}
	})
	return s
}

func (r *reader) absence() absence {
	a := absence{node: r.name(), addr: netip.AddrPortFrom(r.addr(), 0)}
	port, age := r.uvarint("port"), r.uvarint("age")
	if port > math.MaxUint16 {
		r.fail("port")
	}
	a.addr = netip.AddrPortFrom(a.addr.Addr(), uint16(port))
	a.age = time.Duration(min(age, uint64(time.Hour.Milliseconds()))) * time.Millisecond
	return a
}

// extras reads a list of extras; what take does not know it leaves alone.
func (r *reader) extras(take func(kind uint64, body *reader)) {
	for range r.count(2, "extras") {
		kind := r.uvarint("kind of an extra")
		body := &reader{buf: r.take(r.count(1, "extra"), "extra")}
		if take(kind, body); body.err != nil {
			r.fail(body.err.Error())
		}
	}
}

// heirs completes claims by who is to have their addresses.
func (r *reader) heirs(claims map[netip.Addr]decide.Claim) {
	r.extras(func(kind uint64, body *reader) {
		for kind == extraHeirs && len(body.buf) > 0 {
			a := body.addr()
			to := body.name()
			if c, ok := claims[a]; ok && body.err == nil {
				c.To = to
				claims[a] = c
			}
		}
	})
}

func (r *reader) claims() map[netip.Addr]decide.Claim {
	n := r.count(7, "claims")
	claims := make(map[netip.Addr]decide.Claim, n)
	for range n {
		a := r.addr()
		c := decide.Claim{Counter: r.uvarint("counter")}
		flags := r.byte("claim flags")
		c.Majority, c.Provisional = flags&claimMajority != 0, flags&claimProvisional != 0
		claims[a] = c
	}
	return claims
}

func (r *reader) interfaces() []config.Interface {
	n := r.count(5, "interfaces")
	out := make([]config.Interface, 0, n)
	for range n {
		i := config.Interface{Name: r.string(64, "interface name"), Index: int(r.uvarint("interface index") & 0x7fffffff)}
		if mac := r.string(20, "MAC address"); mac != "" {
			i.MAC = net.HardwareAddr(mac).String()
		}
		i.Up = r.byte("interface state") != 0
		for range r.count(6, "subnets") {
			a := r.addr()
			p := netip.PrefixFrom(a, int(r.byte("prefix length")))
			if !p.IsValid() {
				r.fail("subnet")
			}
			i.Subnets = append(i.Subnets, p)
		}
		out = append(out, i)
	}
	return out
}
