package decide

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// Messages that need no names.
const (
	noEndpointsMessage     = "the Service has no ready endpoint"
	noAdvertisementMessage = "no L2Advertisement or BGPAdvertisement covers this address: its pool, or the Service, is selected by none"
)

// Explanation says, for one address of a Service and one protocol, who may announce it and why others may not.
type Explanation struct {
	Service        config.Key
	Addr           netip.Addr
	Protocol       Protocol // "" when no advertisement covers the address
	Reason         Reason   // Announced (somebody may), NoAdvertisement, NoReadyEndpoints or NoEligibleNode
	Message        string   // unless Announced: names the nodes left out and why; bounded in length
	Advertisements []string // names of the advertisements that cover it, sorted
	Able           []Announcer
	Owner          string // L2: the best of those that claim it, else who would be elected; "" when nobody
	Claimed        bool   // L2: the owner claims it, so that it stays there whoever else may come
	To             string // L2: the node that the owner hands it on to; "" when it does not
	Asked          string // L2: the node that the owner is asked to hand it to (config.Move), whether that may be given it or not; "" when none
	First          string // L2 with failbackDelay: the first choice, to which it goes back; "" when it stays where it is
	StandIn        string // L2: the node that answers in place of an owner that restarts; "" when none does
}

// Announcer is a node that may announce an address.
type Announcer struct {
	Node  string
	Peers []string // BGP: the BGPPeers it tells, by name, sorted
}

// LeftOut is a node that may not announce an address.
type LeftOut struct{ Node, Why string }

// Explainer explains decisions. It is made for one set of facts and belongs to one goroutine.
type Explainer struct {
	d    *Decider
	at   map[config.Key]*holding
	able map[*reach][]Announcer
}

// NewExplainer prepares explanations of the facts. It costs about as much as one Decide. Facts.Node may be empty.
func NewExplainer(f Facts) *Explainer {
	if f.Config == nil {
		f.Config = &config.Snapshot{}
	}
	x := &Explainer{d: NewDecider(), able: map[*reach][]Announcer{}}
	x.d.update(f)
	x.at = make(map[config.Key]*holding, x.d.holdings.size)
	for h := range x.d.holdings.all() {
		x.at[h.svc.Key] = h
	}
	return x
}

// Explain explains one Service. To explain many, make one Explainer.
func Explain(f Facts, key config.Key) []Explanation { return NewExplainer(f).Service(key) }

// Service explains each address of a Service, in order of address, then protocol. An unknown Service has no explanations. The slices in
// the result are shared and must not be changed.
func (x *Explainer) Service(key config.Key) []Explanation {
	h, ok := x.at[key]
	if !ok {
		return nil
	}
	var out []Explanation
	for _, u := range h.uses {
		e := Explanation{Service: key, Addr: u.addr}
		before := len(out)
		if set := x.d.bgpSet(h.svc, u.addr); len(set) > 0 {
			out = append(out, x.bgp(e, h.svc, x.d.tellingOf(set, u.addr)))
		}
		if u.reach != nil {
			out = append(out, x.l2(e, u))
		}
		if len(out) == before {
			e.Reason, e.Message = NoAdvertisement, noAdvertisementMessage
			out = append(out, e)
		}
	}
	return out
}

// use finds a Service's use of one of its addresses; nil when it has no such address.
func (h *holding) use(a netip.Addr) *use {
	if i := slices.IndexFunc(h.uses, func(u *use) bool { return u.addr == a }); i >= 0 {
		return h.uses[i]
	}
	return nil
}

func (x *Explainer) l2(e Explanation, u *use) Explanation {
	e.Protocol = L2
	e.Advertisements = x.d.l2List(u.reach.cover)
	switch {
	case !u.back.any:
		e.Reason, e.Message = NoReadyEndpoints, noEndpointsMessage
		return e
	case u.back.local:
		_, gets := u.electorate()
		e.Able = x.d.announcerNames(gets)
	default:
		e.Able = x.ableFor(u.reach)
	}
	v := x.d.places[e.Addr]
	if v.owner != nobody {
		x.owner(&e, v)
	}
	if len(e.Able) == 0 && v.owner == nobody {
		e.Reason, e.Message = NoEligibleNode, x.d.l2Message(u)
		return e
	}
	e.Reason = Announced
	return e
}

// owner says who has an address, and what is about to change.
func (x *Explainer) owner(e *Explanation, v *vip) {
	e.Owner, e.Claimed = x.d.members[v.owner].Node, v.resolved
	if v.heir != nobody && v.heir != v.owner {
		e.To = x.d.members[v.heir].Node
	}
	for _, u := range v.uses {
		if move := u.svc.Move; e.Asked == "" && u.stands() && move.From == e.Owner && x.d.facts.Now.Before(move.Until) {
			e.Asked = move.To
		}
	}
	if v.likes != nil && v.likes.goesBack {
		if first, _ := x.d.bestTwo(v); first != nobody {
			e.First = x.d.members[first].Node
		}
	}
	if v.resolved && x.d.members[v.owner].State == Restarting {
		if deputy := x.d.deputy(v); deputy != nobody {
			e.StandIn = x.d.members[deputy].Node
		}
	}
}

// Successor returns the node that would probably take an L2 address over if its owner went: of the most welcome the best ranked, unless
// that has clearly more to do than the next. "" when there is none.
func (x *Explainer) Successor(e Explanation) string {
	v := x.d.places[e.Addr]
	if v == nil || e.Protocol != L2 {
		return ""
	}
	rest := vip{hash: v.hash, likes: v.likes, gets: slices.DeleteFunc(slices.Clone(v.gets), func(m int32) bool { return m == v.owner })}
	next := x.d.choose(&rest, x.d.loads, slack(x.d.order.size, len(x.d.members)))
	if next == nobody {
		return ""
	}
	return x.d.members[next].Node
}

func (x *Explainer) bgp(e Explanation, svc *config.Service, t *telling) Explanation {
	e.Protocol = BGP
	for _, id := range t.adverts {
		e.Advertisements = append(e.Advertisements, x.d.bgp[id].Name)
	}
	if !bgpBacked(svc) {
		e.Reason, e.Message = NoReadyEndpoints, noEndpointsMessage
		return e
	}
	e.Able = x.d.announcers(t)
	if svc.TrafficPolicy == config.Local {
		e.Able = slices.DeleteFunc(slices.Clone(e.Able), func(a Announcer) bool { return !onNode(svc, a.Node) })
	}
	if len(e.Able) == 0 {
		e.Reason, e.Message = NoEligibleNode, x.d.bgpMessage(t, svc, e.Addr)
		return e
	}
	e.Reason = Announced
	return e
}

// LeftOut returns every node that may not announce what the explanation is about, sorted, with the reason in words.
func (x *Explainer) LeftOut(e Explanation) []LeftOut {
	h, ok := x.at[e.Service]
	if !ok || e.Protocol == "" {
		return nil
	}
	u := h.use(e.Addr)
	if u == nil {
		return nil
	}
	judge, names := x.judge(e, u)
	var out []LeftOut
	for _, node := range x.d.names {
		if o := judge(node); o != none {
			out = append(out, LeftOut{node, o.words(e.Addr, names)})
		}
	}
	return out
}

// judge returns the function that finds a node's obstacle, and the advertisements in words.
func (x *Explainer) judge(e Explanation, u *use) (func(node string) obstacle, string) {
	d := x.d
	if e.Protocol == BGP {
		t := d.tellingOf(d.bgpSet(u.svc, e.Addr), e.Addr)
		return func(node string) obstacle { return d.bgpObstacle(node, t, u.svc) }, d.bgpNames(t)
	}
	if u.reach == nil {
		return func(string) obstacle { return none }, ""
	}
	return func(node string) obstacle { return d.l2Obstacle(node, e.Addr, u.reach, u.back) }, d.l2Names(u.reach.cover)
}

// ableFor returns the announcers of a reach; they are the same for all Services of the policy Cluster.
func (x *Explainer) ableFor(r *reach) []Announcer {
	able, ok := x.able[r]
	if !ok {
		able = x.d.announcerNames(r.gets)
		x.able[r] = able
	}
	return able
}

func (b *board) announcerNames(members []int32) []Announcer {
	out := make([]Announcer, 0, len(members))
	for _, i := range members {
		out = append(out, Announcer{Node: b.members[i].Node})
	}
	return out
}

// l2Message says why no node may answer for an address.
func (b *board) l2Message(u *use) string {
	t := u.reach.kept
	if t == nil || u.back.local {
		t = &tally{}
		for _, node := range b.names {
			t.add(b.l2Obstacle(node, u.addr, u.reach, u.back), node)
		}
		if !u.back.local {
			u.reach.kept = t
		}
	}
	return t.message(u.addr, b.l2Names(u.reach.cover))
}

// bgpMessage says why no node may announce an address by BGP.
func (b *board) bgpMessage(t *telling, svc *config.Service, a netip.Addr) string {
	y := t.kept
	if y == nil || svc.TrafficPolicy == config.Local {
		y = &tally{}
		for _, node := range b.names {
			y.add(b.bgpObstacle(node, t, svc), node)
		}
		if svc.TrafficPolicy != config.Local {
			t.kept = y
		}
	}
	return y.message(a, b.bgpNames(t))
}

func (b *board) l2List(c *coverage) []string {
	names := make([]string, 0, len(c.adverts))
	for _, id := range c.adverts {
		names = append(names, b.l2[id].Name)
	}
	return names
}

func (b *board) l2Names(c *coverage) string {
	return "L2Advertisement " + strings.Join(b.l2List(c), ", ")
}

func (b *board) bgpNames(t *telling) string {
	names := make([]string, 0, len(t.adverts))
	for _, id := range t.adverts {
		names = append(names, b.bgp[id].Name)
	}
	return "BGPAdvertisement " + strings.Join(names, ", ")
}

// Gets reports whether a node may be given the L2 address, as far as all the Services that share it are concerned.
func (x *Explainer) Gets(e Explanation, node string) bool {
	v := x.d.places[e.Addr]
	m, live := x.d.index[node]
	return v != nil && e.Protocol == L2 && live && contains(v.gets, m)
}
