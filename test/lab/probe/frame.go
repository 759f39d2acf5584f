package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

// Claim is what one frame says: this address is at this hardware address.
type Claim struct {
	IP  netip.Addr
	MAC net.HardwareAddr // as the message says it
	// Source is the frame's own sender; it differs from MAC when one machine answers in another's name.
	Source      net.HardwareAddr
	Unsolicited bool // a gratuitous ARP, or a neighbour advertisement nobody asked for
	Kind        string
}

// What a Claim's Kind may be.
const (
	KindARPRequest = "arp request" // gratuitous: sender and target are the same
	KindARPReply   = "arp reply"
	KindNA         = "neighbor advertisement"
)

const (
	ipv6Header   = 40
	protoICMPv6  = 58
	ndpHopLimit  = 255 // RFC 4861 section 7.1: others are not valid
	minEthernet  = 60  // bytes of the shortest frame, without checksum
	ethernetHead = 14
)

var errNoClaim = errors.New("the frame claims no address")

// parseClaim reads what a received frame claims.
func parseClaim(frame []byte) (Claim, error) {
	var eth ethernet.Frame
	if err := eth.UnmarshalBinary(frame); err != nil {
		return Claim{}, err
	}
	switch eth.EtherType {
	case ethernet.EtherTypeARP:
		return parseARP(&eth)
	case ethernet.EtherTypeIPv6:
		return parseNA(&eth)
	}
	return Claim{}, errNoClaim
}

func parseARP(eth *ethernet.Frame) (Claim, error) {
	var p arp.Packet
	if err := p.UnmarshalBinary(eth.Payload); err != nil {
		return Claim{}, err
	}
	sender, ok := netip.AddrFromSlice(p.SenderIP)
	if !ok {
		return Claim{}, errNoClaim
	}
	c := Claim{IP: sender.Unmap(), MAC: p.SenderHardwareAddr, Source: eth.Source, Kind: KindARPReply}
	c.Unsolicited = p.SenderIP.Equal(p.TargetIP)
	if p.Operation == arp.OperationRequest {
		c.Kind = KindARPRequest
		if !c.Unsolicited { // a question; that it names its sender too is no announcement
			return Claim{}, errNoClaim
		}
	}
	// A reply to all is an announcement as well, whatever its target says.
	c.Unsolicited = c.Unsolicited || bytes.Equal(eth.Destination, ethernet.Broadcast)
	return c, nil
}

func parseNA(eth *ethernet.Frame) (Claim, error) {
	b := eth.Payload
	if len(b) < ipv6Header || b[6] != protoICMPv6 || b[7] != ndpHopLimit {
		return Claim{}, errNoClaim
	}
	length := int(binary.BigEndian.Uint16(b[4:6]))
	if length > len(b)-ipv6Header {
		return Claim{}, errNoClaim
	}
	msg, err := ndp.ParseMessage(b[ipv6Header : ipv6Header+length])
	if err != nil {
		return Claim{}, err
	}
	na, ok := msg.(*ndp.NeighborAdvertisement)
	if !ok {
		return Claim{}, errNoClaim
	}
	c := Claim{IP: na.TargetAddress, MAC: eth.Source, Source: eth.Source, Unsolicited: !na.Solicited, Kind: KindNA}
	for _, o := range na.Options {
		if lla, ok := o.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target {
			c.MAC = lla.Addr
		}
	}
	return c, nil
}

// question is the frame that asks who has ip, and the protocol its answer comes in. from is an address of the asker, of the same family.
func question(mac net.HardwareAddr, from, ip netip.Addr) (frame []byte, err error) {
	if ip.Is4() {
		return arpQuestion(mac, from, ip)
	}
	return ndpQuestion(mac, from, ip)
}

// answerProtocol is the EtherType in which answers for ip come.
func answerProtocol(ip netip.Addr) int {
	if ip.Is4() {
		return unix.ETH_P_ARP
	}
	return unix.ETH_P_IPV6
}

func arpQuestion(mac net.HardwareAddr, from, ip netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(arp.OperationRequest, mac, from.AsSlice(), make(net.HardwareAddr, 6), ip.AsSlice())
	if err != nil {
		return nil, fmt.Errorf("build ARP request for %s: %w", ip, err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build ARP request for %s: %w", ip, err)
	}
	return ethernetFrame(ethernet.Broadcast, mac, ethernet.EtherTypeARP, b)
}

// ndpQuestion is a neighbour solicitation as for a first contact: to the solicited-node group (RFC 4861 section 7.2.2).
func ndpQuestion(mac net.HardwareAddr, from, ip netip.Addr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(ip)
	if err != nil {
		return nil, fmt.Errorf("build neighbour solicitation for %s: %w", ip, err)
	}
	ns := &ndp.NeighborSolicitation{TargetAddress: ip, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}}
	body, err := ndp.MarshalMessageChecksum(ns, from, group)
	if err != nil {
		return nil, fmt.Errorf("build neighbour solicitation for %s: %w", ip, err)
	}
	packet := make([]byte, ipv6Header, ipv6Header+len(body))
	packet[0] = 6 << 4
	binary.BigEndian.PutUint16(packet[4:], uint16(len(body)))
	packet[6], packet[7] = protoICMPv6, ndpHopLimit
	copy(packet[8:], from.AsSlice())
	copy(packet[24:], group.AsSlice())
	g := group.As16()
	to := net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]} // RFC 2464 section 7
	return ethernetFrame(to, mac, ethernet.EtherTypeIPv6, append(packet, body...))
}

func ethernetFrame(to, from net.HardwareAddr, proto ethernet.EtherType, payload []byte) ([]byte, error) {
	f := &ethernet.Frame{Destination: to, Source: from, EtherType: proto, Payload: payload}
	b, err := f.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build frame: %w", err)
	}
	return b, nil
}
