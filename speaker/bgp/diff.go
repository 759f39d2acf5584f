package bgp

import (
	"net/netip"

	"github.com/heraldlb/herald/config"
)

// Group is a set of prefixes of one family with equal attributes.
type Group struct {
	Attributes
	Prefixes []netip.Prefix // sorted
}

// Diff returns what the peer has to be told so that instead of sent it knows want: announcements, grouped by family and attributes in
// the order of their first prefixes; and withdrawals, sorted. Of a page that is in both nothing is looked at.
func Diff(sent, want Table) (announce []Group, withdraw []netip.Prefix) {
	groups := grouping{index: map[groupKey]int{}}
	was, is := reader{pages: sent}, reader{pages: want}
	for {
		was.skip(&is)
		old, next := was.entry(), is.entry()
		switch {
		case old == nil && next == nil:
			return groups.list, withdraw
		case next == nil || old != nil && comparePrefix(old.Prefix, next.Prefix) < 0:
			withdraw = append(withdraw, old.Prefix)
			was.step()
		case old == nil || old.Prefix != next.Prefix:
			groups.add(*next)
			is.step()
		default:
			if *old != *next {
				groups.add(*next)
			}
			was.step()
			is.step()
		}
	}
}

// reader reads a table from its beginning to its end.
type reader struct {
	pages Table
	at    int // in the first of them
}

// entry returns the entry to be read; nil at the end.
func (r *reader) entry() *Entry {
	if len(r.pages) == 0 {
		return nil
	}
	return &r.pages[0][r.at]
}

// step goes on to the next entry.
func (r *reader) step() {
	if r.at++; r.at == len(r.pages[0]) {
		r.pages, r.at = r.pages[1:], 0
	}
}

// skip passes over pages that both are about to read.
func (r *reader) skip(o *reader) {
	for r.at == 0 && o.at == 0 && len(r.pages) > 0 && len(o.pages) > 0 && idOf(r.pages[0]) == idOf(o.pages[0]) {
		r.pages, o.pages = r.pages[1:], o.pages[1:]
	}
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
