// Package ndp answers IPv6 neighbour solicitations for addresses that are not configured on the host (RFC 4861 section 7.2), announces
// them with unsolicited advertisements (section 7.2.6), and hears others claim them. One responder serves one interface.
//
// It works on Ethernet frames, not on an ICMPv6 socket: the kernel hands such a socket no unicast packet for an address it does not have,
// so neighbour unreachability detection would fail. It also spares a link-local address: advertisements are sent from the address they
// are about, as hosts do for their own, so a missing or tentative link-local address is no obstacle. Packets with extension headers are
// not looked at: no node sends neighbour discovery with them, and RFC 6980 forbids fragments.
package ndp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"

	"github.com/heraldlb/herald/speaker/l2/frame"
)

const protocolICMPv6 = 58

// message is one neighbour solicitation or advertisement with the headers it came in.
type message struct {
	to, from net.HardwareAddr // Ethernet
	src, dst netip.Addr
	mac      net.HardwareAddr // the sender's: from its option, or else from the Ethernet header
	body     ndp.Message
}

var (
	errNotNDP   = errors.New("not neighbour discovery")
	errHopLimit = errors.New("hop limit is not 255: it was forwarded")
	errChecksum = errors.New("wrong checksum")
)

// parse reads a frame and validates it as RFC 4861 sections 7.1.1 and 7.1.2 ask for. Other messages than solicitations and advertisements
// are errors.
func parse(b []byte) (message, error) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(b); err != nil {
		return message{}, fmt.Errorf("ethernet frame: %w", err)
	}
	if f.EtherType != ethernet.EtherTypeIPv6 || !frame.Unicast(f.Source) {
		return message{}, errNotNDP
	}
	h, err := ipv6.ParseHeader(f.Payload)
	if err != nil {
		return message{}, fmt.Errorf("IPv6 header: %w", err)
	}
	payload := f.Payload[ipv6.HeaderLen:]
	if h.Version != 6 || h.NextHeader != protocolICMPv6 || h.PayloadLen > len(payload) || h.PayloadLen < 24 {
		return message{}, errNotNDP
	}
	payload = payload[:h.PayloadLen] // the rest is padding
	m := message{to: f.Destination, from: f.Source, src: netip.AddrFrom16([16]byte(h.Src)), dst: netip.AddrFrom16([16]byte(h.Dst))}
	if err := check(m, h.HopLimit, payload); err != nil {
		return message{}, err
	}
	if m.body, err = ndp.ParseMessage(payload); err != nil {
		return message{}, err
	}
	return m, m.finish()
}

func check(m message, hopLimit int, payload []byte) error {
	switch {
	case hopLimit != ndp.HopLimit:
		return errHopLimit
	case checksum(m.src, m.dst, payload) != 0:
		return errChecksum
	case payload[1] != 0 || m.src.IsMulticast(): // the code; a sender that cannot be
		return errNotNDP
	}
	return nil
}

// finish checks what depends on the kind of message and takes the sender's MAC.
func (m *message) finish() error {
	var target netip.Addr
	var option net.HardwareAddr
	switch body := m.body.(type) {
	case *ndp.NeighborSolicitation:
		target, option = body.TargetAddress, linkLayer(body.Options, ndp.Source)
		if m.src.IsUnspecified() && (option != nil || !isSolicitedNode(m.dst)) {
			return errors.New("solicitation from no address, but not as duplicate address detection sends it")
		}
	case *ndp.NeighborAdvertisement:
		target, option = body.TargetAddress, linkLayer(body.Options, ndp.Target)
		if m.dst.IsMulticast() && body.Solicited {
			return errors.New("advertisement to everyone, yet called solicited")
		}
	default:
		return errNotNDP
	}
	if target.IsMulticast() {
		return errors.New("target is a multicast address")
	}
	m.mac = m.from
	if option != nil {
		m.mac = option
	}
	if !frame.Unicast(m.mac) {
		return fmt.Errorf("sender %v is no station", m.mac)
	}
	return nil
}

func linkLayer(options []ndp.Option, d ndp.Direction) net.HardwareAddr {
	for _, o := range options {
		if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == d {
			return lla.Addr
		}
	}
	return nil
}

// isSolicitedNode reports whether the address lies in ff02::1:ff00:0/104 (RFC 4291 section 2.7.1).
func isSolicitedNode(a netip.Addr) bool {
	b := a.As16()
	return [13]byte(b[:13]) == [13]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}
}

// marshal builds a frame around an ICMPv6 message.
func marshal(to, from net.HardwareAddr, src, dst netip.Addr, body ndp.Message) ([]byte, error) {
	payload, err := ndp.MarshalMessageChecksum(body, src, dst)
	if err != nil {
		return nil, fmt.Errorf("ICMPv6 message: %w", err)
	}
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(payload))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = protocolICMPv6, ndp.HopLimit
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	f := ethernet.Frame{Destination: to, Source: from, EtherType: ethernet.EtherTypeIPv6, Payload: append(b, payload...)}
	return f.MarshalBinary()
}

// checksum is 0 for an ICMPv6 message that carries the right one (RFC 4443 section 2.3).
func checksum(src, dst netip.Addr, payload []byte) uint16 {
	sum := uint32(len(payload)) + protocolICMPv6
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(src.AsSlice())
	add(dst.AsSlice())
	add(payload)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// multicastMAC is the Ethernet address of an IPv6 group (RFC 2464 section 7).
func multicastMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
