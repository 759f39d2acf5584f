package decide

import (
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
)

// holding is a Service with what it holds.
type holding struct {
	svc  *config.Service
	back *backing
	uses []*use // by address
}

// use is one Service's use of one address.
type use struct {
	*holding // the Service
	addr     netip.Addr
	reach    *reach     // nil: no L2 advertisement covers it
	verdicts [2]Verdict // BGP, L2; of no Protocol when no advertisement asks for it
	routes   []Route    // BGP: what this node tells
}

// stands reports whether anybody might announce the address for this Service.
func (u *use) stands() bool { return u.reach != nil && u.back.any && len(u.reach.may) > 0 }

// claimant is a member that claims an address, whether it may have it or not.
type claimant struct {
	member int32
	claim  Claim
}

// vip is an address that Services hold, or members claim (they may know a Service that is not known here), and the outcome of its election.
type vip struct {
	addr      netip.Addr
	hash      uint64
	uses      []*use     // by Service
	claimants []claimant // by member

	may, gets     []int32 // members that may keep it, and that may be given it, sorted
	likes         *likes  // nil: nothing is wished
	first, second int32   // the two best of gets, once ranked
	ranked        bool
	asked         bool // some Service asks for it to move

	owner    int32  // position in members, or nobody
	heir     int32  // the member to whom the best claim hands it on, or nobody
	left     int32  // the member to be relieved whose claim is the best of such, when nobody else claims it, or nobody
	best     int    // position of that claim, or of the owner's
	claims   int    // eligible members that claim it
	highest  uint64 // counter among the claims
	resolved bool   // a claim decided who owns it
	named    bool   // who was relieved of it named the owner

	listed  bool    // in Decider.order
	open    bool    // in Decider.open
	counted int32   // the member whose load it is part of, or nobody
	strays  []int32 // nobody here knows the Service: the members that claim it
	usesNew bool    // uses have changed since they were looked at
	dirty   bool    // queued for election
	stale   bool    // queued for emission

	mine *entry // what this node does about it by ARP and NDP; nil: nothing
}

// entry is what this node does about an address.
type entry struct {
	l2    L2Address
	claim Claim
	due   time.Time // when it may go back to its first choice; zero: no such time is known
}

// nobody stands for the absence of an owner.
const nobody int32 = -1

// put takes in a member's claim.
func (v *vip) put(m int32, c Claim) {
	i, found := v.find(m)
	if found {
		v.claimants[i].claim = c
		return
	}
	v.claimants = slices.Insert(v.claimants, i, claimant{m, c})
}

// drop forgets a member's claim.
func (v *vip) drop(m int32) {
	if i, found := v.find(m); found {
		v.claimants = slices.Delete(v.claimants, i, i+1)
	}
}

func (v *vip) find(m int32) (int, bool) {
	return slices.BinarySearchFunc(v.claimants, m, func(c claimant, m int32) int { return int(c.member) - int(m) })
}

// attach adds a use, at its place in the order of Services.
func (v *vip) attach(u *use) {
	i, _ := slices.BinarySearchFunc(v.uses, u, func(a, b *use) int { return a.svc.Key.Compare(b.svc.Key) })
	v.uses = slices.Insert(v.uses, i, u)
}

// detach removes a use.
func (v *vip) detach(u *use) {
	if i := slices.Index(v.uses, u); i >= 0 {
		v.uses = slices.Delete(v.uses, i, i+1)
	}
}

// electorate works out who may keep and who may be given the address, and what is wished. Services that share it must be announced by one
// node: one that is eligible for all of them, or, where there is none, for any.
func (v *vip) electorate() {
	v.may, v.gets, v.likes, v.ranked, v.asked = nil, nil, nil, false, false
	var standing int
	var anyMay, anyGets []int32
	for _, u := range v.uses {
		if !u.stands() {
			continue
		}
		v.likes = v.likes.join(u.reach.cover.likes)
		v.asked = v.asked || u.svc.Move != config.Move{}
		m, g := u.electorate()
		if standing++; standing == 1 {
			v.may, v.gets, anyMay, anyGets = m, g, m, g
			continue
		}
		v.may, v.gets = intersect(v.may, m), intersect(v.gets, g)
		anyMay, anyGets = unite(anyMay, m), unite(anyGets, g)
	}
	if len(v.gets) == 0 {
		v.may, v.gets = anyMay, anyGets
	}
}

func (u *use) electorate() (may, gets []int32) {
	if !u.back.local {
		return u.reach.may, u.reach.gets
	}
	return intersect(u.reach.may, u.back.nodes), intersect(u.reach.gets, u.back.nodes)
}
