package link

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
)

// usable picks the interfaces to answer on from everything there is, sorted by name.
func usable(links []netlink.Link, addrs []netlink.Addr, exclude []*regexp.Regexp) []config.Interface {
	kinds := make(map[int]string, len(links))
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	subnets := subnetsByIndex(addrs)
	out := []config.Interface{}
	for _, l := range links {
		a := l.Attrs()
		if !answers(a) || isPort(a, kinds) || excluded(a.Name, exclude) {
			continue
		}
		out = append(out, config.Interface{
			Name:    a.Name,
			Index:   a.Index,
			MAC:     a.HardwareAddr.String(),
			Up:      isUp(a.RawFlags),
			Subnets: subnets[a.Index],
		})
	}
	slices.SortFunc(out, func(a, b config.Interface) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// answers reports whether the link is an Ethernet one on which stations find each other by ARP and neighbour discovery.
func answers(a *netlink.LinkAttrs) bool {
	const never = unix.IFF_LOOPBACK | unix.IFF_POINTOPOINT | unix.IFF_NOARP
	return a.EncapType == "ether" && len(a.HardwareAddr) == 6 && a.RawFlags&never == 0
}

// isPort reports whether the link is part of a bridge, bond or team, which answers in its place. A link in a VRF, which is a routing
// domain and no switch, is no port. A master in another network namespace has an index that is not listed; what has one is a port.
func isPort(a *netlink.LinkAttrs, kinds map[int]string) bool {
	return a.MasterIndex != 0 && kinds[a.MasterIndex] != "vrf"
}

// isUp reports whether frames can pass: administratively up, carrier there, operational state up or unknown (drivers that tell none).
func isUp(flags uint32) bool {
	const all = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP
	return flags&all == all
}

func excluded(name string, exclude []*regexp.Regexp) bool {
	return slices.ContainsFunc(exclude, func(r *regexp.Regexp) bool { return r.MatchString(name) })
}

// subnetsByIndex returns the subnets each link is in, by global addresses: sorted, each once. An address that is a subnet to itself
// (/32, /128) says nothing of its neighbours.
func subnetsByIndex(addrs []netlink.Addr) map[int][]netip.Prefix {
	out := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := subnet(a); ok {
			out[a.LinkIndex] = append(out[a.LinkIndex], p)
		}
	}
	for i, s := range out {
		slices.SortFunc(s, netip.Prefix.Compare)
		out[i] = slices.Compact(s)
	}
	return out
}

func subnet(a netlink.Addr) (netip.Prefix, bool) {
	if a.IPNet == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(a.IP)
	addr = addr.Unmap()
	bits, size := a.Mask.Size()
	if !ok || addr.BitLen() != size || bits == size || addr.IsLinkLocalUnicast() || addr.IsLoopback() || addr.IsMulticast() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, bits).Masked(), true
}
