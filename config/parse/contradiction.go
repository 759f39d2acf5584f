package parse

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// contradiction says where two advertisements in force would give one prefix different numbers towards one peer from one node: a route
// has one LOCAL_PREF and one MED. Different pools, Services, nodes, peers or prefix lengths keep them apart.
func (w *world) contradiction(older, adv *config.BGPAdvertisement) *config.Problem {
	for _, family := range []config.Family{config.IPv4, config.IPv6} {
		length := lengthOf(adv, family)
		if lengthOf(older, family) != length || !w.meet(older, adv, family, length) {
			continue
		}
		if c, ok := w.clash(older, adv, family); ok {
			return &config.Problem{
				Field: c.field, Reason: ConflictingAttributes,
				Message: c.String() + "; let both say the same, or have different pools, Services, nodes, peers or prefix lengths",
			}
		}
	}
	return nil
}

// sharing warns where two advertisements for different Services give one prefix different numbers all the same, because two of these
// Services share an address. Both stay in force, as whoever may make Services could otherwise take the routes of all others away.
func (w *world) sharing(older, adv *config.BGPAdvertisement) *config.Problem {
	if !differ(older.Attributes.LocalPref, adv.Attributes.LocalPref) && !differ(older.Attributes.MED, adv.Attributes.MED) || older.Services.Overlaps(adv.Services) {
		return nil // where they overlap, contradiction has judged
	}
	for _, s := range w.sharedAddresses() {
		family := config.FamilyOf(s.addr)
		if !wholeAddress(family, lengthOf(adv, family)) || !wholeAddress(family, lengthOf(older, family)) || !w.hasAddress(older, s.addr) || !w.hasAddress(adv, s.addr) {
			continue
		}
		of, ok := selected(older, s.services)
		other, okToo := selected(adv, s.services)
		if !ok || !okToo {
			continue
		}
		if c, ok := w.clash(older, adv, family); ok {
			return &config.Problem{
				Field: c.field, Reason: ConflictingAttributes, Warning: true,
				Message: fmt.Sprintf("%s, and Services %s and %s share %s: its route has the lower number; both are in force all the same. "+
					"Let both say the same, or select both Services with one", c, of, other, s.addr),
			}
		}
	}
	return nil
}

// clash is a contradiction without regard to which prefixes the two are for.
type clash struct {
	field       string
	older, adv  string // names
	was, is     uint32
	peer, where string
}

func (c clash) String() string {
	return fmt.Sprintf("BGPAdvertisement %s says %d where the older BGPAdvertisement %s says %d, for routes to BGPPeer %s from %s",
		c.adv, c.is, c.older, c.was, c.peer, c.where)
}

// clash returns the first peer, by name, that a node would tell two numbers of one prefix of a family.
func (w *world) clash(older, adv *config.BGPAdvertisement, family config.Family) (clash, bool) {
	pref := differ(older.Attributes.LocalPref, adv.Attributes.LocalPref)
	med := differ(older.Attributes.MED, adv.Attributes.MED)
	if !pref && !med {
		return clash{}, false
	}
	for _, p := range w.peersByName() {
		if !slices.Contains(p.Families, family) || !older.Peers.Has(p.Name) || !adv.Peers.Has(p.Name) {
			continue
		}
		c := clash{older: older.Name, adv: adv.Name, peer: p.Name, where: w.common(older.Nodes, adv.Nodes, p.Nodes)}
		switch {
		case c.where == "":
		case pref && internal(p):
			c.field, c.was, c.is = "spec.localPref", older.Attributes.LocalPref.Value, adv.Attributes.LocalPref.Value
			return c, true
		case med:
			c.field, c.was, c.is = "spec.med", older.Attributes.MED.Value, adv.Attributes.MED.Value
			return c, true
		}
	}
	return clash{}, false
}

// shared is an address that several Services have.
type shared struct {
	addr     netip.Addr
	services []config.Key // sorted
}

// sharedAddresses returns what Services share, sorted. It is worked out once, when it is asked for.
func (w *world) sharedAddresses() []shared {
	if w.shares != nil {
		return w.shares
	}
	holders := make(map[netip.Addr][]config.Key)
	for _, s := range w.services.values {
		for _, a := range s.Ingress {
			holders[a] = append(holders[a], s.Key)
		}
	}
	w.shares = []shared{}
	for a, keys := range holders {
		if len(keys) > 1 {
			w.shares = append(w.shares, shared{a, keys})
		}
	}
	slices.SortFunc(w.shares, func(a, b shared) int { return a.addr.Compare(b.addr) })
	return w.shares
}

// selected returns the first of the Services that an advertisement is for.
func selected(adv *config.BGPAdvertisement, keys []config.Key) (config.Key, bool) {
	i := slices.IndexFunc(keys, adv.Services.Has)
	if i < 0 {
		return config.Key{}, false
	}
	return keys[i], true
}

// hasAddress reports whether an address is in a pool of an advertisement.
func (w *world) hasAddress(adv *config.BGPAdvertisement, a netip.Addr) bool {
	for i := range w.pooled {
		p := &w.pooled[i]
		if adv.Pools.Has(p.name) && slices.ContainsFunc(p.ranges, func(r config.Range) bool { return r.Contains(a) }) {
			return true
		}
	}
	return false
}

func differ(a, b config.Number) bool { return a.Given && b.Given && a != b }

func lengthOf(a *config.BGPAdvertisement, f config.Family) int {
	if f == config.IPv4 {
		return a.AggregationLength
	}
	return a.AggregationV6
}

// meet reports whether two advertisements may announce one prefix of that length. Only aggregates may come from different Services, or
// different pools.
func (w *world) meet(a, b *config.BGPAdvertisement, f config.Family, length int) bool {
	whole := wholeAddress(f, length)
	if whole && !a.Services.Overlaps(b.Services) {
		return false
	}
	for i := range w.pooled {
		if !a.Pools.Has(w.pooled[i].name) {
			continue
		}
		for j := range w.pooled {
			if b.Pools.Has(w.pooled[j].name) && (i == j || !whole) && adjoin(w.pooled[i].ranges, w.pooled[j].ranges, f, length) {
				return true
			}
		}
	}
	return false
}

// wholeAddress reports whether prefixes of this length are single addresses.
func wholeAddress(f config.Family, length int) bool {
	return f == config.IPv4 && length == bits4 || f == config.IPv6 && length == bits6
}

// adjoin reports whether some prefix of the length has addresses from both lists.
func adjoin(a, b []config.Range, f config.Family, length int) bool {
	mask := func(x netip.Addr) netip.Addr { return netip.PrefixFrom(x, length).Masked().Addr() }
	for _, x := range a {
		for _, y := range b {
			if config.FamilyOf(x.From) == f && config.FamilyOf(y.From) == f &&
				mask(x.From).Compare(mask(y.To)) <= 0 && mask(y.From).Compare(mask(x.To)) <= 0 {
				return true
			}
		}
	}
	return false
}

// common names a node that all selections have, for people; "" when there is none.
func (w *world) common(all ...config.Selection[string]) string {
	if !slices.ContainsFunc(all, func(s config.Selection[string]) bool { return !s.IsAll() }) {
		return "all nodes"
	}
	for _, n := range w.nodes {
		if !slices.ContainsFunc(all, func(s config.Selection[string]) bool { return !s.Has(n.Name) }) {
			return "node " + n.Name
		}
	}
	return ""
}

// internal reports whether the session with a peer is iBGP.
func internal(p *config.Peer) bool {
	if p.LocalASN != 0 {
		return p.PeerASN == p.LocalASN
	}
	return p.PeerASN == p.MyASN
}
