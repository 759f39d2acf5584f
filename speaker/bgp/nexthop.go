package bgp

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// Local is what an established session knows of its own end.
type Local struct {
	Address         netip.Addr // our end of the connection
	NICs            []NIC      // the node's interfaces as the kernel has them now
	Families        Families   // negotiated
	ExtendedNextHop bool       // IPv4 routes may have an IPv6 next hop (RFC 8950)
	Unnumbered      bool       // the two ends know each other by link-local addresses
	Internal        bool
}

// NIC is a network interface with its addresses.
type NIC struct {
	Name  string
	Addrs []netip.Addr
}

// nextHop returns the address that routes of a family should point to so that they lead to this node: the session's own address where
// it can be used, else a global address of the same interface (one that Kubernetes knows, if there is a choice), else the node's first
// address of that family. The zero Addr means there is none.
func (l Local) nextHop(f config.Family, node []netip.Addr) netip.Addr {
	own := l.Address.Unmap().WithZone("")
	usable := config.FamilyOf(own) == f || f == config.IPv4 && l.ExtendedNextHop
	if usable && (l.Unnumbered || !own.IsLinkLocalUnicast()) {
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
