package decide

import (
	"net/netip"
	"path"
	"slices"

	"github.com/heraldlb/herald/config"
)

// coverage is a set of L2 advertisements and what it lets each member use.
type coverage struct {
	id       int32
	adverts  []int32
	selected []bool    // by member: some advertisement selects the node
	allowed  [][]int32 // by member: its interfaces that are wanted, by position
	usable   [][]int32 // by member: those of them that are up
	likes    *likes
}

// cover returns the coverage of a set of L2 advertisements.
func (b *board) cover(set []int32) *coverage {
	b.key = appendIDs(b.key[:0], set)
	if c, ok := b.covers[string(b.key)]; ok {
		return c
	}
	c := &coverage{
		id:       int32(len(b.covers)),
		adverts:  slices.Clone(set),
		selected: make([]bool, len(b.members)),
		allowed:  make([][]int32, len(b.members)),
		usable:   make([][]int32, len(b.members)),
	}
	b.covers[string(b.key)] = c
	for i := range b.members {
		m := &b.members[i]
		for k := range m.Interfaces {
			if !b.wanted(c.adverts, m, m.Interfaces[k].Name) {
				continue
			}
			c.allowed[i] = append(c.allowed[i], int32(k))
			if m.Interfaces[k].Up {
				c.usable[i] = append(c.usable[i], int32(k))
			}
		}
		c.selected[i] = slices.ContainsFunc(c.adverts, func(id int32) bool { return b.selects(b.l2[id].Nodes, m) })
	}
	c.likes = b.likesOf(c.adverts)
	return c
}

// selects reports whether a node selection takes a member. Of a member whose Node object is not known here the labels are not known
// either; it gets the benefit of the doubt for what it claims.
func (b *board) selects(nodes config.Selection[string], m *member) bool {
	return nodes.Has(m.Node) || m.obstacle == unknownNode
}

// wanted reports whether one of the advertisements selects the member and the interface.
func (b *board) wanted(adverts []int32, m *member, ifi string) bool {
	for _, id := range adverts {
		if b.selects(b.l2[id].Nodes, m) && matchInterface(b.l2[id].Interfaces, ifi) {
			return true
		}
	}
	return false
}

// matchInterface reports whether a name matches one of the globs; no globs match every name.
func matchInterface(globs []string, name string) bool {
	if len(globs) == 0 {
		return true
	}
	return slices.ContainsFunc(globs, func(g string) bool {
		if g == name {
			return true
		}
		ok, err := path.Match(g, name) // a malformed glob was refused when it was parsed
		return err == nil && ok
	})
}

// reach says who may answer for the addresses of one kind: same advertisements, same subnets. Endpoints are not considered.
type reach struct {
	cover  *coverage
	direct bool    // some node carries the subnet, were its interface up or not, so that only such nodes may answer
	may    []int32 // members that may go on with an address they claim, sorted
	gets   []int32 // members that may be given an address, sorted; a subset of may
	kept   *tally  // who is left out for Services of the policy Cluster; filled when asked for
}

// reachOf returns the reach of an address under a set of L2 advertisements.
func (b *board) reachOf(set []int32, a netip.Addr) *reach {
	c := b.cover(set)
	b.key = appendIDs(b.key[:0], []int32{c.id})
	b.key = b.subnets.appendKey(b.key, a)
	if r, ok := b.reaches[string(b.key)]; ok {
		return r
	}
	r := &reach{cover: c}
	b.reaches[string(b.key)] = r
	carries := make([]bool, len(b.members))
	for i := range b.members {
		carries[i] = len(carrying(&b.members[i], c.usable[i], a)) > 0
		// A node whose cable is out must not take the address to another segment: down counts as carrying here.
		r.direct = r.direct || carries[i] || len(carrying(&b.members[i], c.allowed[i], a)) > 0
	}
	for i := range b.members {
		if len(c.usable[i]) == 0 || (r.direct && !carries[i]) {
			continue
		}
		switch o := b.members[i].obstacle; {
		case o == none:
			r.gets = append(r.gets, int32(i))
			r.may = append(r.may, int32(i))
		case o.soft():
			r.may = append(r.may, int32(i))
		}
	}
	return r
}

// carrying returns those of the member's interfaces (by position) that have the address in one of their subnets.
func carrying(m *member, positions []int32, a netip.Addr) []int32 {
	var out []int32
	for _, k := range positions {
		if slices.ContainsFunc(m.Interfaces[k].Subnets, func(p netip.Prefix) bool { return p.Contains(a) }) {
			out = append(out, k)
		}
	}
	return out
}

// positions returns the member's interfaces (by position) that answer for an address within a reach.
func (b *board) positions(r *reach, i int32, a netip.Addr) []int32 {
	if r.direct {
		return carrying(&b.members[i], r.cover.usable[i], a)
	}
	return r.cover.usable[i]
}

// answering returns the names of those interfaces, in no order.
func (b *board) answering(r *reach, i int32, a netip.Addr) []string {
	positions := b.positions(r, i, a)
	names := make([]string, 0, len(positions))
	for _, k := range positions {
		names = append(names, b.members[i].Interfaces[k].Name)
	}
	return names
}
