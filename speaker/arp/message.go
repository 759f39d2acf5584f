// Package arp answers ARP requests for IPv4 addresses that are not configured on the host (RFC 826), announces them (RFC 5227 section 3),
// and hears others claim them. One responder serves one interface, which needs no address of its own.
package arp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/heraldlb/herald/speaker/l2/frame"
)

// message is one ARP packet with the Ethernet destination it was sent to.
type message struct {
	to        net.HardwareAddr // Ethernet destination
	op        arp.Operation
	senderMAC net.HardwareAddr
	sender    netip.Addr // 0.0.0.0 in a probe (RFC 5227 section 2.1.1)
	target    netip.Addr
}

var errNotIPv4OverEthernet = errors.New("not ARP for IPv4 over Ethernet")

// parse reads a frame. Other than IPv4 over Ethernet, and senders that cannot be answered, are errors.
func parse(b []byte) (message, error) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(b); err != nil {
		return message{}, fmt.Errorf("ethernet frame: %w", err)
	}
	var p arp.Packet
	if f.EtherType != ethernet.EtherTypeARP || len(f.Payload) < 28 {
		return message{}, errNotIPv4OverEthernet
	}
	if err := p.UnmarshalBinary(f.Payload); err != nil {
		return message{}, fmt.Errorf("ARP packet: %w", err)
	}
	if p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) || p.HardwareAddrLength != 6 || p.IPLength != 4 {
		return message{}, errNotIPv4OverEthernet
	}
	if !frame.Unicast(p.SenderHardwareAddr) {
		return message{}, fmt.Errorf("sender %v is no station", p.SenderHardwareAddr)
	}
	return message{
		to:        f.Destination,
		op:        p.Operation,
		senderMAC: p.SenderHardwareAddr,
		sender:    netip.AddrFrom4([4]byte(p.SenderIP)),
		target:    netip.AddrFrom4([4]byte(p.TargetIP)),
	}, nil
}

// station is one side of an ARP packet.
type station struct {
	mac  net.HardwareAddr
	addr netip.Addr
}

// marshal builds a frame between the given MACs. That of the sender in the ARP packet may be another than the one the frame comes from.
func marshal(to, from net.HardwareAddr, op arp.Operation, sender, target station) ([]byte, error) {
	p, err := arp.NewPacket(op, sender.mac, sender.addr.AsSlice(), target.mac, target.addr.AsSlice())
	if err != nil {
		return nil, fmt.Errorf("ARP packet: %w", err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("ARP packet: %w", err)
	}
	f := ethernet.Frame{Destination: to, Source: from, EtherType: ethernet.EtherTypeARP, Payload: payload}
	return f.MarshalBinary()
}
