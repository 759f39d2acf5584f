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
	defaultRestart   = 120 * time.Second
	maxRestart       = 4095 * time.Second     // RFC 4724 section 3: 12 bits
	maxLongLived     = 16777215 * time.Second // RFC 9494 section 3: 24 bits
	holdPerKeepalive = 3                      // RFC 4271 section 4.4: a reasonable maximum between keepalives is a third of the hold time
)

// peerSpec is a BGPPeer's spec as values; Nodes, Password and BFD of the peer are empty in it.
type peerSpec struct {
	peer    config.Peer
	nodes   nodeSelection
	secret  string // name; "" = none
	profile string // likewise

	kept config.Password // when the spec was in force last; only a good version has it
}

func (w *world) parsePeers(objs []*v1beta1.BGPPeer) []*config.Peer {
	for _, o := range objs {
		w.see(KindPeer, o, o.Status.Conditions)
	}
	w.profiledBy = make(map[string]string)
	for _, d := range update(&w.memory.peers, objs, parsePeer) {
		ref := config.Ref{Kind: KindPeer, Name: d.name}
		spec := settle(w, ref, d, w.peerFits)
		if spec == nil {
			continue
		}
		p := spec.peer
		p.Nodes = w.selectNodes(&spec.nodes)
		p.Password, _ = w.password(spec)
		if spec.secret != "" {
			good := *spec
			good.kept = p.Password
			d.good = &good
		}
		var problems []config.Problem
		p.BFD, problems = w.profile(spec.profile)
		w.report(ref, problems, false)
		w.profiledBy[p.Name] = spec.profile
		w.peers = append(w.peers, reuse(d, &p, equalPeers))
	}
	w.judgeProfiles()
	return w.peersByName()
}

// peersByName returns the peers in force, sorted.
func (w *world) peersByName() []*config.Peer {
	return slices.SortedFunc(slices.Values(w.peers), func(a, b *config.Peer) int { return strings.Compare(a.Name, b.Name) })
}

// peerFits says what keeps a version out: a password that is not there, or an older peer.
func (w *world) peerFits(spec *peerSpec) *config.Problem {
	if _, p := w.password(spec); p != nil {
		return p
	}
	return w.conflicting(spec)
}

// conflicting finds an older peer in force that leads to the same router from one of the same nodes: a router takes one such session from
// each source address.
func (w *world) conflicting(spec *peerSpec) *config.Problem {
	mine := w.selectNodes(&spec.nodes)
	for _, other := range w.peers {
		where := ""
		if sameRouter(&spec.peer, other) {
			where = w.common(mine, other.Nodes)
		}
		if where == "" {
			continue
		}
		field, router := "spec.peerAddress", "with "+netip.AddrPortFrom(spec.peer.Address, spec.peer.Port).String()
		if spec.peer.Interface != "" {
			field, router = "spec.interface", "over interface "+spec.peer.Interface
		}
		return &config.Problem{
			Field: field, Reason: ConflictingPeer,
			Message: fmt.Sprintf("the older BGPPeer %s has a session %s on %s already; choose other nodes or remove one of the two", other.Name, router, where),
		}
	}
	return nil
}

// sameRouter reports whether two sessions would be one to the router: no source address that is given keeps them apart.
func sameRouter(a, b *config.Peer) bool {
	apart := a.Source.IsValid() && b.Source.IsValid() && a.Source != b.Source
	return a.Address == b.Address && a.Port == b.Port && a.Interface == b.Interface && a.VRF == b.VRF && !apart
}

func parsePeer(o *v1beta1.BGPPeer) (peerSpec, []config.Problem) {
	p := specParser{}
	s := &o.Spec
	spec := peerSpec{profile: s.BFDProfile, peer: config.Peer{
		Name: o.Name, MyASN: p.asn("spec.myASN", s.MyASN), Interface: s.Interface, Port: p.port(s.PeerPort), VRF: s.VRF,
		RouterID: p.routerID(s.RouterID), ConnectTime: p.connect(s.ConnectTime), EBGPMultiHop: s.EBGPMultiHop, TTLSecurity: s.TTLSecurity,
		Restart: p.restart(s.GracefulRestart),
	}}
	if s.PasswordSecret != nil {
		if spec.secret = s.PasswordSecret.Name; spec.secret == "" {
			p.fail("spec.passwordSecret.name", InvalidSecret, "the name of a Secret is needed")
		}
	}
	p.target(s, &spec.peer)
	p.asns(s, &spec.peer)
	spec.peer.Source = p.source(s.SourceAddress, spec.peer.Address)
	spec.peer.Families = p.families(s.Families, spec.peer.Address)
	spec.peer.HoldTime, spec.peer.KeepaliveTime = p.hold(s.HoldTime, s.KeepaliveTime)
	p.hops(s, &spec.peer)
	var problems []config.Problem
	spec.nodes.selectors, problems = parseSelectors("spec.nodeSelectors", s.NodeSelectors)
	return spec, append(p.problems, problems...)
}

// specParser collects what is wrong with one object.
type specParser struct{ problems []config.Problem }

func (p *specParser) fail(field, reason, format string, args ...any) {
	p.problems = append(p.problems, config.Problem{Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// target reads who the router is: an address, or what is at the other end of an interface.
func (p *specParser) target(s *v1beta1.BGPPeerSpec, peer *config.Peer) {
	switch {
	case s.Interface != "" && s.PeerAddress != "":
		p.fail("spec.interface", InvalidInterface, "give either peerAddress or interface")
	case s.Interface != "":
		if !deviceName(s.Interface) {
			p.fail("spec.interface", InvalidInterface, "%q is not the name of a network interface", s.Interface)
		}
		if s.SourceAddress != "" {
			p.fail("spec.sourceAddress", InvalidAddress, "is for peerAddress: the session over an interface is opened from its link-local address")
		}
	default:
		peer.Address = p.address("spec.peerAddress", s.PeerAddress)
	}
	if s.VRF != "" && !deviceName(s.VRF) {
		p.fail("spec.vrf", InvalidInterface, "%q is not the name of a network device", s.VRF)
	}
}

// deviceName reports whether the kernel would take this as the name of a network device.
func deviceName(s string) bool {
	return len(s) < 16 && s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r > '~' })
}

// asns reads the router's AS number and the one that it sees of us.
func (p *specParser) asns(s *v1beta1.BGPPeerSpec, peer *config.Peer) {
	switch {
	case s.PeerASN != 0 && s.DynamicASN != "":
		p.fail("spec.dynamicASN", InvalidASN, "give either peerASN or dynamicASN")
	case s.DynamicASN == "":
		peer.PeerASN = p.asn("spec.peerASN", s.PeerASN)
	case s.DynamicASN == v1beta1.ASNInternal:
		peer.PeerASN = peer.MyASN
	case s.DynamicASN != v1beta1.ASNExternal:
		p.fail("spec.dynamicASN", InvalidASN, "%q is neither internal nor external", s.DynamicASN)
	}
	if s.LocalASN == 0 {
		return
	}
	peer.LocalASN = p.asn("spec.localASN", s.LocalASN)
	switch peer.LocalASN {
	case peer.MyASN:
		p.fail("spec.localASN", InvalidASN, "must differ from myASN, which the router sees otherwise")
	case peer.PeerASN:
		p.fail("spec.localASN", InvalidASN, "is for external peers; for an internal session give that AS as myASN")
	default:
		if peer.PeerASN == peer.MyASN {
			p.fail("spec.localASN", InvalidASN, "is for external peers, and this session is internal")
		}
	}
}

// hops checks what is said of how far away the router is.
func (p *specParser) hops(s *v1beta1.BGPPeerSpec, peer *config.Peer) {
	if !s.EBGPMultiHop {
		return
	}
	if internal(peer) {
		p.fail("spec.ebgpMultiHop", InvalidMultiHop, "is for external peers: with myASN equal to peerASN the session is internal, which may cross routers anyway")
	}
	if s.Interface != "" {
		p.fail("spec.ebgpMultiHop", InvalidMultiHop, "is for peerAddress: what is at the other end of an interface is one hop away")
	}
	if s.TTLSecurity {
		p.fail("spec.ttlSecurity", InvalidMultiHop, "excludes ebgpMultiHop: it refuses what comes from further away than a connected subnet")
	}
}

// restart reads what the router should do while we are away.
func (p *specParser) restart(g *v1beta1.GracefulRestart) config.GracefulRestart {
	out := config.GracefulRestart{Enabled: true, RestartTime: defaultRestart}
	if g == nil {
		return out
	}
	out.Enabled = g.Enabled == nil || *g.Enabled
	if d := g.RestartTime; d != nil {
		if out.RestartTime = d.Duration; d.Duration < time.Second || d.Duration > maxRestart || d.Duration%time.Second != 0 {
			p.fail("spec.gracefulRestart.restartTime", InvalidTimer, "%s is not from 1s to 4095s in whole seconds", d.Duration)
		}
	}
	if d := g.LongLivedStaleTime; d != nil {
		if out.LongLived = d.Duration; d.Duration < 0 || d.Duration > maxLongLived || d.Duration%time.Second != 0 {
			p.fail("spec.gracefulRestart.longLivedStaleTime", InvalidTimer, "%s is not from 0 to 16777215s in whole seconds", d.Duration)
		}
	}
	switch {
	case out.Enabled:
	case out.LongLived != 0:
		p.fail("spec.gracefulRestart.longLivedStaleTime", InvalidTimer, "has no effect without graceful restart; set enabled to true, or leave it out")
	default:
		out = config.GracefulRestart{}
	}
	return out
}

func (p *specParser) asn(field string, n int64) uint32 {
	if n < 1 || n > 1<<32-1 {
		p.fail(field, InvalidASN, "%d is not an AS number; give 1 to 4294967295", n)
		return 0
	}
	return uint32(n)
}

func (p *specParser) port(n *int32) uint16 {
	if n == nil {
		return defaultPort
	}
	if *n < 1 || *n > 65535 {
		p.fail("spec.peerPort", InvalidPort, "%d is not a TCP port; give 1 to 65535", *n)
		return 0
	}
	return uint16(*n)
}

func (p *specParser) address(field, s string) netip.Addr {
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

func (p *specParser) source(s string, peer netip.Addr) netip.Addr {
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

func (p *specParser) routerID(s string) netip.Addr {
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

func (p *specParser) families(in []v1beta1.IPFamily, peer netip.Addr) []config.Family {
	switch {
	case len(in) == 0 && peer.IsValid():
		return []config.Family{config.FamilyOf(peer)}
	case len(in) == 0: // over an interface
		return []config.Family{config.IPv6}
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

func (p *specParser) connect(d *metav1.Duration) time.Duration {
	if d == nil {
		return defaultConnect
	}
	if d.Duration < time.Second || d.Duration > maxConnect || d.Duration%time.Second != 0 {
		p.fail("spec.connectTime", InvalidTimer, "%s is not from 1s to 300s in whole seconds", d.Duration)
	}
	return d.Duration
}

// hold returns the hold time and the keepalive time: what is not given follows from the other.
func (p *specParser) hold(hold, keepalive *metav1.Duration) (h, k time.Duration) {
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

func (p *specParser) checkHold(h, k time.Duration, holdGiven, keepaliveGiven bool) {
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
	return a.Name == b.Name && equalEnds(a, b) && equalTerms(a, b) && equalProfiles(a.BFD, b.BFD) && a.Nodes.Equal(b.Nodes)
}

// equalEnds compares who talks to whom, and how they reach each other.
func equalEnds(a, b *config.Peer) bool {
	return a.MyASN == b.MyASN && a.PeerASN == b.PeerASN && a.LocalASN == b.LocalASN && a.Address == b.Address && a.Interface == b.Interface &&
		a.Port == b.Port && a.Source == b.Source && a.RouterID == b.RouterID && a.EBGPMultiHop == b.EBGPMultiHop && a.TTLSecurity == b.TTLSecurity &&
		a.VRF == b.VRF && a.Password == b.Password
}

// equalTerms compares what they agree on.
func equalTerms(a, b *config.Peer) bool {
	return slices.Equal(a.Families, b.Families) && a.HoldTime == b.HoldTime && a.KeepaliveTime == b.KeepaliveTime &&
		a.ConnectTime == b.ConnectTime && a.Restart == b.Restart
}

func equalProfiles(a, b *config.BFDProfile) bool {
	return a == b || a != nil && b != nil && *a == *b
}
