package gobgp

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

// updates returns the UPDATE messages that carry a difference: announcements first, then withdrawals, each message as full as RFC 4271
// section 4.3 allows, and never fuller.
func updates(n bgp.Neighbor, t terms, announce []bgp.Group, withdraw []netip.Prefix) [][]byte {
	var out [][]byte
	for _, g := range announce {
		out = append(out, announcements(n, t, g)...)
	}
	v6 := slices.IndexFunc(withdraw, func(p netip.Prefix) bool { return p.Addr().Is6() })
	if v6 < 0 {
		v6 = len(withdraw)
	}
	out = append(out, pack(withdraw[:v6], room, func(nlri []byte) []byte { return update(nlri, nil, nil) })...)
	return append(out, pack(withdraw[v6:], room-multiHead-3, func(nlri []byte) []byte {
		return update(nil, multiUnreach(config.IPv6, nlri), nil)
	})...)
}

// endOfRIB says that the peer was told all routes of the family (RFC 4724 section 2).
func endOfRIB(f config.Family) []byte {
	if f == config.IPv4 {
		return update(nil, nil, nil)
	}
	return update(nil, multiUnreach(f, nil), nil)
}

const (
	room      = packet.BGP_MAX_MESSAGE_LENGTH - packet.BGP_HEADER_LENGTH - 4 // for withdrawn routes, attributes and NLRI
	multiHead = 4                                                            // flags, type and length of an attribute that outgrows 255 octets
)

// announcements returns the UPDATEs for a group. IPv4 with an IPv4 next hop has the form of RFC 4271, everything else that of RFC 4760
// (and RFC 8950).
func announcements(n bgp.Neighbor, t terms, g bgp.Group) [][]byte {
	classic := g.Prefixes[0].Addr().Is4() && g.NextHop.Is4()
	attrs := attributes(n, t, g.Attributes, classic)
	if classic {
		return pack(g.Prefixes, room-len(attrs), func(nlri []byte) []byte { return update(nil, attrs, nlri) })
	}
	hop := g.NextHop.As16()
	head := append(familyOctets(config.FamilyOf(g.Prefixes[0].Addr())), byte(len(hop)))
	head = append(append(head, hop[:]...), 0)
	return pack(g.Prefixes, room-len(attrs)-multiHead-len(head), func(nlri []byte) []byte {
		reach := attribute(nil, packet.BGP_ATTR_FLAG_OPTIONAL, packet.BGP_ATTR_TYPE_MP_REACH_NLRI, slices.Concat(head, nlri))
		return update(nil, append(reach, attrs...), nil) // RFC 7606 section 5.1: before all others
	})
}

// pack spreads prefixes over as few messages as possible, none with more than room octets of prefixes.
func pack(ps []netip.Prefix, room int, message func(nlri []byte) []byte) [][]byte {
	const most = 1 + 16 // octets of a prefix
	var out [][]byte
	nlri := make([]byte, 0, min(room, len(ps)*most))
	for _, p := range ps {
		if len(nlri)+octets(p) > room {
			out = append(out, message(nlri))
			nlri = nlri[:0]
		}
		nlri = append(nlri, byte(p.Bits()))
		nlri = append(nlri, p.Addr().AsSlice()[:octets(p)-1]...)
	}
	if len(nlri) > 0 {
		out = append(out, message(nlri))
	}
	return out
}

// octets returns the length of a prefix on the wire (RFC 4271 section 4.3).
func octets(p netip.Prefix) int { return 1 + (p.Bits()+7)/8 }

// update returns an UPDATE message.
func update(withdrawn, attrs, nlri []byte) []byte {
	b := make([]byte, 0, packet.BGP_HEADER_LENGTH+4+len(withdrawn)+len(attrs)+len(nlri))
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(cap(b)))
	b = append(b, packet.BGP_MSG_UPDATE)
	b = binary.BigEndian.AppendUint16(b, uint16(len(withdrawn)))
	b = append(b, withdrawn...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(attrs)))
	b = append(b, attrs...)
	return append(b, nlri...)
}

// attribute appends a path attribute.
func attribute(b []byte, flags packet.BGPAttrFlag, kind packet.BGPAttrType, value []byte) []byte {
	if len(value) > 0xff {
		b = append(b, byte(flags|packet.BGP_ATTR_FLAG_EXTENDED_LENGTH), byte(kind))
		b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	} else {
		b = append(b, byte(flags), byte(kind), byte(len(value)))
	}
	return append(b, value...)
}

func familyOctets(f config.Family) []byte {
	afi, safi := packet.RouteFamilyToAfiSafi(routeFamily(f))
	return []byte{byte(afi >> 8), byte(afi), safi}
}

// multiUnreach returns the attribute that withdraws routes of a family (RFC 4760 section 4).
func multiUnreach(f config.Family, nlri []byte) []byte {
	return attribute(nil, packet.BGP_ATTR_FLAG_OPTIONAL, packet.BGP_ATTR_TYPE_MP_UNREACH_NLRI, append(familyOctets(f), nlri...))
}

// attributes returns the path attributes but for those that hold prefixes, in the order of their types (RFC 4271 section 5).
func attributes(n bgp.Neighbor, t terms, a bgp.Attributes, nextHop bool) []byte {
	const (
		transitive = packet.BGP_ATTR_FLAG_TRANSITIVE
		optional   = packet.BGP_ATTR_FLAG_OPTIONAL
	)
	b := attribute(nil, transitive, packet.BGP_ATTR_TYPE_ORIGIN, []byte{packet.BGP_ORIGIN_ATTR_TYPE_IGP})
	path, longPath := asPath(n, t, int(a.Prepend))
	b = attribute(b, transitive, packet.BGP_ATTR_TYPE_AS_PATH, path)
	if nextHop {
		b = attribute(b, transitive, packet.BGP_ATTR_TYPE_NEXT_HOP, a.NextHop.AsSlice())
	}
	if a.MED.Given {
		b = attribute(b, optional, packet.BGP_ATTR_TYPE_MULTI_EXIT_DISC, binary.BigEndian.AppendUint32(nil, a.MED.Value))
	}
	if n.Internal() {
		b = attribute(b, transitive, packet.BGP_ATTR_TYPE_LOCAL_PREF, binary.BigEndian.AppendUint32(nil, a.LocalPref))
	}
	communities := func(kind packet.BGPAttrType, octets []byte) {
		if len(octets) > 0 {
			b = attribute(b, optional|transitive, kind, octets)
		}
	}
	communities(packet.BGP_ATTR_TYPE_COMMUNITIES, a.Communities.Octets(config.StandardCommunity))
	communities(packet.BGP_ATTR_TYPE_EXTENDED_COMMUNITIES, append(a.Communities.Octets(config.ExtendedCommunity), bandwidth(n, a.Weight)...))
	communities(packet.BGP_ATTR_TYPE_AS4_PATH, longPath)
	communities(packet.BGP_ATTR_TYPE_LARGE_COMMUNITY, a.Communities.Octets(config.LargeCommunity))
	return b
}

// asPath returns AS_PATH, empty inside the AS, our AS outside of it; and AS4_PATH where a two-octet peer would lose our number.
func asPath(n bgp.Neighbor, t terms, prepend int) (path, long []byte) {
	if n.Internal() {
		return nil, nil
	}
	count := 1 + prepend
	segment := []byte{packet.BGP_ASPATH_ATTR_TYPE_SEQ, byte(count)}
	wide, narrow := slices.Clone(segment), slices.Clone(segment)
	for range count {
		wide = binary.BigEndian.AppendUint32(wide, n.LocalASN)
		narrow = binary.BigEndian.AppendUint16(narrow, twoOctets(n.LocalASN))
	}
	switch {
	case t.fourOctets:
		return wide, nil
	case n.LocalASN > 0xffff:
		return narrow, wide
	}
	return narrow, nil
}

// perEndpoint is the bandwidth that stands for one endpoint, in octets per second: 1 Mbit/s. Routers look at proportions only; FRR holds
// the number in 32 bits, and this leaves it room for 34,000 endpoints.
const perEndpoint = 125_000

// bandwidth returns the link bandwidth community for a weight (draft-ietf-idr-link-bandwidth section 2); nothing for 0. It has two octets
// for our AS number; a longer one is told as AS_TRANS (RFC 6793 section 4.2.2).
func bandwidth(n bgp.Neighbor, weight uint32) []byte {
	if weight == 0 {
		return nil
	}
	b := []byte{0x40, 0x04} // non-transitive two-octet AS specific, link bandwidth
	b = binary.BigEndian.AppendUint16(b, twoOctets(n.LocalASN))
	return binary.BigEndian.AppendUint32(b, math.Float32bits(perEndpoint*float32(weight)))
}

// offered counts the routes that a received UPDATE announces, of whatever family without path identifiers. Nothing else is read of it:
// all routes are refused, so a malformed attribute cannot do harm and is no reason to reset the session (RFC 7606 section 1).
func offered(body []byte) int {
	_, rest, ok := cut(body) // withdrawn routes
	if !ok {
		return 0
	}
	attrs, nlri, ok := cut(rest)
	if !ok {
		return 0
	}
	return prefixes(nlri) + reachable(attrs)
}

// cut splits off what a leading two-octet length announces.
func cut(b []byte) (part, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// reachable counts the prefixes in MP_REACH_NLRI among path attributes (RFC 4760 section 3).
func reachable(attrs []byte) int {
	for len(attrs) >= 3 {
		flags, kind := attrs[0], attrs[1]
		head, size := 3, int(attrs[2])
		if flags&0x10 != 0 { // extended length
			if len(attrs) < 4 {
				return 0
			}
			head, size = 4, int(binary.BigEndian.Uint16(attrs[2:]))
		}
		if len(attrs) < head+size {
			return 0
		}
		value := attrs[head : head+size]
		attrs = attrs[head+size:]
		if packet.BGPAttrType(kind) == packet.BGP_ATTR_TYPE_MP_REACH_NLRI && len(value) > 4 && len(value) > 4+int(value[3]) {
			return prefixes(value[5+int(value[3]):])
		}
	}
	return 0
}

// prefixes counts the prefixes in NLRI; what is cut off at the end does not count.
func prefixes(b []byte) int {
	n := 0
	for len(b) > 0 {
		size := 1 + (int(b[0])+7)/8
		if len(b) < size {
			return n
		}
		b = b[size:]
		n++
	}
	return n
}
