package controller

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// sightings is what the speakers say of themselves, arranged for questions about addresses.
type sightings struct {
	explain   *decide.Explainer
	holders   map[netip.Addr]holder
	conflicts map[netip.Addr]conflict
	sessions  map[sessionKey]config.Session
}

// conflict is a foreign user of an address, and the node that heard it.
type conflict struct {
	config.L2Conflict
	node string
}

func (c conflict) String() string {
	return decide.InUse(c.Address, c.MAC)
}

// holder is the node that answers for an L2 address.
type holder struct {
	node       string
	interfaces []string
	since      int64 // Unix nanoseconds
}

type sessionKey struct{ node, peer string }

// see arranges what the speakers report, by the facts that hold for all of them: the configuration and the switches. Only those count that
// are taken to be alive: the report of a dead speaker stands until its node goes.
func see(facts decide.Facts) *sightings {
	in := facts.Config
	alive := in.LiveSpeakers()
	s := &sightings{
		holders: make(map[netip.Addr]holder), conflicts: make(map[netip.Addr]conflict), sessions: make(map[sessionKey]config.Session),
	}
	for _, sp := range in.Speakers {
		if !alive[sp.Node] {
			continue
		}
		m := decide.Member{Node: sp.Node, Interfaces: sp.Interfaces, Claims: make(map[netip.Addr]decide.Claim, len(sp.L2))}
		for _, h := range sp.L2 {
			m.Claims[h.Address] = decide.Claim{}
			s.hold(sp.Node, h)
		}
		for _, c := range sp.Conflicts {
			if was, ok := s.conflicts[c.Address]; !ok || cmp.Or(was.Since.Compare(c.Since), strings.Compare(was.node, sp.Node)) > 0 {
				s.conflicts[c.Address] = conflict{c, sp.Node}
			}
		}
		for _, session := range sp.Sessions {
			s.sessions[sessionKey{sp.Node, session.Peer}] = session
		}
		facts.Members = append(facts.Members, m)
	}
	slices.SortFunc(facts.Members, func(a, b decide.Member) int { return strings.Compare(a.Node, b.Node) })
	s.explain = decide.NewExplainer(facts)
	return s
}

// hold takes in that a node answers for an address. Of several nodes the one that began last counts: the others have not yet said that
// they ceased.
func (s *sightings) hold(node string, h config.L2Holding) {
	since := h.Since.UnixNano()
	was, ok := s.holders[h.Address]
	switch {
	case ok && was.node == node:
		was.interfaces = append(was.interfaces, h.Interface)
		was.since = max(was.since, since)
		s.holders[h.Address] = was
	case !ok || cmp.Or(cmp.Compare(since, was.since), strings.Compare(was.node, node)) > 0:
		s.holders[h.Address] = holder{node, []string{h.Interface}, since}
	}
}

// verdict is what is known about the announcement of one Service.
type verdict struct {
	condition config.Condition
	pending   bool                  // it may just have begun: nobody answers yet, though somebody should
	owners    map[netip.Addr]string // L2 addresses and the nodes that answer for them
	conflicts []string              // foreign users of addresses, in the words that the condition has for them as well
}

// part is what is known about one address and one protocol.
type part struct {
	addr    netip.Addr
	reason  decide.Reason // Announced, or why not
	text    string
	pending bool
	nodes   []string // BGP: those that tell the address to a peer
	peers   []string // BGP: whom
}

// judge puts together what is known about a Service that has addresses: announced means that each address is, by one protocol at least.
func (s *sightings) judge(svc *config.Service) verdict {
	v := verdict{owners: make(map[netip.Addr]string)}
	byAddr := make(map[netip.Addr]part, len(svc.Ingress)) // the best part of each address
	var good, bad []string
	var routed part // what BGP does for all addresses together
	for _, e := range s.explain.Service(svc.Key) {
		p := s.part(e)
		if e.Protocol == decide.L2 {
			s.users(&v, p)
		}
		switch {
		case p.reason != decide.Announced:
			bad = append(bad, prefixed(svc, e, p.text))
		case e.Protocol == decide.BGP:
			routed.nodes, routed.peers = append(routed.nodes, p.nodes...), append(routed.peers, p.peers...)
		default:
			good = append(good, p.text)
		}
		if best, ok := byAddr[e.Addr]; !ok || rank(p.reason) > rank(best.reason) {
			byAddr[e.Addr] = p
		}
	}
	if len(routed.nodes) > 0 {
		good = append(good, "BGP by "+count(distinct(routed.nodes), "node")+" to "+count(distinct(routed.peers), "peer"))
	}
	v.condition = config.Condition{Status: "True", Reason: string(decide.Announced), Message: joinDistinct(good, bad)}
	for _, a := range svc.Ingress {
		if p := byAddr[a]; p.reason != decide.Announced {
			v.condition.Status, v.condition.Reason = "False", string(p.reason)
			v.pending = p.pending
			break
		}
	}
	return v
}

// users takes in who uses an L2 address.
func (s *sightings) users(v *verdict, p part) {
	if p.reason != decide.Announced && p.reason != decide.AddressConflict {
		return
	}
	if h, ok := s.holders[p.addr]; ok {
		v.owners[p.addr] = h.node
	}
	if c, ok := s.conflicts[p.addr]; ok {
		v.conflicts = append(v.conflicts, c.String())
	}
}

// rank orders reasons by how close they are to an announcement.
func rank(r decide.Reason) int {
	return slices.Index([]decide.Reason{decide.NoAdvertisement, decide.NoReadyEndpoints, decide.NoEligibleNode, decide.PeersDown, decide.AddressConflict, decide.Announced}, r)
}

// prefixed says which address, and by which protocol, is meant where there is more than one.
func prefixed(svc *config.Service, e decide.Explanation, text string) string {
	var what []string
	if len(svc.Ingress) > 1 {
		what = append(what, e.Addr.String())
	}
	if e.Protocol != "" {
		what = append(what, string(e.Protocol))
	}
	if len(what) == 0 {
		return text
	}
	return strings.Join(what, " ") + ": " + text
}

func joinDistinct(lists ...[]string) string {
	var out []string
	for _, s := range slices.Concat(lists...) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return strings.Join(out, "; ")
}

func (s *sightings) part(e decide.Explanation) part {
	p := part{addr: e.Addr, reason: e.Reason, text: e.Message}
	if e.Reason != decide.Announced {
		return p
	}
	if e.Protocol == decide.BGP {
		return s.bgp(e, p)
	}
	return s.l2(e, p)
}

func (s *sightings) l2(e decide.Explanation, p part) part {
	h, ok := s.holders[e.Addr]
	c, disputed := s.conflicts[e.Addr]
	if disputed {
		p.reason = decide.AddressConflict
		p.text = c.String() + ", heard by " + c.node + " on " + c.Interface
		if ok {
			p.text += "; " + h.node + " answers for it, too"
		} else {
			p.text += "; no node answers for it until it is free"
		}
		return p
	}
	if !ok {
		p.reason, p.pending = decide.NoEligibleNode, true
		p.text = "no speaker answers yet; " + e.Owner + " should"
		return p
	}
	how := "ARP"
	if config.FamilyOf(e.Addr) == config.IPv6 {
		how = "NDP"
	}
	p.text = how + " by " + h.node + " on " + strings.Join(slices.Sorted(slices.Values(h.interfaces)), ", ")
	return p
}

// bgp counts the nodes and peers between which a session for the address's family is up.
func (s *sightings) bgp(e decide.Explanation, p part) part {
	f := config.FamilyOf(e.Addr)
	var down []string
	for _, able := range e.Able {
		for _, peer := range able.Peers {
			session, ok := s.sessions[sessionKey{able.Node, peer}]
			if why := sessionDown(session, ok, f); why != "" {
				down = append(down, peer+" from "+able.Node+" ("+why+")")
				continue
			}
			p.nodes, p.peers = append(p.nodes, able.Node), append(p.peers, peer)
		}
	}
	if len(p.nodes) == 0 {
		p.reason, p.pending = decide.PeersDown, true
		p.text = "no session is up: " + limited(down)
	}
	return p
}

func distinct(names []string) int {
	return len(slices.Compact(slices.Sorted(slices.Values(names))))
}

// sessionDown says why a session carries no routes of a family; "" when it does.
func sessionDown(s config.Session, known bool, f config.Family) string {
	switch {
	case !known:
		return "not reported yet"
	case s.State != "Established" && s.LastError != "":
		return s.State + ": " + s.LastError
	case s.State != "Established":
		return s.State
	case !slices.Contains(s.Families, f):
		return f.String() + " was not agreed on"
	}
	return ""
}

// maxNamed bounds how many sessions a message names.
const maxNamed = 5

func limited(names []string) string {
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// moves compares who answered for a Service's addresses with who does now.
func moves(was, is map[netip.Addr]string) []string {
	var out []string
	for _, a := range slices.SortedFunc(maps.Keys(is), netip.Addr.Compare) {
		if from := was[a]; from != "" && from != is[a] {
			out = append(out, a.String()+" moved from "+from+" to "+is[a])
		}
	}
	return out
}
