package config

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// CommunityKind tells the three sorts of BGP communities apart.
type CommunityKind uint8

// The sorts of communities.
const (
	StandardCommunity CommunityKind = iota + 1 // RFC 1997: 4 octets
	ExtendedCommunity                          // RFC 4360: 8 octets
	LargeCommunity                             // RFC 8092: 12 octets
)

// size returns the octets of a community of the kind.
func (k CommunityKind) size() int { return 4 * int(k) }

// Community is one BGP community. Values are comparable; the zero Community is none.
type Community struct {
	Kind  CommunityKind
	value [12]byte // the first Kind.size() octets count, the others are 0
}

// Octets returns the community as it goes on the wire.
func (c Community) Octets() []byte { return slices.Clone(c.value[:c.Kind.size()]) }

// Standard returns the community of RFC 1997 with the given number.
func Standard(v uint32) Community {
	c := Community{Kind: StandardCommunity}
	binary.BigEndian.PutUint32(c.value[:], v)
	return c
}

// Large returns the community of RFC 8092 with the given global administrator and local data.
func Large(global, data1, data2 uint32) Community {
	c := Community{Kind: LargeCommunity}
	binary.BigEndian.PutUint32(c.value[:], global)
	binary.BigEndian.PutUint32(c.value[4:], data1)
	binary.BigEndian.PutUint32(c.value[8:], data2)
	return c
}

// Extended returns the community of RFC 4360 with the given octets.
func Extended(octets [8]byte) Community {
	c := Community{Kind: ExtendedCommunity}
	copy(c.value[:], octets[:])
	return c
}

// GracefulShutdown asks routers to prefer any other path (RFC 8326).
const GracefulShutdown uint32 = 0xffff0000

// wellKnown returns the number of a well-known community (IANA "BGP Well-known Communities").
func wellKnown(name string) (uint32, bool) {
	switch name {
	case "graceful-shutdown": // RFC 8326
		return GracefulShutdown, true
	case "accept-own": // RFC 7611
		return 0xffff0001, true
	case "llgr-stale": // RFC 9494
		return 0xffff0006, true
	case "no-llgr": // RFC 9494
		return 0xffff0007, true
	case "blackhole": // RFC 7999
		return 0xffff029a, true
	case "no-export": // RFC 1997
		return 0xffffff01, true
	case "no-advertise": // RFC 1997
		return 0xffffff02, true
	case "no-export-subconfed", "local-as": // RFC 1997; the second is what many routers call it
		return 0xffffff03, true
	case "no-peer": // RFC 3765
		return 0xffffff04, true
	}
	return 0, false
}

// ParseCommunity reads a community as users write it: 65000:100, large:65000:1:2, rt:65000:100 and soo:192.0.2.1:100 (extended
// communities of RFC 4360 and RFC 5668), or the name of a well-known one. The error is for the user.
func ParseCommunity(s string) (Community, error) {
	if v, ok := wellKnown(s); ok {
		return Standard(v), nil
	}
	parts := strings.Split(s, ":")
	switch {
	case parts[0] == "large" && len(parts) == 4:
		return parseLarge(s, parts[1:])
	case (parts[0] == "rt" || parts[0] == "soo") && len(parts) == 3:
		return parseExtended(s, parts)
	case len(parts) == 2:
		high, err1 := number(parts[0], 16)
		low, err2 := number(parts[1], 16)
		if err1 != nil || err2 != nil {
			return Community{}, fmt.Errorf("%q: both halves of a community are numbers from 0 to 65535; "+
				"larger ones need a large community, such as large:4200000000:1:2", s)
		}
		return Standard(uint32(high)<<16 | uint32(low)), nil
	}
	return Community{}, fmt.Errorf("%q is not a community: write 65000:100, large:65000:1:2, rt:65000:100, soo:65000:100, "+
		"or a well-known name such as no-export or graceful-shutdown", s)
}

// number reads a decimal number of at most the given bits; signs and other ornaments are refused.
func number(s string, bits int) (uint64, error) {
	if strings.HasPrefix(s, "+") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, bits)
}

func parseLarge(s string, parts []string) (Community, error) {
	var v [3]uint32
	for i, p := range parts {
		n, err := number(p, 32)
		if err != nil {
			return Community{}, fmt.Errorf("%q: the three parts of a large community are numbers from 0 to 4294967295", s)
		}
		v[i] = uint32(n)
	}
	return Large(v[0], v[1], v[2]), nil
}

// parseExtended reads a route target (RFC 4360 section 4) or a route origin (section 5). The administrator is a two-octet AS with a
// number of 32 bits, a four-octet AS (RFC 5668), or an IPv4 address, the latter two with a number of 16 bits.
func parseExtended(s string, parts []string) (Community, error) {
	octets := [8]byte{1: 0x02}
	if parts[0] == "soo" {
		octets[1] = 0x03
	}
	bits := 16
	if addr, err := netip.ParseAddr(parts[1]); err == nil && addr.Is4() {
		octets[0] = 0x01
		copy(octets[2:], addr.AsSlice())
	} else {
		asn, err := number(parts[1], 32)
		switch {
		case err != nil:
			return Community{}, fmt.Errorf("%q: after %s: comes an AS number or an IPv4 address", s, parts[0])
		case asn > 0xffff:
			octets[0] = 0x02
			binary.BigEndian.PutUint32(octets[2:], uint32(asn))
		default:
			bits = 32
			binary.BigEndian.PutUint16(octets[2:], uint16(asn))
		}
	}
	n, err := number(parts[2], bits)
	switch {
	case err != nil:
		return Community{}, fmt.Errorf("%q: the last part must be a number from 0 to %d here", s, uint64(1)<<bits-1)
	case bits == 32:
		binary.BigEndian.PutUint32(octets[4:], uint32(n))
	default:
		binary.BigEndian.PutUint16(octets[6:], uint16(n))
	}
	return Extended(octets), nil
}

// String prints the community as ParseCommunity reads it; extended ones of other types as hexadecimal digits.
func (c Community) String() string {
	v := c.value
	word := func(at int) uint32 { return binary.BigEndian.Uint32(v[at:]) }
	half := func(at int) uint16 { return binary.BigEndian.Uint16(v[at:]) }
	switch c.Kind {
	case StandardCommunity:
		return fmt.Sprintf("%d:%d", half(0), half(2))
	case LargeCommunity:
		return fmt.Sprintf("large:%d:%d:%d", word(0), word(4), word(8))
	case ExtendedCommunity:
		name := map[byte]string{0x02: "rt", 0x03: "soo"}[v[1]]
		switch {
		case name == "" || v[0] > 0x02:
			return fmt.Sprintf("%x", v[:8])
		case v[0] == 0x00:
			return fmt.Sprintf("%s:%d:%d", name, half(2), word(4))
		case v[0] == 0x01:
			return fmt.Sprintf("%s:%s:%d", name, netip.AddrFrom4([4]byte(v[2:6])), half(6))
		default:
			return fmt.Sprintf("%s:%d:%d", name, word(2), half(6))
		}
	}
	return "none"
}

// Communities is a set of communities. It is immutable and comparable: equal sets are equal values. The zero value is the empty set.
type Communities struct {
	packed string // members in order, each as kind and value
}

const packedSize = 13

// CommunitiesOf returns the set of the given communities.
func CommunitiesOf(list ...Community) Communities {
	members := make([]string, len(list))
	for i, c := range list {
		members[i] = string(append([]byte{byte(c.Kind)}, c.value[:]...))
	}
	slices.Sort(members)
	return Communities{strings.Join(slices.Compact(members), "")}
}

// Union returns the set of the communities that are in one or the other.
func (s Communities) Union(o Communities) Communities {
	switch {
	case s == o || o.packed == "":
		return s
	case s.packed == "":
		return o
	}
	return CommunitiesOf(append(slices.Collect(s.All()), slices.Collect(o.All())...)...)
}

// Equal reports whether two sets are the same; == does, too.
func (s Communities) Equal(o Communities) bool { return s == o }

// Len returns the number of communities in the set.
func (s Communities) Len() int { return len(s.packed) / packedSize }

// All yields the communities of the set in order: standard, extended, large, each by value.
func (s Communities) All() iter.Seq[Community] {
	return func(yield func(Community) bool) {
		for i := 0; i < len(s.packed); i += packedSize {
			c := Community{Kind: CommunityKind(s.packed[i])}
			copy(c.value[:], s.packed[i+1:i+packedSize])
			if !yield(c) {
				return
			}
		}
	}
}

// Octets returns the set's communities of one kind as they go on the wire, one after the other.
func (s Communities) Octets(k CommunityKind) []byte {
	var out []byte
	for c := range s.All() {
		if c.Kind == k {
			out = append(out, c.value[:k.size()]...)
		}
	}
	return out
}

// String prints the set with blanks between.
func (s Communities) String() string {
	var words []string
	for c := range s.All() {
		words = append(words, c.String())
	}
	return strings.Join(words, " ")
}
