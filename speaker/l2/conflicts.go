package l2

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/frame"
)

type conflictKey struct {
	addr netip.Addr
	name string
}

// claim is a frame in which a foreign MAC claims an address of ours.
type claim struct {
	conflictKey
	mac string
}

// conflictMemory is how long a conflict is remembered after the last claim: two refreshes, to which a rival is likely to object.
const conflictMemory = 2*time.Minute + time.Second

// listener returns what the responder of an endpoint tells of claims to. It does not block.
func (o *owner) listener(e *endpoint) frame.Heard {
	return func(c frame.Claim) {
		if c.Watched {
			e.claimed(c.Addr, rival{mac: c.MAC.String(), probe: c.Probe})
			return
		}
		select {
		case o.heard <- claim{conflictKey{c.Addr, e.key.name}, c.MAC.String()}:
		default: // a flood of claims: what matters of it is known already, and it is counted
		}
	}
}

// take takes a claim down. One of a new rival is published at once, repeated ones once a second.
func (o *owner) take(c claim, now time.Time) {
	if !o.wantsAddr(c.conflictKey) { // let go in the meantime
		return
	}
	known, ok := o.conflicts[c.conflictKey]
	if !ok {
		known = Conflict{Addr: c.addr, Interface: c.name, First: now}
		o.log.Warn("another station claims an address that is answered for here", "address", c.addr, "interface", c.name, "mac", c.mac)
	}
	known.MAC, known.Last = c.mac, now
	known.Count++
	o.conflicts[c.conflictKey] = known
	o.stale = true
	if !ok {
		o.publishConflicts(now)
	}
}

func (o *owner) wantsAddr(k conflictKey) bool {
	for wk, v := range o.wants {
		if wk.name == k.name && v.has(k.addr) {
			return true
		}
	}
	return false
}

// nextLook returns when conflicts are to be published again or forgotten; zero when there are none.
func (o *owner) nextLook() time.Time {
	var next time.Time
	if o.stale {
		next = o.published.Add(time.Second)
	}
	for _, c := range o.conflicts {
		if c.Unanswered { // until it is free
			continue
		}
		if t := c.Last.Add(conflictMemory); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next
}

func (o *owner) expire(now time.Time) {
	o.forget(now, func(_ conflictKey, c Conflict) bool { return !c.Unanswered && !now.Before(c.Last.Add(conflictMemory)) })
	if o.stale && now.Sub(o.published) >= time.Second {
		o.publishConflicts(now)
	}
}

// prune forgets the conflicts of addresses that are not answered for any more.
func (o *owner) prune() {
	o.forget(time.Now(), func(k conflictKey, _ Conflict) bool { return !o.wantsAddr(k) })
}

func (o *owner) forget(now time.Time, over func(conflictKey, Conflict) bool) {
	before := len(o.conflicts)
	maps.DeleteFunc(o.conflicts, over)
	if len(o.conflicts) != before {
		o.publishConflicts(now)
	}
}

func (o *owner) publishConflicts(now time.Time) {
	out := slices.SortedFunc(maps.Values(o.conflicts), func(a, b Conflict) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Interface, b.Interface))
	})
	o.clashes.Store(&out)
	o.published, o.stale = now, false
	signal(o.changed)
}

// learn takes down who uses addresses that are not answered for because of it: users are all there are.
func (o *owner) learn(users []Conflict, now time.Time) {
	inUse := make(map[conflictKey]bool, len(users))
	changed := false
	for _, u := range users {
		k := conflictKey{u.Addr, u.Interface}
		known, ok := o.conflicts[k]
		if !o.wantsAddr(k) {
			continue
		}
		inUse[k] = true
		o.looked[u.Addr] = false
		if ok && known.Unanswered && known.MAC == u.MAC && known.Last.Equal(u.Last) {
			continue
		}
		if !ok || !known.Unanswered {
			o.log.Warn("the address is in use by another station: it is not answered for until it is free",
				"address", u.Addr, "interface", u.Interface, "mac", u.MAC)
		}
		u.Count = known.Count + 1
		o.conflicts[k] = u
		changed = true
	}
	for k, c := range o.conflicts {
		if c.Unanswered && !inUse[k] {
			delete(o.conflicts, k)
			changed = true
			o.log.Info("the address is not in use by another station any more", "address", k.addr, "interface", k.name, "mac", c.MAC)
		}
	}
	if changed {
		o.publishConflicts(now)
	}
}

// mayLook reports whether an address is to be probed before it is answered for on another interface. Not if it is free as far as is known,
// for then a lost carrier would have it probed again; but if it was in use, then also when decide takes it for this node's own meanwhile.
func (o *owner) mayLook(d *decide.L2Address) bool {
	free, known := o.looked[d.Addr]
	return o.probe && !free && (d.Probe || known && !sure(d))
}

// remember forgets what was found out about addresses that are not wanted any more.
func (o *owner) remember(desired []decide.L2Address) {
	if len(o.looked) == 0 {
		return
	}
	still := make(map[netip.Addr]bool, len(o.looked))
	for _, d := range desired {
		if free, ok := o.looked[d.Addr]; ok {
			still[d.Addr] = free
		}
	}
	o.looked = still
}

// noteFree takes down that addresses that were to be probed are answered for now.
func (o *owner) noteFree(held []config.L2Holding) {
	for _, v := range o.wants {
		for _, t := range v.tasks {
			if !t.probe || o.looked[t.addr] {
				continue
			}
			_, ok := slices.BinarySearchFunc(held, t.addr, func(h config.L2Holding, a netip.Addr) int { return h.Address.Compare(a) })
			if ok {
				o.looked[t.addr] = true
			}
		}
	}
}
