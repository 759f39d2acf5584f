package bgp

import (
	"hash/fnv"
	"net/netip"

	"github.com/heraldlb/herald/config"
)

// RouterID returns the BGP identifier of a node when none is configured: its first IPv4 address, else a number made of its name, in the
// form of an ordinary unicast address because routers refuse others (RFC 4271 section 4.2; RFC 6286 asks for uniqueness only). It is the
// same on every start.
func RouterID(node string, addresses []netip.Addr) netip.Addr {
	for _, a := range addresses {
		if config.FamilyOf(a) == config.IPv4 && isGlobal(a) {
			return a
		}
	}
	h := fnv.New64a()
	h.Write([]byte(node))
	sum := h.Sum64()
	first := byte(1 + sum>>32%222) // 1..222, leaving out 0, multicast and what is above it
	if first >= 127 {
		first++ // and loopback
	}
	return netip.AddrFrom4([4]byte{first, byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// neighborOf returns the session that a peer asks for on a node whose identifier is id.
func neighborOf(p *config.Peer, id netip.Addr) Neighbor {
	if p.RouterID.IsValid() {
		id = p.RouterID
	}
	asn := p.MyASN
	if p.LocalASN != 0 {
		asn = p.LocalASN // in place of ours, everywhere: the peer cannot tell that there is another
	}
	return Neighbor{
		Name:        p.Name,
		Address:     p.Address,
		Interface:   p.Interface,
		Port:        p.Port,
		Source:      p.Source,
		Device:      p.VRF,
		LocalASN:    asn,
		PeerASN:     p.PeerASN,
		RouterID:    id,
		Families:    FamiliesOf(p.Families),
		Hold:        p.HoldTime,
		Keepalive:   p.KeepaliveTime,
		Connect:     p.ConnectTime,
		MultiHop:    p.EBGPMultiHop,
		TTLSecurity: p.TTLSecurity,
		Password:    p.Password,
		Restart:     p.Restart,
	}
}
