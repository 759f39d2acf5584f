package decide

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// board is the ground that is common to all addresses, laid out for deciding: everything sorted, indexed and grouped, so that the cost of
// a decision follows the number of different cases rather than addresses times nodes. It serves as long as the ground stays (see same);
// Services, claims and clocks may change meanwhile.
type board struct {
	facts    Facts
	members  []member
	index    map[string]int32 // node name -> position in members
	self     int32            // the node decided for among the members, or nobody
	nodes    map[string]*config.Node
	names    []string // every node known of, member or not, sorted
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
		facts: f,
		self:  nobody,
		pools: newPoolIndex(f.Config.Pools),
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
	b.seat(seats(f.Members))
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

// seats returns the members sorted by node, each node once.
func seats(members []Member) []*Member {
	out := make([]*Member, len(members))
	for i := range members {
		out[i] = &members[i]
	}
	out = sorted(out, func(a, b *Member) int { return strings.Compare(a.Node, b.Node) })
	return slices.CompactFunc(out, func(a, b *Member) bool { return a.Node == b.Node })
}

// seat indexes the members and lists all nodes.
func (b *board) seat(members []*Member) {
	b.members = make([]member, len(members))
	b.index = make(map[string]int32, len(members))
	for i, m := range members {
		b.members[i] = member{Member: m, hash: hashNode(m.Node), obstacle: b.nodeObstacle(m.Node, m.State)}
		b.index[m.Node] = int32(i)
		b.names = append(b.names, m.Node)
		for k := range m.Interfaces {
			b.subnets.add(m.Interfaces[k].Subnets)
		}
	}
	if i, ok := b.index[b.facts.Node]; ok {
		b.self = i
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
