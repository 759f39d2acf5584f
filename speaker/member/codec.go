package member

import (
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

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
	kindLook   = 6 // the sender asks the receiver to look whether a node lives
	kindSilent = 7 // the sender has looked, and found a node silent
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
	absent  []absence     // of those in records, who is waited for though its process is gone
}

// absence is the wait for a speaker that restarts.
type absence struct {
	node string
	addr netip.AddrPort
	age  time.Duration // since it said that it restarts, in milliseconds
}

func encodeFull(r *record) []byte { return appendRecord([]byte{magic, kindFull}, r) }

func encodeDigest(d digest) []byte {
	return appendStamp(appendString([]byte{magic, kindDigest}, d.node), d.stamp)
}

func encodeWant(from string) []byte { return appendString([]byte{magic, kindWant}, from) }

func encodeLook(from, node string) []byte {
	return appendString(appendString([]byte{magic, kindLook}, from), node)
}

func encodeSilent(from, node string) []byte {
	return appendString(appendString([]byte{magic, kindSilent}, from), node)
}

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
	return appendExtras(b, claimExtras(d.set))
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
	var extras []extra
	if len(s.absent) > 0 {
		var body []byte
		for _, a := range s.absent {
			body = appendAddr(appendString(body, a.node), a.addr.Addr())
			body = binary.AppendUvarint(body, uint64(a.addr.Port()))
			body = binary.AppendUvarint(body, uint64(max(a.age.Milliseconds(), 0)))
		}
		extras = append(extras, extra{extraAbsent, body})
	}
	return appendExtras(b, extras)
}

func appendRecord(b []byte, r *record) []byte {
	b = appendStamp(appendString(b, r.member.Node), r.stamp)
	b = append(b, byte(r.member.State))
	b = binary.AppendVarint(b, r.member.Started)
	b = appendInterfaces(b, r.member.Interfaces)
	b = appendClaims(b, r.member.Claims)
	return appendExtras(b, claimExtras(r.member.Claims))
}

// extra is a field that came later than the format: speakers of an earlier version pass over it, and each kind of extra has its own number.
// A record, a delta and a bundle end with a list of them.
type extra struct {
	kind uint64
	body []byte
}

// Kinds of extras.
const (
	extraHeirs  = 1 // addresses of claims and the nodes that are to have them (Claim.To)
	extraAbsent = 2 // of a bundle: absences
)

func appendExtras(b []byte, extras []extra) []byte {
	b = binary.AppendUvarint(b, uint64(len(extras)))
	for _, x := range extras {
		b = appendString(binary.AppendUvarint(b, x.kind), string(x.body))
	}
	return b
}

// claimExtras says of claims what their list has no room for.
func claimExtras(claims map[netip.Addr]decide.Claim) []extra {
	var body []byte
	for a, c := range claims {
		if c.To != "" {
			body = appendString(appendAddr(body, a), c.To)
		}
	}
	if body == nil {
		return nil
	}
	return []extra{{extraHeirs, body}}
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
