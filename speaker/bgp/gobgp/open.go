package gobgp

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

// openMessage returns the OPEN that offers the session to the neighbour (RFC 4271 section 4.2, capabilities of RFC 5492). fresh says that
// there was no session with these parameters before in this process.
func openMessage(n bgp.Neighbor, fresh bool) []byte {
	caps := []packet.ParameterCapabilityInterface{packet.NewCapRouteRefresh()}
	for _, f := range n.Families.List() {
		caps = append(caps, packet.NewCapMultiProtocol(routeFamily(f)))
	}
	if n.Families.IPv4 && n.Over6() { // RFC 8950 section 4
		caps = append(caps, packet.NewCapExtendedNexthop([]*packet.CapExtendedNexthopTuple{
			packet.NewCapExtendedNexthopTuple(packet.RF_IPv4_UC, packet.AFI_IP6),
		}))
	}
	caps = append(caps, packet.NewCapFourOctetASNumber(n.LocalASN))
	caps = append(caps, restartCapabilities(n, fresh)...)
	return mustSerialize(packet.NewBGPOpenMessage(twoOctets(n.LocalASN), uint16(n.Hold/time.Second), n.RouterID.String(),
		[]packet.OptionParameterInterface{packet.NewOptionParameterCapability(caps)}))
}

// restartCapabilities asks the peer to keep our routes while the speaker is away (RFC 4724 section 3, RFC 9494 section 3).
//
// The forwarding state is always preserved: the kernel forwards whether the speaker runs or not. The restart flag is set for a fresh
// session; it tells the peer not to wait for us. The notification flag of RFC 8538 is never set: with it a router would go on sending to a
// node that fell silent until the restart time is over, not until the hold time is.
func restartCapabilities(n bgp.Neighbor, fresh bool) []packet.ParameterCapabilityInterface {
	if !n.Restart.Enabled {
		return nil
	}
	var kept []*packet.CapGracefulRestartTuple
	var longLived []*packet.CapLongLivedGracefulRestartTuple
	for _, f := range n.Families.List() {
		kept = append(kept, packet.NewCapGracefulRestartTuple(routeFamily(f), true))
		longLived = append(longLived, packet.NewCapLongLivedGracefulRestartTuple(routeFamily(f), true, uint32(n.Restart.LongLived/time.Second)))
	}
	caps := []packet.ParameterCapabilityInterface{packet.NewCapGracefulRestart(fresh, false, uint16(n.Restart.RestartTime/time.Second), kept)}
	if n.Restart.LongLived > 0 {
		caps = append(caps, packet.NewCapLongLivedGracefulRestart(longLived))
	}
	return caps
}

// twoOctets returns the AS number as a two-octet speaker sees it (RFC 6793 section 4.2.2).
func twoOctets(asn uint32) uint16 {
	if asn > 0xffff {
		return packet.AS_TRANS
	}
	return uint16(asn)
}

func routeFamily(f config.Family) packet.RouteFamily {
	if f == config.IPv4 {
		return packet.RF_IPv4_UC
	}
	return packet.RF_IPv6_UC
}

// terms are what the two OPENs agree on.
type terms struct {
	families        bgp.Families
	asn             uint32        // the peer's
	hold            time.Duration // 0: neither side expects KEEPALIVEs
	keepalive       time.Duration
	fourOctets      bool // the peer reads four-octet AS numbers
	extendedNextHop bool
	graceful        bool   // the peer keeps our routes while the speaker restarts, and wants to be told when it has them all
	complaint       string // something the operator should know although the session comes up
}

// offer is a peer's OPEN.
type offer struct {
	version         uint8
	asn             uint32
	hold            time.Duration
	id              [4]byte
	families        bgp.Families
	fourOctets      bool
	extendedNextHop bool
	graceful        bool
}

// readOpen reads a peer's OPEN. Unknown capabilities and parameters are ignored, as RFC 5492 section 3 asks.
func readOpen(body []byte) (offer, error) {
	var open packet.BGPOpen
	malformed := newFault(packet.BGP_ERROR_OPEN_MESSAGE_ERROR, 0, nil, "the peer's OPEN is malformed")
	if err := guard(func() error { return open.DecodeFromBytes(body) }); err != nil {
		return offer{}, malformed
	}
	o := offer{
		version: open.Version,
		asn:     uint32(open.MyAS),
		hold:    time.Duration(open.HoldTime) * time.Second,
		id:      [4]byte(open.ID),
	}
	multiprotocol := false
	for _, c := range capabilities(&open) {
		switch c := c.(type) {
		case *packet.CapMultiProtocol:
			multiprotocol = true
			o.families.IPv4 = o.families.IPv4 || c.CapValue == packet.RF_IPv4_UC
			o.families.IPv6 = o.families.IPv6 || c.CapValue == packet.RF_IPv6_UC
		case *packet.CapFourOctetASNumber:
			o.fourOctets, o.asn = true, c.CapValue
		case *packet.CapGracefulRestart:
			o.graceful = true
		case *packet.CapExtendedNexthop:
			o.extendedNextHop = o.extendedNextHop || slices.ContainsFunc(c.Tuples, ipv4OverIPv6)
		}
	}
	if !multiprotocol { // RFC 4760 section 8: without the capability it is IPv4 unicast
		o.families.IPv4 = true
	}
	return o, nil
}

func capabilities(open *packet.BGPOpen) []packet.ParameterCapabilityInterface {
	var out []packet.ParameterCapabilityInterface
	for _, p := range open.OptParams {
		if caps, ok := p.(*packet.OptionParameterCapability); ok {
			out = append(out, caps.Capability...)
		}
	}
	return out
}

func ipv4OverIPv6(t *packet.CapExtendedNexthopTuple) bool {
	return t.NLRIAFI == packet.AFI_IP && t.NLRISAFI == packet.SAFI_UNICAST && t.NexthopAFI == packet.AFI_IP6
}

// negotiate judges a peer's OPEN (RFC 4271 section 6.2) and returns what the session will be. Errors are *fault values.
func negotiate(n bgp.Neighbor, body []byte) (terms, error) {
	o, err := readOpen(body)
	if err != nil {
		return terms{}, err
	}
	if err := judge(n, o); err != nil {
		return terms{}, err
	}
	t := terms{
		families:        n.Families.And(o.families),
		asn:             o.asn,
		graceful:        o.graceful && n.Restart.Enabled,
		hold:            min(n.Hold.Truncate(time.Second), o.hold),
		fourOctets:      o.fourOctets,
		extendedNextHop: o.extendedNextHop && n.Over6(),
	}
	if t.hold > 0 {
		t.keepalive = min(n.Keepalive, t.hold/3)
		if n.Keepalive <= 0 {
			t.keepalive = t.hold / 3
		}
		t.keepalive = max(t.keepalive, time.Second) // RFC 4271 section 4.4: not more often than once a second
	}
	if t.families != n.Families {
		t.complaint = fmt.Sprintf("the router does not offer %s; only %s is exchanged", familyList(missing(n.Families, t.families)), familyList(t.families))
	}
	return t, nil
}

func judge(n bgp.Neighbor, o offer) error {
	const code = packet.BGP_ERROR_OPEN_MESSAGE_ERROR
	switch {
	case o.version != 4:
		return newFault(code, packet.BGP_ERROR_SUB_UNSUPPORTED_VERSION_NUMBER, []byte{0, 4},
			fmt.Sprintf("the router speaks BGP version %d, not 4", o.version))
	case !allowed(n, o.asn):
		return newFault(code, packet.BGP_ERROR_SUB_BAD_PEER_AS, nil, wrongAS(n, o.asn))
	case o.id == [4]byte{}, n.Internal() && o.id == n.RouterID.As4(): // RFC 6286 section 2.2
		return newFault(code, packet.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER, nil,
			fmt.Sprintf("the router has the BGP identifier %d.%d.%d.%d, which is unusable here; set spec.routerID if it is this node's", o.id[0], o.id[1], o.id[2], o.id[3]))
	case o.hold == time.Second, o.hold == 2*time.Second:
		return newFault(code, packet.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME, nil,
			fmt.Sprintf("the router asks for a hold time of %s; it must be 0 or at least 3s", o.hold))
	case n.Families.And(o.families) == bgp.Families{}:
		return newFault(code, packet.BGP_ERROR_SUB_UNSUPPORTED_CAPABILITY, multiprotocolOf(n.Families),
			fmt.Sprintf("the router offers %s, but spec.families wants %s", familyList(o.families), familyList(n.Families)))
	}
	return nil
}

// allowed reports whether the router may have the given AS number. 0 is nobody's (RFC 7607).
func allowed(n bgp.Neighbor, asn uint32) bool {
	if n.PeerASN == 0 {
		return asn != 0 && asn != n.LocalASN
	}
	return asn == n.PeerASN
}

func wrongAS(n bgp.Neighbor, asn uint32) string {
	switch {
	case n.PeerASN == 0:
		return fmt.Sprintf("the router is AS %d like this node, but spec.dynamicASN says external", asn)
	case n.Internal():
		return fmt.Sprintf("the router is AS %d, but the session is internal, so it should be %d like this node", asn, n.LocalASN)
	default:
		return fmt.Sprintf("the router is AS %d, but spec.peerASN says %d", asn, n.PeerASN)
	}
}

// multiprotocolOf returns the capabilities that a peer lacks, as the data of Unsupported Capability (RFC 5492 section 5).
func multiprotocolOf(f bgp.Families) []byte {
	var out []byte
	for _, x := range f.List() {
		afi, safi := packet.RouteFamilyToAfiSafi(routeFamily(x))
		out = append(out, byte(packet.BGP_CAP_MULTIPROTOCOL), 4)
		out = binary.BigEndian.AppendUint16(out, afi)
		out = append(out, 0, safi)
	}
	return out
}

func missing(want, have bgp.Families) bgp.Families {
	return bgp.Families{IPv4: want.IPv4 && !have.IPv4, IPv6: want.IPv6 && !have.IPv6}
}

func familyList(f bgp.Families) string {
	switch f {
	case bgp.Families{IPv4: true, IPv6: true}:
		return "IPv4 and IPv6"
	case bgp.Families{IPv4: true}:
		return "IPv4"
	case bgp.Families{IPv6: true}:
		return "IPv6"
	default:
		return "neither IPv4 nor IPv6"
	}
}
