// Package decide says what a node should be doing: which addresses it answers for on which interfaces (one speaker per address, agreed on
// by election), which routes it tells which BGP peers, and why or why not. It is a function of values: no clock, no log, no sockets, and
// speakers with equal facts come to the same result without asking each other.
//
// Decide is that function. A Decider computes the same for facts that change little by little, and looks only at what a change can reach.
package decide

import (
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
)

// Decide returns everything the node of the facts should be doing. The facts are only read, and parts of the result may share memory
// with them. Equal facts give equal results, in whatever order the facts list things.
func Decide(f Facts) Desired { return NewDecider().Decide(f) }

// Decider decides again and again. What it is given must not be changed afterwards, as it remembers it: a map or an object that is there
// again is taken for unchanged. It belongs to one goroutine.
type Decider struct {
	*board                              // nil before the first facts
	services   []*config.Service        // sorted, as taken in last
	holdings   shelf[*holding, Verdict] // by Service
	places     map[netip.Addr]*vip
	order      shelf[*vip, Route]     // those that Services hold, by address
	open       []*vip                 // those of order that somebody may have, and whose owner no claim decides
	opened     []*vip                 // of those, not yet in open
	said       []map[netip.Addr]Claim // by member: claims as last seen
	aggregates int                    // routes for more than their one address
	loads      []int                  // by member: addresses it has by claims
	touched    []*vip                 // queued for election
	unsaid     []*vip                 // queued for emission
	fresh      bool                   // the Layer 2 part of out is to be made anew
	own        []*vip                 // those of order with an entry of this node, as of out
	out        Desired
}

// NewDecider returns a Decider that knows nothing yet.
func NewDecider() *Decider { return &Decider{} }

// Decide returns what the function Decide does. Results share memory with each other and must not be changed.
func (d *Decider) Decide(f Facts) Desired {
	if f.Config == nil || !f.Config.Synced {
		return Desired{Incomplete: true}
	}
	d.update(f)
	return d.collect()
}

// update takes facts in and elects.
func (d *Decider) update(f Facts) {
	members := seats(f.Members)
	if d.board == nil || !d.same(f, members) {
		d.reset(f)
	}
	heard, insists := d.facts.Heard, d.facts.Insists
	d.facts = f
	d.takeServices(f.Config.Services)
	d.takeClaims(members)
	d.takeHeard(heard, insists)
	d.elect()
	for _, v := range d.unsaid {
		v.stale = false
		d.settle(v)
		d.judge(v)
	}
	d.unsaid = d.unsaid[:0]
}

// reset begins anew, on other ground.
func (d *Decider) reset(f Facts) {
	*d = Decider{
		board:    newBoard(f),
		holdings: shelf[*holding, Verdict]{compare: func(a, b *holding) int { return a.svc.Key.Compare(b.svc.Key) }},
		places:   make(map[netip.Addr]*vip, len(f.Config.Services)),
		order:    shelf[*vip, Route]{compare: func(a, b *vip) int { return a.addr.Compare(b.addr) }},
		said:     make([]map[netip.Addr]Claim, len(seats(f.Members))),
		fresh:    true,
	}
	d.loads = make([]int, len(d.members))
	d.out.Peers = d.heldPeers()
	o := d.ownObstacle()
	d.out.Draining = o.leaving()
}

// touch queues an address for election.
func (d *Decider) touch(v *vip) {
	if !v.dirty {
		v.dirty = true
		d.touched = append(d.touched, v)
	}
}

// emit queues an address for emission.
func (d *Decider) emit(v *vip) {
	if !v.stale {
		v.stale = true
		d.unsaid = append(d.unsaid, v)
	}
}

// elect finds the owners of the addresses that may have another one.
func (d *Decider) elect() {
	d.emitRestless()
	if len(d.touched) == 0 {
		return
	}
	for _, v := range d.touched {
		v.dirty = false
		d.uncount(v)
		if len(v.uses)+len(v.claimants) == 0 {
			delete(d.places, v.addr)
		}
		if v.usesNew {
			v.usesNew = false
			v.electorate()
			d.list(v)
		}
		d.resolve(v)
		d.count(v)
		d.emit(v)
	}
	d.arrange()
	d.touched = d.touched[:0]
	d.place()
}

// emitRestless queues what may change without an election: addresses of this node that were never claimed (others may have been heard of
// since) and those that may be handed on as time goes.
func (d *Decider) emitRestless() {
	for _, v := range d.own {
		if !v.resolved || v.asked || v.likes != nil && v.likes.goesBack {
			d.emit(v)
		}
	}
}

// count adds an address to the load of those that have it by claims. Claims for addresses that no Service holds count too: their maker
// knows a Service that is not known here.
func (d *Decider) count(v *vip) {
	v.counted = nobody
	switch {
	case len(v.uses) == 0:
		for _, c := range v.claimants {
			v.strays = append(v.strays, c.member)
			d.loads[c.member]++
		}
	case v.owner != nobody:
		v.counted = v.owner
		d.loads[v.owner]++
	}
}

func (d *Decider) uncount(v *vip) {
	if v.counted != nobody {
		d.loads[v.counted]--
	}
	for _, m := range v.strays {
		d.loads[m]--
	}
	v.counted, v.strays = nobody, v.strays[:0]
}

// list notes that what Services have to say of an address has changed, and whether any holds it.
func (d *Decider) list(v *vip) {
	switch held := len(v.uses) > 0; {
	case held && v.listed:
		d.order.spoil(v)
	case held:
		d.order.insert(v)
	case v.listed:
		d.order.remove(v)
	}
	v.listed = len(v.uses) > 0
}

// arrange brings the list of open addresses up to date with those that were queued for election. Where nobody may have an address, there is
// nothing to choose.
func (d *Decider) arrange() {
	closed := false
	for _, v := range d.touched {
		is := v.listed && len(v.gets) > 0 && !v.resolved && !v.named
		switch {
		case is && !v.open:
			d.opened = append(d.opened, v)
		case !is && v.open:
			closed = true
		}
		v.open = is
	}
	if closed {
		d.open = slices.DeleteFunc(d.open, func(v *vip) bool { return !v.open })
	}
	if len(d.opened) > 0 {
		slices.SortFunc(d.opened, d.order.compare)
		d.open = mergeSorted(d.open, d.opened, d.order.compare)
		d.opened = d.opened[:0]
	}
}

// collect puts the outcome together. Parts that did not change are those of last time.
func (d *Decider) collect() Desired {
	if d.fresh {
		d.collectL2()
		d.fresh = false
	}
	d.collectRoutes()
	d.out.Verdicts = d.holdings.list(verdictsOf)
	d.out.Again = time.Time{}
	for _, v := range d.own {
		if due := v.mine.due; !due.IsZero() && (d.out.Again.IsZero() || due.Before(d.out.Again)) {
			d.out.Again = due
		}
	}
	return d.out
}

func (d *Decider) collectL2() {
	d.own = d.own[:0]
	d.out.L2, d.out.Claims = nil, make(map[netip.Addr]Claim, len(d.out.Claims))
	for v := range d.order.all() {
		if v.mine == nil {
			continue
		}
		d.own = append(d.own, v)
		d.out.L2 = append(d.out.L2, v.mine.l2)
		if v.mine.l2.For == "" {
			d.out.Claims[v.addr] = v.mine.claim
		}
	}
}

// mergeSorted merges two sorted lists without common elements.
func mergeSorted[T any](a, b []T, compare func(a, b T) int) []T {
	if len(a) == 0 {
		return slices.Clone(b)
	}
	out := make([]T, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if compare(a[0], b[0]) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
