package parse

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Defaults and limits of a BGP session.
const (
	defaultPort      = 179
	defaultHold      = 90 * time.Second
	defaultConnect   = 10 * time.Second
	minHold          = 3 * time.Second // RFC 4271 section 4.2: zero or at least three seconds
	maxHold          = 65535 * time.Second
	maxConnect       = 300 * time.Second
	holdPerKeepalive = 3 // RFC 4271 section 4.4: a reasonable maximum between keepalives is a third of the hold time
)

// peerSpec is a BGPPeer's spec as values; Nodes of the peer is empty in it.
type peerSpec struct {
	peer  config.Peer
	nodes nodeSelection
}

func (w *world) parsePeers(objs []*v1beta1.BGPPeer) []*config.Peer {
	for _, o := range objs {
		w.see(KindPeer, o, o.Status.Conditions)
	}
	for _, d := range update(&w.memory.peers, objs, parsePeer) {
		spec := settle(w, config.Ref{Kind: KindPeer, Name: d.name}, d, w.conflicting)
		if spec == nil {
			continue
		}
		p := spec.peer
		p.Nodes = w.selectNodes(&spec.nodes)
		w.peers = append(w.peers, reuse(d, &p, equalPeers))
	}
	return slices.SortedFunc(slices.Values(w.peers), func(a, b *config.Peer) int { return strings.Compare(a.Name, b.Name) })
}

// conflicting finds an older peer in force with the same address and port on one of the same nodes: a router takes one of two such sessions.
func (w *world) conflicting(spec *peerSpec) *config.Problem {
	mine := w.selectNodes(&spec.nodes)
	for _, other := range w.peers {
		if other.Address != spec.peer.Address || other.Port != spec.peer.Port {
			continue
		}
		where := ""
		switch {
		case mine.IsAll() && other.Nodes.IsAll():
			where = "all nodes"
		default:
			for _, n := range w.nodes {
				if mine.Has(n.Name) && other.Nodes.Has(n.Name) {
					where = "node " + n.Name
					break
				}
			}
		}
		if where != "" {
			return &config.Problem{
				Field: "spec.peerAddress", Reason: ConflictingPeer,
				Message: fmt.Sprintf("the older BGPPeer %s has a session with %s on %s already; choose other nodes or remove one of the two",
					other.Name, netip.AddrPortFrom(spec.peer.Address, spec.peer.Port), where),
			}
		}
	}
	return nil
}

func parsePeer(o *v1beta1.BGPPeer) (peerSpec, []config.Problem) {
	p := peerParser{}
	s := &o.Spec
	spec := peerSpec{peer: config.Peer{
		Name: o.Name, MyASN: p.asn("spec.myASN", s.MyASN), PeerASN: p.asn("spec.peerASN", s.PeerASN),
		Address: p.address("spec.peerAddress", s.PeerAddress), Port: p.port(s.PeerPort),
		RouterID: p.routerID(s.RouterID), ConnectTime: p.connect(s.ConnectTime), EBGPMultiHop: s.EBGPMultiHop,
	}}
	spec.peer.Source = p.source(s.SourceAddress, spec.peer.Address)
	spec.peer.Families = p.families(s.Families, spec.peer.Address)
	spec.peer.HoldTime, spec.peer.KeepaliveTime = p.hold(s.HoldTime, s.KeepaliveTime)
	if s.EBGPMultiHop && s.MyASN == s.PeerASN {
		p.fail("spec.ebgpMultiHop", InvalidMultiHop, "is for external peers: with myASN equal to peerASN the session is internal, which may cross routers anyway")
	}
	var problems []config.Problem
	spec.nodes.selectors, problems = parseSelectors("spec.nodeSelectors", s.NodeSelectors)
	return spec, append(p.problems, problems...)
}

// peerParser collects what is wrong with one peer.
type peerParser struct{ problems []config.Problem }

func (p *peerParser) fail(field, reason, format string, args ...any) {
	p.problems = append(p.problems, config.Problem{Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (p *peerParser) asn(field string, n int64) uint32 {
	if n < 1 || n > 1<<32-1 {
		p.fail(field, InvalidASN, "%d is not an AS number; give 1 to 4294967295", n)
		return 0
	}
	return uint32(n)
}

func (p *peerParser) port(n *int32) uint16 {
	if n == nil {
		return defaultPort
	}
	if *n < 1 || *n > 65535 {
		p.fail("spec.peerPort", InvalidPort, "%d is not a TCP port; give 1 to 65535", *n)
		return 0
	}
	return uint16(*n)
}

func (p *peerParser) address(field, s string) netip.Addr {
	a, err := parseAddr(s)
	switch {
	case err != nil:
		p.fail(field, InvalidAddress, "%v", err)
		return netip.Addr{}
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		p.fail(field, InvalidAddress, "%s is not the address of one host", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		p.fail(field, InvalidAddress, "%s is a link-local address, which means something else on each link; give a global one", a)
	}
	return a
}

func (p *peerParser) source(s string, peer netip.Addr) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a := p.address("spec.sourceAddress", s)
	if a.IsValid() && peer.IsValid() && a.BitLen() != peer.BitLen() {
		p.fail("spec.sourceAddress", InvalidAddress, "%s is not of the address family of peerAddress %s", a, peer)
	}
	if a.IsValid() && a == peer {
		p.fail("spec.sourceAddress", InvalidAddress, "%s is peerAddress itself; give an address of the node", a)
	}
	return a
}

func (p *peerParser) routerID(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := parseAddr(s)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		p.fail("spec.routerID", InvalidRouterID, "%q is not a BGP identifier; give it in the form of an IPv4 address other than 0.0.0.0", s)
		return netip.Addr{}
	}
	return a
}

func (p *peerParser) families(in []v1beta1.IPFamily, peer netip.Addr) []config.Family {
	if len(in) == 0 && peer.IsValid() {
		return []config.Family{config.FamilyOf(peer)}
	}
	var out []config.Family
	for i, f := range in {
		switch f {
		case v1beta1.FamilyIPv4:
			out = append(out, config.IPv4)
		case v1beta1.FamilyIPv6:
			out = append(out, config.IPv6)
		default:
			p.fail(fmt.Sprintf("spec.families[%d]", i), InvalidFamily, "%q is not a family; give ipv4 or ipv6", f)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (p *peerParser) connect(d *metav1.Duration) time.Duration {
	if d == nil {
		return defaultConnect
	}
	if d.Duration < time.Second || d.Duration > maxConnect || d.Duration%time.Second != 0 {
		p.fail("spec.connectTime", InvalidTimer, "%s is not from 1s to 300s in whole seconds", d.Duration)
	}
	return d.Duration
}

// hold returns the hold time and the keepalive time: what is not given follows from the other.
func (p *peerParser) hold(hold, keepalive *metav1.Duration) (h, k time.Duration) {
	switch {
	case hold == nil && keepalive == nil:
		return defaultHold, defaultHold / holdPerKeepalive
	case keepalive == nil:
		h = hold.Duration
		k = (h / holdPerKeepalive).Truncate(time.Second)
	case hold == nil:
		k = keepalive.Duration
		h = k * holdPerKeepalive
	default:
		h, k = hold.Duration, keepalive.Duration
	}
	p.checkHold(h, k, hold != nil, keepalive != nil)
	return h, k
}

func (p *peerParser) checkHold(h, k time.Duration, holdGiven, keepaliveGiven bool) {
	holdField, keepaliveField := "spec.holdTime", "spec.keepaliveTime"
	if !holdGiven {
		holdField = keepaliveField
	}
	switch {
	case h%time.Second != 0:
		p.fail(holdField, InvalidTimer, "a hold time of %s is not in whole seconds, as BGP carries it", h)
	case h != 0 && (h < minHold || h > maxHold):
		p.fail(holdField, InvalidTimer, "a hold time of %s is neither 0 nor from 3s to 65535s (RFC 4271 section 4.2)", h)
	case !keepaliveGiven:
	case k%time.Second != 0 || k < 0:
		p.fail(keepaliveField, InvalidTimer, "%s is not in whole seconds", k)
	case h == 0 && k != 0:
		p.fail(keepaliveField, InvalidTimer, "must be 0 when holdTime is 0: such a session has no keepalives")
	case h != 0 && k == 0:
		p.fail(keepaliveField, InvalidTimer, "must not be 0 unless holdTime is 0: without keepalives the peer would close the session")
	case h != 0 && k >= h:
		p.fail(keepaliveField, InvalidTimer, "%s must be shorter than the hold time %s (a third of it is usual)", k, h)
	}
}

func equalPeers(a, b *config.Peer) bool {
	return a.Name == b.Name && a.MyASN == b.MyASN && a.PeerASN == b.PeerASN && a.Address == b.Address && a.Port == b.Port &&
		a.Source == b.Source && slices.Equal(a.Families, b.Families) && a.HoldTime == b.HoldTime && a.KeepaliveTime == b.KeepaliveTime &&
		a.ConnectTime == b.ConnectTime && a.RouterID == b.RouterID && a.EBGPMultiHop == b.EBGPMultiHop && a.Nodes.Equal(b.Nodes)
}
