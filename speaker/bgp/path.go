package bgp

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
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
	Paths      [][]Path     // in pages, none empty or ever changed; sorted by prefix, each prefix once
	Draining   bool         // ask the peer to prefer other paths (RFC 8326)
	Addresses  []netip.Addr // the node's addresses, sorted
	Interfaces []config.Interface
}

// Equal reports whether two adverts ask for the same.
func (a Advert) Equal(b Advert) bool {
	return a.Draining == b.Draining && samePages(a.Paths, b.Paths) && slices.Equal(a.Addresses, b.Addresses) &&
		sameInterfaces(a.Interfaces, b.Interfaces)
}

func sameInterfaces(a, b []config.Interface) bool {
	return slices.EqualFunc(a, b, func(x, y config.Interface) bool {
		return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && slices.Equal(x.Subnets, y.Subnets)
	})
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

// Table is a set of routes, sorted by prefix, each prefix once, in pages, none of which is empty or ever changed.
type Table [][]Entry

// Count counts the routes of a table by family.
func (t Table) Count() Count {
	var c Count
	for _, page := range t {
		v4 := first6(page)
		c.IPv4 += v4
		c.IPv6 += len(page) - v4
	}
	return c
}

// first6 returns where the IPv6 routes of a page begin. They are behind all others.
func first6(page []Entry) int {
	if !page[len(page)-1].Prefix.Addr().Is6() {
		return len(page)
	}
	return slices.IndexFunc(page, func(e Entry) bool { return e.Prefix.Addr().Is6() })
}

// Without returns the table without the routes of a family.
func (t Table) Without(f config.Family) Table {
	var out Table
	for _, page := range t {
		rest := page[first6(page):]
		if f == config.IPv6 {
			rest = page[:first6(page)]
		}
		if len(rest) > 0 {
			out = append(out, rest)
		}
	}
	return out
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
func (a Advert) Resolve(l Local) (Table, Left) { return (&Resolver{}).Resolve(a, l) }

// Resolver resolves one advert after the other. It remembers what became of a page of paths, for as long as what it depends on stays.
// The zero value is ready for use.
type Resolver struct {
	way   way
	pages memory[Path, resolved]
}

// resolved is what became of a page of paths.
type resolved struct {
	entries []Entry
	left    Left
}

// Resolve returns what Advert.Resolve does.
func (r *Resolver) Resolve(a Advert, l Local) (Table, Left) {
	w := way{l.nextHop(config.IPv4, a.Addresses), l.nextHop(config.IPv6, a.Addresses), l.Families, l.Internal, a.Draining}
	if r.way != w {
		*r = Resolver{way: w}
	}
	out := make(Table, 0, len(a.Paths))
	var left Left
	for _, is := range r.pages.update(a.Paths, w.resolve) {
		left = left.and(is.left)
		if len(is.entries) > 0 {
			out = append(out, is.entries)
		}
	}
	return out, left
}

// and adds up what is left.
func (l Left) and(o Left) Left {
	return Left{Families{l.Stranded.IPv4 || o.Stranded.IPv4, l.Stranded.IPv6 || o.Stranded.IPv6}, l.Oversized + o.Oversized}
}

// way is everything that the form of a path on the wire depends on.
type way struct {
	v4, v6   netip.Addr // next hops; zero: there is none
	families Families
	internal bool
	draining bool
}

// resolve returns what becomes of a page of paths.
func (w way) resolve(page []Path) resolved {
	out := resolved{entries: make([]Entry, 0, len(page))}
	drained := map[config.Communities]config.Communities{}
	for i := range page {
		p := &page[i]
		family, hop := config.IPv4, w.v4
		if p.Prefix.Addr().Is6() {
			family, hop = config.IPv6, w.v6
		}
		switch {
		case !w.families.Has(family):
			continue
		case !hop.IsValid():
			out.left.Stranded.IPv4 = out.left.Stranded.IPv4 || family == config.IPv4
			out.left.Stranded.IPv6 = out.left.Stranded.IPv6 || family == config.IPv6
			continue
		case p.Communities.Len()*12 > maxCommunities && p.octets() > maxCommunities:
			out.left.Oversized++
			continue
		}
		e := Entry{p.Prefix, w.attributes(p, hop)}
		if w.draining {
			e.drain(drained, w.internal)
		}
		out.entries = append(out.entries, e)
	}
	return out
}

func (w way) attributes(p *Path, hop netip.Addr) Attributes {
	a := Attributes{NextHop: hop, MED: p.MED, Weight: p.Weight, Communities: p.Communities}
	if !w.internal {
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
