package decide

import (
	"cmp"
	"slices"
)

// resolve finds the owner of an address as far as claims decide it.
//
// An address that an eligible member claims stays there; of several claims the best wins. A claim of a member that is to be relieved is no
// obstacle, but whom it names in it is given the address. Everything else is left to place.
func (d *Decider) resolve(v *vip) {
	v.owner, v.heir, v.left = nobody, nobody, nobody
	v.claims, v.resolved, v.named = 0, false, false
	v.highest = 0
	for i, c := range v.claimants {
		v.highest = max(v.highest, c.claim.Counter)
		switch {
		case contains(v.may, c.member):
			v.claims++
			if !v.resolved || d.compareClaims(v, c, v.claimants[v.best]) > 0 {
				v.best, v.owner, v.left, v.resolved = i, c.member, nobody, true
			}
		case v.resolved || !d.members[c.member].obstacle.leaving():
		case v.left == nobody || d.compareClaims(v, c, v.claimants[v.best]) > 0:
			v.best, v.left = i, c.member
		}
	}
	if v.resolved || v.left != nobody {
		d.bequeath(v)
	}
}

// bequeath takes in to whom the best claim for an address hands it on, if that member may be given it.
func (d *Decider) bequeath(v *vip) {
	heir, ok := d.index[v.claimants[v.best].claim.To]
	switch {
	case !ok || heir == v.owner || !contains(v.gets, heir):
	case v.resolved:
		v.heir = heir
	default:
		v.owner, v.heir, v.named = heir, heir, true
	}
}

// compareClaims orders two members' claims for one address; positive when the first is better.
func (b *board) compareClaims(v *vip, x, y claimant) int {
	if x.claim.Majority != y.claim.Majority {
		if x.claim.Majority {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(x.claim.Counter, y.claim.Counter), b.compareRank(v.hash, x.member, y.member))
}

// compareRank orders two members by their rank for an address; positive when the first is better.
func (b *board) compareRank(addr uint64, m, o int32) int {
	return cmp.Or(
		cmp.Compare(score(b.members[m].hash, addr), score(b.members[o].hash, addr)),
		cmp.Compare(o, m), // equal hashes: by name
	)
}

// place gives the addresses that claims do not decide, in order of address, to the better ranked of their two best candidates, or to the
// second when that one has clearly less to do. Because the claims of a member arrive together, and a claim that follows the plan only adds
// to the load of a member that has all its planned addresses, members that hear of each other's claims in different orders still come to
// the same plan. An address that returns to its first choice is given to that one from the start.
func (d *Decider) place() {
	loads := slices.Clone(d.loads)
	slack := slack(d.order.size, len(d.members))
	for _, v := range d.open {
		owner := d.choose(v, loads, slack)
		if owner != nobody {
			loads[owner]++
		}
		if owner != v.owner {
			v.owner = owner
			d.emit(v)
		}
	}
}

// choose returns the member that is to have an address nobody claims.
func (b *board) choose(v *vip, loads []int, slack int) int32 {
	first, second := b.bestTwo(v)
	if second == nobody || v.likes != nil && v.likes.goesBack {
		return first
	}
	if loads[second]+slack < loads[first] {
		return second
	}
	return first
}

// bestTwo returns the two best ranked of the most welcome members that may be given the address.
func (b *board) bestTwo(v *vip) (first, second int32) {
	if v.ranked {
		return v.first, v.second
	}
	first, second = nobody, nobody
	var high, next uint64
	var top int32
	for _, m := range v.gets { // in order of name, so that of equal scores the earlier name stays ahead
		if w := v.likes.weight(m); w > top {
			top, first, second = w, nobody, nobody
		} else if w < top {
			continue
		}
		s := score(b.members[m].hash, v.hash)
		switch {
		case first == nobody || s > high:
			second, next = first, high
			first, high = m, s
		case second == nobody || s > next:
			second, next = m, s
		}
	}
	v.first, v.second, v.ranked = first, second, true
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
