package member

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// Every message starts with two bytes, magic and kind. A speaker of another version that does not know a kind drops it.
const (
	magic = 0x48

	kindFull   = 1 // one whole record
	kindDelta  = 2 // what changed in a record since a version
	kindDigest = 3 // that a record has a version
	kindWant   = 4 // the sender asks for the receiver's whole record
	kindSync   = 5 // all records of live members, and the remembered counters (push/pull)
)

// errMalformed is wrapped by every error of decoding. Who sends such a thing has the gossip key but speaks another language.
var errMalformed = errors.New("malformed gossip message")

// stamp orders what one node says of itself: a later run has a higher epoch, and within a run the version counts.
type stamp struct {
	epoch   int64
	run     uint64 // random, to tell two runs apart
	version uint64
}

// newer reports whether s was said after o.
func (s stamp) newer(o stamp) bool {
	if s.epoch != o.epoch {
		return s.epoch > o.epoch
	}
	return s.version > o.version
}

// record is what one node said of itself. It is never changed once made.
type record struct {
	stamp
	member decide.Member
}

// delta is a record's difference from any version of the same run between base and its own.
type delta struct {
	node string
	stamp
	base       uint64
	state      decide.State
	started    int64
	interfaces []config.Interface
	hasLinks   bool // interfaces is given
	set        map[netip.Addr]decide.Claim
	dropped    []netip.Addr
}

// digest says which version of its record a node has.
type digest struct {
	node string
	stamp
}

// bundle is the body of a push/pull.
type bundle struct {
	records []*record
	memory  decide.Memory // only addresses that no record claims
}

func encodeFull(r *record) []byte { return appendRecord([]byte{magic, kindFull}, r) }

func encodeDigest(d digest) []byte {
	return appendStamp(appendString([]byte{magic, kindDigest}, d.node), d.stamp)
}

func encodeWant(from string) []byte { return appendString([]byte{magic, kindWant}, from) }

func encodeDelta(d *delta) []byte {
	b := appendStamp(appendString([]byte{magic, kindDelta}, d.node), d.stamp)
	b = binary.AppendUvarint(b, d.base)
	b = append(b, byte(d.state))
	b = binary.AppendVarint(b, d.started)
	if d.hasLinks {
		b = appendInterfaces(append(b, 1), d.interfaces)
	} else {
		b = append(b, 0)
	}
	b = appendClaims(b, d.set)
	b = binary.AppendUvarint(b, uint64(len(d.dropped)))
	for _, a := range d.dropped {
		b = appendAddr(b, a)
	}
	return b
}

func encodeSync(s bundle) []byte {
	b := binary.AppendUvarint([]byte{magic, kindSync}, uint64(len(s.records)))
	for _, r := range s.records {
		b = appendRecord(b, r)
	}
	b = binary.AppendUvarint(b, uint64(len(s.memory)))
	for a, n := range s.memory {
		b = binary.AppendUvarint(appendAddr(b, a), n)
	}
	return b
}

func appendRecord(b []byte, r *record) []byte {
	b = appendStamp(appendString(b, r.member.Node), r.stamp)
	b = append(b, byte(r.member.State))
	b = binary.AppendVarint(b, r.member.Started)
	b = appendInterfaces(b, r.member.Interfaces)
	return appendClaims(b, r.member.Claims)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStamp(b []byte, s stamp) []byte {
	b = binary.AppendVarint(b, s.epoch)
	b = binary.BigEndian.AppendUint64(b, s.run)
	return binary.AppendUvarint(b, s.version)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

// Flags of a claim.
const (
	claimMajority    = 1
	claimProvisional = 2
)

func appendClaims(b []byte, claims map[netip.Addr]decide.Claim) []byte {
	b = binary.AppendUvarint(b, uint64(len(claims)))
	for a, c := range claims {
		b = binary.AppendUvarint(appendAddr(b, a), c.Counter)
		var flags byte
		if c.Majority {
			flags |= claimMajority
		}
		if c.Provisional {
			flags |= claimProvisional
		}
		b = append(b, flags)
	}
	return b
}

func appendInterfaces(b []byte, interfaces []config.Interface) []byte {
	b = binary.AppendUvarint(b, uint64(len(interfaces)))
	for _, i := range interfaces {
		b = appendString(b, i.Name)
		b = binary.AppendUvarint(b, uint64(max(i.Index, 0)))
		mac, err := net.ParseMAC(i.MAC)
		if err != nil {
			mac = nil // the interface has none
		}
		b = appendString(b, string(mac))
		b = append(b, boolByte(i.Up))
		b = binary.AppendUvarint(b, uint64(len(i.Subnets)))
		for _, p := range i.Subnets {
			b = append(appendAddr(b, p.Addr().Unmap()), byte(p.Bits()))
		}
	}
	return b
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// decode reads one message: *record, *delta, digest, want or bundle.
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
	s := decide.State(r.byte("state"))
	if s > decide.Restarting {
		r.fail("state")
	}
	return s
}

func (r *reader) record() *record {
	node := r.name()
	rec := &record{stamp: r.stamp()}
	rec.member = decide.Member{Node: node, State: r.state(), Started: r.varint("start time"), Interfaces: r.interfaces(), Claims: r.claims()}
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
	return s
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

// apply returns the record that a delta makes of an earlier one; nil when the delta does not start from it.
func (d *delta) apply(old *record) *record {
	if old == nil || old.epoch != d.epoch || old.run != d.run || old.version < d.base {
		return nil
	}
	rec := &record{stamp: d.stamp, member: old.member}
	rec.member.State, rec.member.Started = d.state, d.started
	if d.hasLinks {
		rec.member.Interfaces = d.interfaces
	}
	if len(d.set)+len(d.dropped) > 0 {
		rec.member.Claims = maps.Clone(old.member.Claims)
		maps.Copy(rec.member.Claims, d.set)
		for _, a := range d.dropped {
			delete(rec.member.Claims, a)
		}
	}
	return rec
}

// sameInterfaces compares what is gossiped of interfaces.
func sameInterfaces(a, b []config.Interface) bool {
	return slices.EqualFunc(a, b, func(x, y config.Interface) bool {
		return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && slices.Equal(x.Subnets, y.Subnets)
	})
}
