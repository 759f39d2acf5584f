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
	pref := differ(older.Attributes.LocalPref, adv.Attributes.LocalPref)
	med := differ(older.Attributes.MED, adv.Attributes.MED)
	if !pref && !med {
		return nil
	}
	for _, family := range []config.Family{config.IPv4, config.IPv6} {
		length := lengthOf(adv, family)
		if lengthOf(older, family) != length || !w.meet(older, adv, family, length) {
			continue
		}
		for _, p := range w.peersByName() {
			if !slices.Contains(p.Families, family) || !older.Peers.Has(p.Name) || !adv.Peers.Has(p.Name) {
				continue
			}
			where := w.common(older.Nodes, adv.Nodes, p.Nodes)
			switch {
			case where == "":
			case pref && internal(p):
				return contradicts(older, adv, "spec.localPref", older.Attributes.LocalPref, adv.Attributes.LocalPref, p.Name, where)
			case med:
				return contradicts(older, adv, "spec.med", older.Attributes.MED, adv.Attributes.MED, p.Name, where)
			}
		}
	}
	return nil
}

func contradicts(older, adv *config.BGPAdvertisement, field string, was, is config.Number, peer, where string) *config.Problem {
	return &config.Problem{
		Field: field, Reason: ConflictingAttributes,
		Message: fmt.Sprintf("BGPAdvertisement %s says %d where the older BGPAdvertisement %s says %d, for routes to BGPPeer %s from %s; "+
			"let both say the same, or have different pools, Services, nodes, peers or prefix lengths", adv.Name, is.Value, older.Name, was.Value, peer, where),
	}
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
	whole := f == config.IPv4 && length == bits4 || f == config.IPv6 && length == bits6
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
