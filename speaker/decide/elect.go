package decide

import (
	"cmp"
	"net/netip"
	"slices"
)

// use is one Service's use of one address.
type use struct {
	addr    netip.Addr
	service int32  // position in services
	slot    int32  // position among all uses, by Service, then address
	reach   *reach // nil: no L2 advertisement covers it
	back    *backing
}

// stands reports whether anybody might announce the address for this Service.
func (u *use) stands() bool { return u.reach != nil && u.back.any && len(u.reach.may) > 0 }

// vip is an address that Services hold, and the outcome of its election.
type vip struct {
	addr      netip.Addr
	hash      uint64
	uses      []use
	may, gets []int32 // members that may keep it, and that may be given it, sorted

	owner    int32 // position in members, or nobody
	claim    Claim // of the owner, when claimed
	claims   int   // eligible members that claim it
	highest  uint64
	resolved bool // it was decided by a claim
}

// nobody stands for the absence of an owner.
const nobody int32 = -1

// gather lists the addresses of all Services, sorted, with who may answer for each. slots is the number of uses.
func (b *board) gather() (vips []vip, slots int) {
	var uses []use
	for i, svc := range b.services {
		back := b.l2Backing(svc)
		addrs := sorted(svc.Ingress, netip.Addr.Compare)
		for k, a := range addrs {
			if k > 0 && a == addrs[k-1] {
				continue
			}
			u := use{addr: a, service: int32(i), slot: int32(len(uses)), back: back}
			if set := b.l2Set(svc, a); len(set) > 0 {
				u.reach = b.reachOf(set, a)
			}
			uses = append(uses, u)
		}
	}
	slots = len(uses)
	slices.SortFunc(uses, func(x, y use) int { return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.slot, y.slot)) })
	vips = make([]vip, 0, len(uses))
	for len(uses) > 0 {
		n := 1
		for n < len(uses) && uses[n].addr == uses[0].addr {
			n++
		}
		v := vip{addr: uses[0].addr, hash: hashAddr(uses[0].addr), uses: uses[:n:n], owner: nobody}
		v.may, v.gets = b.electorate(v.uses)
		vips = append(vips, v)
		uses = uses[n:]
	}
	return vips, slots
}

// electorate returns who may keep and who may be given an address. Services that share it must be announced by one node: one that is
// eligible for all of them, or, where there is none, for any.
func (b *board) electorate(uses []use) (may, gets []int32) {
	var standing int
	var anyMay, anyGets []int32
	for i := range uses {
		if !uses[i].stands() {
			continue
		}
		m, g := uses[i].electorate()
		if standing++; standing == 1 {
			may, gets, anyMay, anyGets = m, g, m, g
			continue
		}
		may, gets = intersect(may, m), intersect(gets, g)
		anyMay, anyGets = unite(anyMay, m), unite(anyGets, g)
	}
	if len(gets) == 0 {
		return anyMay, anyGets
	}
	return may, gets
}

func (u *use) electorate() (may, gets []int32) {
	if !u.back.local {
		return u.reach.may, u.reach.gets
	}
	return intersect(u.reach.may, u.back.nodes), intersect(u.reach.gets, u.back.nodes)
}

// elect chooses the owner of every address. loads count, for each member, the addresses it has.
//
// An address that an eligible member claims stays there; of several claims the best wins. The others go, in order of address, to the
// better ranked of their two best candidates, or to the second when that one has clearly less to do. Because the claims of a member
// arrive together, and a claim that follows the plan only adds to the load of a member that has all its planned addresses, members that
// hear of each other's claims in different orders still come to the same plan.
func (b *board) elect(vips []vip) {
	loads := b.count(vips)
	slack := slack(len(vips), len(b.members))
	for i := range vips {
		v := &vips[i]
		if v.resolved {
			continue
		}
		v.owner = b.choose(v, loads, slack)
		if v.owner != nobody {
			loads[v.owner]++
		}
	}
}

// count resolves the claims and returns how many addresses each member has by them. Claims for addresses that no Service holds count
// too: their maker knows a Service that we do not know yet.
func (b *board) count(vips []vip) []int {
	at := make(map[netip.Addr]int32, len(vips))
	for i := range vips {
		at[vips[i].addr] = int32(i)
		vips[i].highest = b.facts.Claims[vips[i].addr]
	}
	loads := make([]int, len(b.members))
	for m := range b.members {
		for a, claim := range b.members[m].Claims { // the outcome does not depend on the order: the best claim is a maximum
			i, ok := at[a]
			if !ok {
				loads[m]++
				continue
			}
			b.consider(&vips[i], int32(m), claim)
		}
	}
	for i := range vips {
		if vips[i].resolved {
			loads[vips[i].owner]++
		}
	}
	return loads
}

// consider lets a member's claim stand for election.
func (b *board) consider(v *vip, m int32, claim Claim) {
	v.highest = max(v.highest, claim.Counter)
	if !contains(v.may, m) {
		return
	}
	v.claims++
	if !v.resolved || b.compareClaims(v, m, claim, v.owner, v.claim) > 0 {
		v.owner, v.claim, v.resolved = m, claim, true
	}
}

// compareClaims orders two members' claims for one address; positive when the first is better.
func (b *board) compareClaims(v *vip, m int32, mine Claim, o int32, other Claim) int {
	if mine.Majority != other.Majority {
		if mine.Majority {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(mine.Counter, other.Counter), b.compareRank(v.hash, m, o))
}

// compareRank orders two members by their rank for an address; positive when the first is better.
func (b *board) compareRank(addr uint64, m, o int32) int {
	return cmp.Or(
		cmp.Compare(score(b.members[m].hash, addr), score(b.members[o].hash, addr)),
		cmp.Compare(o, m), // equal hashes: by name
	)
}

// choose returns the member that is to have an address nobody claims.
func (b *board) choose(v *vip, loads []int, slack int) int32 {
	first, second := b.bestTwo(v)
	if first == nobody || second == nobody {
		return first
	}
	if loads[second]+slack < loads[first] {
		return second
	}
	return first
}

// bestTwo returns the two best ranked of the members that may be given the address.
func (b *board) bestTwo(v *vip) (first, second int32) {
	first, second = nobody, nobody
	var high, next uint64
	for _, m := range v.gets { // in order of name, so that of equal scores the earlier name stays ahead
		s := score(b.members[m].hash, v.hash)
		switch {
		case first == nobody || s > high:
			second, next = first, high
			first, high = m, s
		case second == nobody || s > next:
			second, next = m, s
		}
	}
	return first, second
}

// slackShare is the part of the mean load by which the best ranked candidate may exceed the second before that one is preferred.
// Facts differ for the milliseconds in which claims travel; without slack every small difference would make two members choose
// differently, and move an address that was just placed.
const slackShare = 24

// slack is the difference in load that is let pass, for so many addresses on so many members.
func slack(addresses, members int) int {
	if members == 0 {
		return 0
	}
	return addresses / members / slackShare
}

func intersect(a, b []int32) []int32 {
	if len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] {
		return a
	}
	var out []int32
	for len(a) > 0 && len(b) > 0 {
		switch cmp.Compare(a[0], b[0]) {
		case 0:
			out = append(out, a[0])
			a, b = a[1:], b[1:]
		case -1:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return out
}

func unite(a, b []int32) []int32 {
	if len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] {
		return a
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}
