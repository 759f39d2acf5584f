package router

import (
	"math"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/apiutil"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// rank is what makes one path better than another up to the point where equal ones share the traffic: RFC 4271 section 9.1.2.2
// without the tie-breakers that follow the kind of session. Smaller is better. MEDs are compared between all paths, whoever sent them.
type rank struct {
	unpreferred uint32 // 2^32-1 minus LOCAL_PREF
	pathLength  int
	origin      uint8
	med         uint32
	internal    bool
}

const defaultLocalPref = 100

// equalBest picks the next hops of the best paths, sorted; stale and unreachable ones stay unless GoBGP itself left them out.
func equalBest(paths []*api.Path) []netip.Addr {
	var best rank
	var hops []netip.Addr
	for _, p := range paths {
		if p.IsNexthopInvalid || p.IsWithdraw {
			continue
		}
		r, hop, ok := judge(p)
		if !ok {
			continue
		}
		switch c := compareRank(r, best); {
		case len(hops) == 0 || c < 0:
			best, hops = r, []netip.Addr{hop}
		case c == 0:
			hops = append(hops, hop)
		}
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops)
}

// judge reads a path's rank and next hop; false if it has none.
func judge(p *api.Path) (rank, netip.Addr, bool) {
	attrs, err := apiutil.GetNativePathAttributes(p)
	if err != nil {
		return rank{}, netip.Addr{}, false
	}
	r := rank{unpreferred: math.MaxUint32 - defaultLocalPref, internal: !p.IsFromExternal}
	var hop netip.Addr
	for _, attr := range attrs {
		switch a := attr.(type) {
		case *bgp.PathAttributeLocalPref:
			r.unpreferred = math.MaxUint32 - a.Value
		case *bgp.PathAttributeAsPath:
			for _, seg := range a.Value {
				r.pathLength += seg.ASLen()
			}
		case *bgp.PathAttributeOrigin:
			r.origin = a.Value
		case *bgp.PathAttributeMultiExitDisc:
			r.med = a.Value
		case *bgp.PathAttributeNextHop:
			hop, _ = netip.AddrFromSlice(a.Value)
		case *bgp.PathAttributeMpReachNLRI:
			hop = mpNextHop(a)
		}
	}
	hop = hop.Unmap()
	return r, hop, hop.IsValid() && !hop.IsUnspecified()
}

// mpNextHop prefers the global address; a link-local one stands alone on unnumbered sessions only.
func mpNextHop(a *bgp.PathAttributeMpReachNLRI) netip.Addr {
	hop, _ := netip.AddrFromSlice(a.Nexthop)
	if !hop.IsValid() || hop.IsUnspecified() {
		hop, _ = netip.AddrFromSlice(a.LinkLocalNexthop)
	}
	return hop
}

func compareRank(a, b rank) int {
	for _, pair := range [][2]uint64{
		{uint64(a.unpreferred), uint64(b.unpreferred)},
		{uint64(a.pathLength), uint64(b.pathLength)},
		{uint64(a.origin), uint64(b.origin)},
		{uint64(a.med), uint64(b.med)},
		{number(a.internal), number(b.internal)},
	} {
		switch {
		case pair[0] < pair[1]:
			return -1
		case pair[0] > pair[1]:
			return 1
		}
	}
	return 0
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
