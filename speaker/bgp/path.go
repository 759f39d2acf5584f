package bgp

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// DefaultLocalPref is the LOCAL_PREF of paths told to internal peers when nothing else is asked for.
const DefaultLocalPref = 100

// Path is a route as one peer should be told of it.
type Path struct {
	Prefix netip.Prefix
	config.RouteAttributes
}

// Advert is everything a peer should be told, and what is needed to resolve next hops.
type Advert struct {
	Paths      []Path       // sorted by prefix, each prefix once
	Draining   bool         // ask the peer to prefer other paths (RFC 8326)
	Addresses  []netip.Addr // the node's addresses, sorted
	Interfaces []config.Interface
}

// Equal reports whether two adverts ask for the same.
func (a Advert) Equal(b Advert) bool {
	return a.Draining == b.Draining && slices.Equal(a.Paths, b.Paths) && slices.Equal(a.Addresses, b.Addresses) &&
		sameInterfaces(a.Interfaces, b.Interfaces)
}

func sameInterfaces(a, b []config.Interface) bool {
	return slices.EqualFunc(a, b, func(x, y config.Interface) bool {
		return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && slices.Equal(x.Subnets, y.Subnets)
	})
}

// pathsFor returns what the named peer should be told of the routes, sorted by prefix. What several routes say of one prefix adds up.
func pathsFor(peer string, routes []decide.Route) []Path {
	out := make([]Path, 0, len(routes))
	var told membership
	for i := range routes {
		if r := &routes[i]; told.has(peer, r.Peers) {
			out = append(out, Path{Prefix: r.Prefix.Masked(), RouteAttributes: r.Attributes})
		}
	}
	byPrefix := func(a, b Path) int { return comparePrefix(a.Prefix, b.Prefix) }
	if !slices.IsSortedFunc(out, byPrefix) {
		slices.SortStableFunc(out, byPrefix)
	}
	merged := out[:0]
	for _, p := range out {
		if n := len(merged); n > 0 && merged[n-1].Prefix == p.Prefix {
			merged[n-1].RouteAttributes = merged[n-1].Merge(p.RouteAttributes)
		} else {
			merged = append(merged, p)
		}
	}
	return merged
}

// alike reports whether two peers are told the same routes.
func alike(a, b string, routes []decide.Route) bool {
	var first, second membership
	for i := range routes {
		if peers := routes[i].Peers; first.has(a, peers) != second.has(b, peers) {
			return false
		}
	}
	return true
}

// membership remembers the answer for the list that was asked about last: routes that go to the same peers share theirs.
type membership struct {
	list []string
	in   bool
}

func (m *membership) has(name string, sorted []string) bool {
	if len(sorted) == 0 {
		return false
	}
	if len(m.list) != len(sorted) || &m.list[0] != &sorted[0] {
		_, in := slices.BinarySearch(sorted, name)
		*m = membership{sorted, in}
	}
	return m.in
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Attributes of a route as it goes on the wire, beyond those that follow from the session alone (ORIGIN, the AS in AS_PATH). Routes with
// equal attributes share UPDATE messages, so the type is comparable.
type Attributes struct {
	NextHop     netip.Addr
	LocalPref   uint32 // told to internal peers only (RFC 4271 section 5.1.5)
	MED         config.Number
	Prepend     uint8 // additional occurrences of our AS; external peers only
	Weight      uint32
	Communities config.Communities
}

// Entry is a route as it goes on the wire.
type Entry struct {
	Prefix netip.Prefix
	Attributes
}

// Table is a set of routes, sorted by prefix, each prefix once.
type Table []Entry

// Count counts the routes of a table by family.
func (t Table) Count() Count {
	var c Count
	for _, e := range t {
		*c.Of(config.FamilyOf(e.Prefix.Addr()))++
	}
	return c
}

// Without returns the table without the routes of a family.
func (t Table) Without(f config.Family) Table {
	return slices.DeleteFunc(slices.Clone(t), func(e Entry) bool { return config.FamilyOf(e.Prefix.Addr()) == f })
}

// Left is what could not be resolved.
type Left struct {
	Stranded  Families // there are paths of these families, but the node has no address that could be their next hop
	Oversized int      // paths with more communities than an UPDATE message has room for
}

// maxCommunities is how many octets of communities a route may carry. An UPDATE has 4096 (RFC 4271 section 4), of which everything else
// takes less than the rest.
const maxCommunities = 3800

// octets returns how many octets the communities of a path take at most, link bandwidth included.
func (p *Path) octets() int {
	n := 8
	for c := range p.Communities.All() {
		n += 4 * int(c.Kind)
	}
	return n
}

// Resolve returns the paths as they go on the wire over the given session: next hops filled in, attributes the peer must not see
// cleared, families that were not negotiated left out. What it cannot resolve is left out, too, and told of.
func (a Advert) Resolve(l Local) (Table, Left) {
	out := make(Table, 0, len(a.Paths))
	var left Left
	v4, v6 := l.nextHop(config.IPv4, a.Addresses), l.nextHop(config.IPv6, a.Addresses)
	drained := map[config.Communities]config.Communities{}
	for i := range a.Paths {
		p := &a.Paths[i]
		family, hop := config.IPv4, v4
		if p.Prefix.Addr().Is6() {
			family, hop = config.IPv6, v6
		}
		switch {
		case !l.Families.Has(family):
			continue
		case !hop.IsValid():
			left.Stranded.IPv4 = left.Stranded.IPv4 || family == config.IPv4
			left.Stranded.IPv6 = left.Stranded.IPv6 || family == config.IPv6
			continue
		case p.Communities.Len()*12 > maxCommunities && p.octets() > maxCommunities:
			left.Oversized++
			continue
		}
		e := Entry{p.Prefix, l.attributes(p, hop)}
		if a.Draining {
			e.drain(drained, l.Internal)
		}
		out = append(out, e)
	}
	return out, left
}

func (l *Local) attributes(p *Path, hop netip.Addr) Attributes {
	a := Attributes{NextHop: hop, MED: p.MED, Weight: p.Weight, Communities: p.Communities}
	if !l.Internal {
		a.Prepend = p.Prepend
		return a
	}
	a.LocalPref = DefaultLocalPref // our AS in the path would look like a loop inside the AS: no Prepend
	if p.LocalPref.Given {
		a.LocalPref = p.LocalPref.Value
	}
	return a
}

// drain asks for other paths to be preferred: GRACEFUL_SHUTDOWN for all, and LOCAL_PREF 0 inside the AS, where routers need not act on the
// community (RFC 8326 section 4). known holds results for sets of communities.
func (a *Attributes) drain(known map[config.Communities]config.Communities, internal bool) {
	with, ok := known[a.Communities]
	if !ok {
		with = a.Communities.Union(config.CommunitiesOf(config.Standard(config.GracefulShutdown)))
		known[a.Communities] = with
	}
	a.Communities = with
	if internal {
		a.LocalPref = 0
	}
}

// Group is a set of prefixes of one family with equal attributes.
type Group struct {
	Attributes
	Prefixes []netip.Prefix // sorted
}

// Diff returns what the peer has to be told so that instead of sent it knows want: announcements, grouped by family and attributes in
// the order of their first prefixes; and withdrawals, sorted.
func Diff(sent, want Table) (announce []Group, withdraw []netip.Prefix) {
	groups := grouping{index: map[groupKey]int{}}
	i := 0
	for _, w := range want {
		for i < len(sent) && comparePrefix(sent[i].Prefix, w.Prefix) < 0 {
			withdraw = append(withdraw, sent[i].Prefix)
			i++
		}
		if i < len(sent) && sent[i].Prefix == w.Prefix {
			i++
			if sent[i-1] == w {
				continue
			}
		}
		groups.add(w)
	}
	for _, s := range sent[i:] {
		withdraw = append(withdraw, s.Prefix)
	}
	return groups.list, withdraw
}

type groupKey struct {
	family config.Family
	attrs  Attributes
}

type grouping struct {
	list  []Group
	index map[groupKey]int
}

func (g *grouping) add(e Entry) {
	k := groupKey{config.FamilyOf(e.Prefix.Addr()), e.Attributes}
	i, ok := g.index[k]
	if !ok {
		i = len(g.list)
		g.index[k] = i
		g.list = append(g.list, Group{Attributes: e.Attributes})
	}
	g.list[i].Prefixes = append(g.list[i].Prefixes, e.Prefix)
}
