package parse

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// parseRange reads a CIDR, a range a-b (spaces around the dash allowed), or one address.
func parseRange(s string) (config.Range, error) {
	s = strings.TrimSpace(s)
	var r config.Range
	var err error
	if from, to, ok := strings.Cut(s, "-"); ok {
		r, err = parseEnds(from, to)
	} else if strings.Contains(s, "/") {
		r, err = parseCIDR(s)
	} else {
		r.From, err = parseAddr(s)
		r.To = r.From
	}
	if err != nil {
		return config.Range{}, err
	}
	for _, block := range unusable() {
		if block.Contains(r.From) || block.Contains(r.To) || r.Contains(block.Addr()) {
			return config.Range{}, fmt.Errorf("%q touches %s, which no Service can be reached at", s, block)
		}
	}
	return r, nil
}

// unusable lists blocks that can never be announced: unspecified and "this network", loopback, multicast, limited broadcast, and IPv6
// link-local addresses, which mean something else on each link.
func unusable() [8]netip.Prefix {
	return [8]netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{}), 8),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4),
		netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 32),
		netip.PrefixFrom(netip.IPv6Unspecified(), 128),
		netip.PrefixFrom(netip.IPv6Loopback(), 128),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80}), 10),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8),
	}
}

func parseEnds(from, to string) (config.Range, error) {
	a, err := parseAddr(strings.TrimSpace(from))
	if err != nil {
		return config.Range{}, err
	}
	b, err := parseAddr(strings.TrimSpace(to))
	if err != nil {
		return config.Range{}, err
	}
	if a.BitLen() != b.BitLen() {
		return config.Range{}, fmt.Errorf("range %s-%s mixes address families", a, b)
	}
	if b.Less(a) {
		return config.Range{}, fmt.Errorf("range %s-%s runs backwards; write %s-%s", a, b, b, a)
	}
	return config.Range{From: a, To: b}, nil
}

func parseCIDR(s string) (config.Range, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return config.Range{}, fmt.Errorf("%q is not a CIDR such as 192.0.2.0/24", s)
	}
	if p.Addr().Is4In6() {
		return config.Range{}, fmt.Errorf("%q is IPv4 written as IPv6; write it as IPv4", s)
	}
	if p != p.Masked() {
		return config.Range{}, fmt.Errorf("%q has host bits set; write %s for the network or %s for the one address", s, p.Masked(), p.Addr())
	}
	return config.Range{From: p.Addr(), To: lastOf(p)}, nil
}

// lastOf returns the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// parseAddr reads one address. IPv4-mapped IPv6 and zones are refused: they would make one address appear as two.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case s == "":
		return netip.Addr{}, errors.New("an address is missing")
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", s)
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("%q is IPv4 written as IPv6; write %s", s, a.Unmap())
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone; write the address without it", s)
	}
	return a, nil
}

// mergeRanges returns the union of ranges as sorted, disjoint, non-adjacent ranges.
func mergeRanges(in []config.Range) []config.Range {
	sorted := slices.SortedFunc(slices.Values(in), func(a, b config.Range) int { return a.From.Compare(b.From) })
	var out []config.Range
	for _, r := range sorted {
		if n := len(out) - 1; n >= 0 && touches(out[n], r) {
			if out[n].To.Less(r.To) {
				out[n].To = r.To
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// touches reports whether b, which does not begin before a, overlaps a or follows it directly.
func touches(a, b config.Range) bool {
	return a.From.BitLen() == b.From.BitLen() && (b.From.Compare(a.To) <= 0 || a.To.Next() == b.From)
}

// contains reports whether the address is in one of the sorted, disjoint ranges.
func contains(ranges []config.Range, a netip.Addr) bool {
	return (&config.Pool{Ranges: ranges}).Contains(a)
}

// overlap returns an address that stands in both sets of sorted, disjoint ranges.
func overlap(a, b []config.Range) (config.Range, bool) {
	for len(a) > 0 && len(b) > 0 {
		if r, ok := intersect(a[0], b[0]); ok {
			return r, true
		}
		if a[0].To.Less(b[0].To) {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return config.Range{}, false
}

// common returns what two sets of sorted, disjoint ranges have in common, sorted; each within one range of both.
func common(a, b []config.Range) []config.Range {
	var out []config.Range
	for len(a) > 0 && len(b) > 0 {
		if r, ok := intersect(a[0], b[0]); ok {
			out = append(out, r)
		}
		if a[0].To.Less(b[0].To) {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// intersect returns what two ranges have in common. netip orders IPv4 before IPv6, so ranges of two families have nothing.
func intersect(a, b config.Range) (config.Range, bool) {
	r := config.Range{From: a.From, To: a.To}
	if r.From.Less(b.From) {
		r.From = b.From
	}
	if b.To.Less(r.To) {
		r.To = b.To
	}
	return r, r.From.Compare(r.To) <= 0
}
