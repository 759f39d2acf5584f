package bgp

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// DefaultLocalPref is the LOCAL_PREF of paths told to internal peers.
const DefaultLocalPref = 100

// Path is a route as one peer should be told of it.
type Path struct {
	Prefix netip.Prefix
	Attributes
}

// Attributes of a path beyond those that follow from the session (ORIGIN, AS_PATH). Paths with equal attributes share UPDATE messages,
// so the type is comparable.
type Attributes struct {
	NextHop   netip.Addr // zero: the node itself, resolved when the session's own address is known
	LocalPref uint32     // told to internal peers only (RFC 4271 section 5.1.5)
}

// Advert is everything a peer should be told, and what is needed to resolve next hops.
type Advert struct {
	Paths      []Path       // sorted by prefix
	Addresses  []netip.Addr // the node's addresses, sorted
	Interfaces []config.Interface
}

// Equal reports whether two adverts ask for the same.
func (a Advert) Equal(b Advert) bool {
	return slices.Equal(a.Paths, b.Paths) && slices.Equal(a.Addresses, b.Addresses) && sameInterfaces(a.Interfaces, b.Interfaces)
}

func sameInterfaces(a, b []config.Interface) bool {
	return slices.EqualFunc(a, b, func(x, y config.Interface) bool {
		return x.Name == y.Name && x.Index == y.Index && x.MAC == y.MAC && x.Up == y.Up && slices.Equal(x.Subnets, y.Subnets)
	})
}

// pathsFor returns what the named peer should be told of the routes, sorted by prefix.
func pathsFor(peer string, routes []decide.Route) []Path {
	var out []Path
	for _, r := range routes {
		if _, ok := slices.BinarySearch(r.Peers, peer); ok {
			out = append(out, Path{Prefix: r.Prefix.Masked(), Attributes: Attributes{LocalPref: DefaultLocalPref}})
		}
	}
	slices.SortFunc(out, func(a, b Path) int { return comparePrefix(a.Prefix, b.Prefix) })
	return slices.CompactFunc(out, func(a, b Path) bool { return a.Prefix == b.Prefix })
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Local is what an established session knows of its own end.
type Local struct {
	Address         netip.Addr // our end of the connection
	NICs            []NIC      // the node's interfaces as the kernel has them now
	Families        Families   // negotiated
	ExtendedNextHop bool       // IPv4 routes may have an IPv6 next hop (RFC 8950)
	Internal        bool
}

// NIC is a network interface with its addresses.
type NIC struct {
	Name  string
	Addrs []netip.Addr
}

// Resolve returns the paths as they go on the wire over the given session: next hops filled in, attributes the peer must not see
// cleared, families that were not negotiated left out. The second result holds the families that have paths but no possible next hop;
// their paths are left out too.
func (a Advert) Resolve(l Local) (map[netip.Prefix]Attributes, Families) {
	out := make(map[netip.Prefix]Attributes, len(a.Paths))
	var stranded Families
	self := [2]netip.Addr{l.nextHop(config.IPv4, a.Addresses), l.nextHop(config.IPv6, a.Addresses)}
	for _, p := range a.Paths {
		family := config.FamilyOf(p.Prefix.Addr())
		if !l.Families.Has(family) {
			continue
		}
		attrs := p.Attributes
		if !attrs.NextHop.IsValid() {
			attrs.NextHop = self[0]
			if family == config.IPv6 {
				attrs.NextHop = self[1]
			}
		}
		if !attrs.NextHop.IsValid() {
			stranded.IPv4 = stranded.IPv4 || family == config.IPv4
			stranded.IPv6 = stranded.IPv6 || family == config.IPv6
			continue
		}
		if !l.Internal {
			attrs.LocalPref = 0
		}
		out[p.Prefix] = attrs
	}
	return out, stranded
}

// nextHop returns the address that routes of a family should point to so that they lead to this node: the session's own address where
// it can be used, else a global address of the same interface (one that Kubernetes knows, if there is a choice), else the node's first
// address of that family. The zero Addr means there is none.
func (l Local) nextHop(f config.Family, node []netip.Addr) netip.Addr {
	own := l.Address.Unmap().WithZone("")
	usable := config.FamilyOf(own) == f || f == config.IPv4 && l.ExtendedNextHop
	if usable && !own.IsLinkLocalUnicast() {
		return own
	}
	if a := l.sameInterface(own, f, node); a.IsValid() {
		return a
	}
	for _, a := range node {
		if config.FamilyOf(a) == f && isGlobal(a) {
			return a
		}
	}
	if usable { // a link-local session on a node that has nothing better
		return own
	}
	return netip.Addr{}
}

// sameInterface returns a global address of the family on the interface that holds own.
func (l Local) sameInterface(own netip.Addr, f config.Family, node []netip.Addr) netip.Addr {
	var best netip.Addr
	for _, nic := range l.NICs {
		if !slices.ContainsFunc(nic.Addrs, func(a netip.Addr) bool { return a.Unmap().WithZone("") == own }) {
			continue
		}
		for _, a := range nic.Addrs {
			a = a.Unmap()
			if config.FamilyOf(a) != f || !isGlobal(a) {
				continue
			}
			if slices.Contains(node, a) {
				return a
			}
			if !best.IsValid() {
				best = a
			}
		}
	}
	return best
}

// isGlobal reports whether an address of a node can be a next hop for others: unicast beyond the link. Loopback addresses count neither.
func isGlobal(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsLoopback()
}

// Group is a set of prefixes of one family with equal attributes.
type Group struct {
	Attributes
	Prefixes []netip.Prefix // sorted
}

var routeRules = reconcile.Rules[netip.Prefix, Attributes]{
	Compare: comparePrefix,
	Equal:   func(a, b Attributes) bool { return a == b },
	Order:   reconcile.AddFirst,
}

// Diff returns what the peer has to be told so that instead of sent it knows want: announcements first, grouped by family and
// attributes, in a stable order; then withdrawals, sorted.
func Diff(sent, want map[netip.Prefix]Attributes) (announce []Group, withdraw []netip.Prefix) {
	type key struct {
		family config.Family
		attrs  Attributes
	}
	index := map[key]int{}
	for _, step := range routeRules.Diff(sent, want) {
		if step.Kind == reconcile.Remove {
			withdraw = append(withdraw, step.Key)
			continue
		}
		k := key{config.FamilyOf(step.Key.Addr()), step.New}
		i, ok := index[k]
		if !ok {
			i = len(announce)
			index[k] = i
			announce = append(announce, Group{Attributes: step.New})
		}
		announce[i].Prefixes = append(announce[i].Prefixes, step.Key)
	}
	for _, g := range announce { // new routes came before changed ones
		slices.SortFunc(g.Prefixes, comparePrefix)
	}
	return announce, withdraw
}
