package decide

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// board is the facts laid out for deciding: everything sorted, indexed and grouped, so that the cost of a decision follows the number of
// different cases rather than addresses times nodes. It lives for one decision.
type board struct {
	facts    Facts
	members  []member
	index    map[string]int32 // node name -> position in members
	nodes    map[string]*config.Node
	names    []string // every node known of, member or not, sorted
	services []*config.Service
	pools    poolIndex
	l2       []*config.L2Advertisement
	bgp      []*config.BGPAdvertisement
	l2Pools  [][]int32 // pool -> L2 advertisements that cover it
	bgpPools [][]int32
	subnets  subnetTable

	covers   map[string]*coverage
	reaches  map[string]*reach
	tellings map[string]*telling
	key      []byte  // scratch for map keys
	ids      []int32 // scratch for advertisement sets
	poolIDs  []int32 // scratch for pools of an address
}

// member is a live speaker with what does not depend on an address.
type member struct {
	*Member
	hash     uint64
	obstacle obstacle // of the node as a whole
}

// newBoard sorts and indexes the facts, which are not changed.
func newBoard(f Facts) *board {
	b := &board{
		facts:    f,
		services: sorted(f.Config.Services, func(a, b *config.Service) int { return a.Key.Compare(b.Key) }),
		pools:    newPoolIndex(f.Config.Pools),
		l2: sorted(f.Config.L2Advertisements,
			func(a, b *config.L2Advertisement) int { return strings.Compare(a.Name, b.Name) }),
		bgp: sorted(f.Config.BGPAdvertisements,
			func(a, b *config.BGPAdvertisement) int { return strings.Compare(a.Name, b.Name) }),
		nodes:    make(map[string]*config.Node, len(f.Config.Nodes)),
		covers:   map[string]*coverage{},
		reaches:  map[string]*reach{},
		tellings: map[string]*telling{},
	}
	for _, n := range f.Config.Nodes {
		b.nodes[n.Name] = n
	}
	b.seat(f.Members)
	b.l2Pools = make([][]int32, len(f.Config.Pools))
	b.bgpPools = make([][]int32, len(f.Config.Pools))
	for p, pool := range f.Config.Pools {
		for i, adv := range b.l2 {
			if adv.Pools.Has(pool.Name) {
				b.l2Pools[p] = append(b.l2Pools[p], int32(i))
			}
		}
		for i, adv := range b.bgp {
			if adv.Pools.Has(pool.Name) {
				b.bgpPools[p] = append(b.bgpPools[p], int32(i))
			}
		}
	}
	return b
}

// seat indexes the members and lists all nodes.
func (b *board) seat(members []Member) {
	seats := make([]*Member, len(members))
	for i := range members {
		seats[i] = &members[i]
	}
	seats = sorted(seats, func(a, b *Member) int { return strings.Compare(a.Node, b.Node) })
	seats = slices.CompactFunc(seats, func(a, b *Member) bool { return a.Node == b.Node })
	b.members = make([]member, len(seats))
	b.index = make(map[string]int32, len(seats))
	for i, m := range seats {
		b.members[i] = member{Member: m, hash: hashNode(m.Node), obstacle: b.nodeObstacle(m.Node, m.State)}
		b.index[m.Node] = int32(i)
		b.names = append(b.names, m.Node)
		for k := range m.Interfaces {
			b.subnets.add(m.Interfaces[k].Subnets)
		}
	}
	for name := range b.nodes {
		b.names = append(b.names, name)
	}
	slices.Sort(b.names)
	b.names = slices.Compact(b.names)
}

// l2Set returns the L2 advertisements that cover an address of a Service, as a sorted set that is valid until the next call.
func (b *board) l2Set(svc *config.Service, a netip.Addr) []int32 {
	b.ids = b.ids[:0]
	b.poolIDs = b.pools.find(a, b.poolIDs[:0])
	for _, p := range b.poolIDs {
		for _, id := range b.l2Pools[p] {
			if b.l2[id].Services.Has(svc.Key) {
				b.ids = append(b.ids, id)
			}
		}
	}
	return b.compactIDs()
}

// bgpSet is l2Set for BGP advertisements.
func (b *board) bgpSet(svc *config.Service, a netip.Addr) []int32 {
	b.ids = b.ids[:0]
	b.poolIDs = b.pools.find(a, b.poolIDs[:0])
	for _, p := range b.poolIDs {
		for _, id := range b.bgpPools[p] {
			if b.bgp[id].Services.Has(svc.Key) {
				b.ids = append(b.ids, id)
			}
		}
	}
	return b.compactIDs()
}

func (b *board) compactIDs() []int32 {
	if len(b.poolIDs) > 1 {
		slices.Sort(b.ids)
		b.ids = slices.Compact(b.ids)
	}
	return b.ids
}

// coverage is a set of L2 advertisements and what it lets each member use.
type coverage struct {
	id       int32
	adverts  []int32
	selected []bool    // by member: some advertisement selects the node
	allowed  [][]int32 // by member: its interfaces that are wanted, by position
	usable   [][]int32 // by member: those of them that are up
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

// answering returns the names of the member's interfaces that answer for an address within a reach, sorted.
func (b *board) answering(r *reach, i int32, a netip.Addr) []string {
	m := &b.members[i]
	positions := r.cover.usable[i]
	if r.direct {
		positions = carrying(m, positions, a)
	}
	names := make([]string, 0, len(positions))
	for _, k := range positions {
		names = append(names, m.Interfaces[k].Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// sorted returns s itself when it is in order, else a sorted copy.
func sorted[T any](s []T, compare func(a, b T) int) []T {
	if slices.IsSortedFunc(s, compare) {
		return s
	}
	s = slices.Clone(s)
	slices.SortStableFunc(s, compare)
	return s
}

// appendIDs appends numbers in a form that is unambiguous within a map key.
func appendIDs(key []byte, ids []int32) []byte {
	for _, id := range ids {
		key = append(key, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	}
	return key
}

// poolIndex finds the pools of an address. Pools that overlap are refused before they come here; should two do so all the same, both count.
type poolIndex struct {
	spans []span       // sorted by first address
	reach []netip.Addr // by span: the highest last address of the spans up to it
}

type span struct {
	config.Range
	pool int32
}

func newPoolIndex(pools []*config.Pool) poolIndex {
	var x poolIndex
	for i, p := range pools {
		for _, r := range p.Ranges {
			x.spans = append(x.spans, span{r, int32(i)})
		}
	}
	slices.SortFunc(x.spans, func(a, b span) int { return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.pool, b.pool)) })
	for i, s := range x.spans {
		top := s.To
		if i > 0 && x.reach[i-1].Compare(top) > 0 {
			top = x.reach[i-1]
		}
		x.reach = append(x.reach, top)
	}
	return x
}

// find appends the pools that contain the address.
func (x poolIndex) find(a netip.Addr, to []int32) []int32 {
	i, _ := slices.BinarySearchFunc(x.spans, a, func(s span, a netip.Addr) int {
		if s.From.Compare(a) <= 0 {
			return -1
		}
		return 1
	})
	for i--; i >= 0 && x.reach[i].Compare(a) >= 0; i-- {
		if x.spans[i].Contains(a) && !slices.Contains(to, x.spans[i].pool) {
			to = append(to, x.spans[i].pool)
		}
	}
	return to
}

// subnetTable numbers the subnets of all members, to tell which addresses are alike.
type subnetTable struct {
	ids     map[netip.Prefix]int32
	v4, v6  []int // prefix lengths in use, in order of appearance
	scratch []int32
}

func (t *subnetTable) add(subnets []netip.Prefix) {
	if t.ids == nil {
		t.ids = map[netip.Prefix]int32{}
	}
	for _, p := range subnets {
		p = p.Masked()
		if _, ok := t.ids[p]; ok || !p.IsValid() {
			continue
		}
		t.ids[p] = int32(len(t.ids))
		lengths := &t.v6
		if p.Addr().Is4() {
			lengths = &t.v4
		}
		if !slices.Contains(*lengths, p.Bits()) {
			*lengths = append(*lengths, p.Bits())
		}
	}
}

// appendKey appends the numbers of the subnets that contain the address.
func (t *subnetTable) appendKey(key []byte, a netip.Addr) []byte {
	lengths := t.v6
	if a.Is4() {
		lengths = t.v4
	}
	t.scratch = t.scratch[:0]
	for _, n := range lengths {
		p, err := a.Prefix(n)
		if err != nil {
			continue // the length fits the family by construction
		}
		if id, ok := t.ids[p]; ok {
			t.scratch = append(t.scratch, id)
		}
	}
	return appendIDs(key, t.scratch)
}
