package gobgp

import (
	"encoding/binary"
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
		out = append(out, pack(g.Prefixes, func(ps []netip.Prefix) *packet.BGPMessage { return announcement(n, t, g.Attributes, ps) })...)
	}
	for _, f := range []config.Family{config.IPv4, config.IPv6} {
		var ps []netip.Prefix
		for _, p := range withdraw {
			if config.FamilyOf(p.Addr()) == f {
				ps = append(ps, p)
			}
		}
		out = append(out, pack(ps, withdrawal)...)
	}
	return out
}

// attributeSlack covers the longer length field of an attribute that outgrows 255 octets, and the header of the one that holds prefixes.
const attributeSlack = 8

// pack spreads prefixes over as few messages as possible.
func pack(ps []netip.Prefix, message func([]netip.Prefix) *packet.BGPMessage) [][]byte {
	if len(ps) == 0 {
		return nil
	}
	first := mustSerialize(message(ps[:1]))
	room := packet.BGP_MAX_MESSAGE_LENGTH - len(first) + octets(ps[0]) - attributeSlack
	var out [][]byte
	for len(ps) > 0 {
		count, used := 0, 0
		for count < len(ps) && used+octets(ps[count]) <= room {
			used += octets(ps[count])
			count++
		}
		out = append(out, mustSerialize(message(ps[:count])))
		ps = ps[count:]
	}
	return out
}

// octets returns the length of a prefix on the wire (RFC 4271 section 4.3).
func octets(p netip.Prefix) int { return 1 + (p.Bits()+7)/8 }

// announcement returns the UPDATE for prefixes of one family with equal attributes. IPv4 with an IPv4 next hop has the form of RFC 4271,
// everything else that of RFC 4760 (and RFC 8950).
func announcement(n bgp.Neighbor, t terms, a bgp.Attributes, ps []netip.Prefix) *packet.BGPMessage {
	path, longPath := asPath(n, t)
	attrs := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(packet.BGP_ORIGIN_ATTR_TYPE_IGP), path}
	var nlri []*packet.IPAddrPrefix
	if ps[0].Addr().Is4() && a.NextHop.Is4() {
		attrs = append(attrs, packet.NewPathAttributeNextHop(a.NextHop.String()))
		nlri = classic(ps)
	} else { // RFC 7606 section 5.1: before all others
		attrs = slices.Insert(attrs, 0, packet.PathAttributeInterface(packet.NewPathAttributeMpReachNLRI(a.NextHop.String(), multi(ps))))
	}
	if n.Internal() {
		attrs = append(attrs, packet.NewPathAttributeLocalPref(a.LocalPref))
	}
	if longPath != nil {
		attrs = append(attrs, longPath)
	}
	return packet.NewBGPUpdateMessage(nil, attrs, nlri)
}

// asPath returns AS_PATH, empty inside the AS, our AS outside of it; and AS4_PATH where a two-octet peer would lose our number.
func asPath(n bgp.Neighbor, t terms) (path, long packet.PathAttributeInterface) {
	if n.Internal() {
		return packet.NewPathAttributeAsPath(nil), nil
	}
	wide := packet.NewAs4PathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{n.LocalASN})
	if t.fourOctets {
		return packet.NewPathAttributeAsPath([]packet.AsPathParamInterface{wide}), nil
	}
	narrow := packet.NewAsPathParam(packet.BGP_ASPATH_ATTR_TYPE_SEQ, []uint16{twoOctets(n.LocalASN)})
	if n.LocalASN > 0xffff {
		long = packet.NewPathAttributeAs4Path([]*packet.As4PathParam{wide})
	}
	return packet.NewPathAttributeAsPath([]packet.AsPathParamInterface{narrow}), long
}

// withdrawal returns the UPDATE that withdraws prefixes of one family.
func withdrawal(ps []netip.Prefix) *packet.BGPMessage {
	if ps[0].Addr().Is4() {
		return packet.NewBGPUpdateMessage(classic(ps), nil, nil)
	}
	return packet.NewBGPUpdateMessage(nil, []packet.PathAttributeInterface{packet.NewPathAttributeMpUnreachNLRI(multi(ps))}, nil)
}

func classic(ps []netip.Prefix) []*packet.IPAddrPrefix {
	out := make([]*packet.IPAddrPrefix, len(ps))
	for i, p := range ps {
		out[i] = packet.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())
	}
	return out
}

func multi(ps []netip.Prefix) []packet.AddrPrefixInterface {
	out := make([]packet.AddrPrefixInterface, len(ps))
	for i, p := range ps {
		if p.Addr().Is4() {
			out[i] = packet.NewIPAddrPrefix(uint8(p.Bits()), p.Addr().String())
		} else {
			out[i] = packet.NewIPv6AddrPrefix(uint8(p.Bits()), p.Addr().String())
		}
	}
	return out
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
