package decide

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// settle works out what this node does about an address by ARP and NDP.
func (d *Decider) settle(v *vip) {
	is := d.entryOf(v)
	if !sameEntry(v.mine, is) {
		d.fresh = true
	}
	v.mine = is
}

func (d *Decider) entryOf(v *vip) *entry {
	switch {
	case d.self == nobody || v.owner == nobody:
		return nil
	case v.resolved && v.heir == d.self:
		return d.take(v)
	case v.owner == d.self && d.rival(v) == "":
		return d.take(v)
	case v.owner == d.self:
		return nil
	case v.resolved:
		return d.standIn(v)
	}
	return d.linger(v)
}

// owns reports whether this node is the one to answer for an address, whoever is heard on the wire.
func (d *Decider) owns(v *vip) bool {
	return d.self != nobody && (v.owner == d.self || v.resolved && v.heir == d.self)
}

// rival returns the node that this one gives way to because it was heard to answer, though it is no live member; "" without one. A node
// that sees more than half of the speakers gives way to nobody outside: whoever that is has been cut off. One that sees fewer than half
// gives way also to a worse rank that insists, and so must have more on its side.
func (d *Decider) rival(v *vip) string {
	if v.owner == nobody || v.owner != d.self || d.majority() {
		return ""
	}
	name := d.facts.Heard[v.addr]
	if _, live := d.index[name]; name == "" || live {
		return ""
	}
	own, other := score(d.members[d.self].hash, v.hash), score(hashNode(name), v.hash)
	if other > own || (other == own && name < d.facts.Node) || d.minority() && d.facts.Insists[v.addr] {
		return name
	}
	return ""
}

// expected is how many speakers there should be.
func expected(f *Facts) int { return max(f.Expected, len(f.Members)) }

// majority reports whether more than half of the speakers there should be are live members; minority whether fewer than half are.
func (b *board) majority() bool { return 2*len(b.members) > expected(&b.facts) }
func (b *board) minority() bool { return 2*len(b.members) < expected(&b.facts) }

// take gives the address to the node decided for.
func (d *Decider) take(v *vip) *entry {
	e := &entry{l2: L2Address{Addr: v.addr, Interfaces: d.interfaces(v, d.self)}}
	e.claim, e.l2.Taken = d.stake(v)
	if v.likes != nil {
		e.l2.Refresh = v.likes.refresh
	}
	// A member that claims it still, and is to be relieved of it, goes on answering for a moment: that is nobody to look for.
	e.l2.Probe = e.l2.Taken == Elected || e.l2.Taken == TookOver && len(v.claimants) == 0 && (!d.majority() || !known(v)) || disputed(v)
	d.giveBack(v, e)
	return e
}

// known reports whether the address is said to be announced. One that is not may have had its last owner long ago, for another Service.
func known(v *vip) bool {
	return slices.ContainsFunc(v.uses, func(u *use) bool { return u.svc.Announced.Status == "True" })
}

// disputed reports whether somebody else was found to use the address, so that the node that has or had it may never have answered: whoever
// begins with it looks for it, whatever entitles him to it, and nobody answers in the place of another.
func disputed(v *vip) bool {
	return slices.ContainsFunc(v.uses, func(u *use) bool { return saysInUse(u.svc.Announced.Message, v.addr) })
}

// inUse is what follows an address, in the message of a Service's Announced condition, of which a stranger was found to be the user.
const inUse = " is in use by a station with the MAC address "

// InUse returns what the message of a Service's Announced condition says of an address that a stranger uses. It is read, too: the condition alone
// reaches every speaker, also when the one that found the stranger is gone, and its reason may be that of another address or protocol.
func InUse(a netip.Addr, mac string) string { return a.String() + inUse + mac }

// saysInUse reports whether a message contains InUse of an address.
func saysInUse(message string, a netip.Addr) bool {
	if !strings.Contains(message, inUse) {
		return false
	}
	return strings.Contains(" "+message, " "+InUse(a, ""))
}

// interfaces returns the names of a member's interfaces that answer for an address, sorted.
func (d *Decider) interfaces(v *vip, m int32) []string {
	var names []string
	for _, u := range v.uses {
		if u.stands() {
			names = append(names, d.answering(u.reach, m, v.addr)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// stake returns the claim under which this node has the address, and why it has it. A claim that stands keeps its counter.
func (d *Decider) stake(v *vip) (Claim, Reason) {
	majority, whole := d.majority(), len(d.members) == expected(&d.facts)
	highest := max(v.highest, d.facts.Claims[v.addr])
	if !v.resolved || v.owner != d.self {
		claim := Claim{Counter: highest + 1, Majority: majority, Provisional: !whole}
		switch {
		case v.heir == d.self: // who gives it away was entitled to it, and so is who gets it
			claim.Majority = majority || v.claimants[v.best].claim.Majority
			if d.asked(v, d.members[v.owner].Node) == d.self {
				return claim, Moved
			}
			return claim, Returned
		case highest > 0:
			return claim, TookOver
		}
		return claim, Elected
	}
	claim := v.claimants[v.best].claim
	claim.To = ""
	switch {
	case whole:
		claim.Majority, claim.Provisional = true, false
	case claim.Provisional && !majority:
		claim.Majority = false
	}
	if v.claims > 1 {
		return claim, Won
	}
	return claim, Kept
}

// asked returns the member to which a node is asked to hand an address, if that member may be given it; nobody when there is none. Where
// several Services share the address the first that asks counts.
func (d *Decider) asked(v *vip, from string) int32 {
	if !v.asked {
		return nobody
	}
	for _, u := range v.uses {
		if move := u.svc.Move; u.stands() && move.From == from && d.facts.Now.Before(move.Until) {
			if m, ok := d.index[move.To]; ok && contains(v.gets, m) {
				return m
			}
		}
	}
	return nobody
}

// giveBack offers an address that this node has claimed to the node that a Service asks to have it; else to its first choice, once that one
// has been able for long enough. An offer that was made stands as long as it can be taken up, as it may just have been.
func (d *Decider) giveBack(v *vip, e *entry) {
	if !v.resolved || v.owner != d.self {
		return
	}
	if v.heir != nobody {
		e.claim.To, e.l2.Taken = d.members[v.heir].Node, HandedOn
		return
	}
	if m := d.asked(v, d.facts.Node); m != nobody {
		e.claim.To, e.l2.Taken = d.members[m].Node, HandedOn
		return
	}
	if v.likes == nil || !v.likes.goesBack {
		return
	}
	first, _ := d.bestTwo(v)
	if first == nobody || first == d.self {
		return
	}
	since, ok := d.facts.Since[d.members[first].Node]
	if !ok {
		return
	}
	if due := since.Add(v.likes.failback); due.After(d.facts.Now) {
		e.due = due
		return
	}
	e.claim.To, e.l2.Taken = d.members[first].Node, HandedOn
}

// linger keeps an address with this node, which is to be relieved of it, until the new owner has claimed it.
func (d *Decider) linger(v *vip) *entry {
	if v.left != d.self {
		return nil
	}
	names := d.interfaces(v, d.self)
	if len(names) == 0 {
		return nil
	}
	claim := v.claimants[v.best].claim
	claim.To = d.members[v.owner].Node
	e := &entry{l2: L2Address{Addr: v.addr, Interfaces: names, Taken: HandedOn}, claim: claim}
	if v.likes != nil {
		e.l2.Refresh = v.likes.refresh
	}
	return e
}

// standIn has this node answer in place of an owner that restarts, if it is the one to do so.
func (d *Decider) standIn(v *vip) *entry {
	if d.members[v.owner].State != Restarting || d.deputy(v) != d.self {
		return nil
	}
	e := &entry{l2: L2Address{Addr: v.addr, Taken: StandIn, For: d.members[v.owner].Node}}
	for _, l := range d.bridges(v, d.self) {
		e.l2.Interfaces = append(e.l2.Interfaces, l.name)
		e.l2.MACs = append(e.l2.MACs, l.mac)
	}
	return e
}

// deputy returns the member that stands in for the owner of an address: the best ranked of those that may be given it and share a segment
// with it. Where the endpoints are does not matter, as the frames go to the owner's node; nor do preferences. Where there is nobody else,
// a node that is to be relieved, or is not known here, will do: it need not forward anything.
func (d *Decider) deputy(v *vip) int32 {
	if disputed(v) {
		return nobody
	}
	if m := d.bestBridge(v, func(m *member) bool { return m.obstacle == none }); m != nobody {
		return m
	}
	return d.bestBridge(v, func(m *member) bool {
		return m.State == Up && (m.obstacle.leaving() || m.obstacle == unknownNode)
	})
}

// bestBridge returns the best ranked of the members that qualify and can answer in place of the owner of an address.
func (d *Decider) bestBridge(v *vip, qualifies func(*member) bool) int32 {
	best := nobody
	for i := range d.members {
		m := int32(i)
		if m == v.owner || !qualifies(&d.members[i]) || best != nobody && d.compareRank(v.hash, m, best) <= 0 {
			continue
		}
		if len(d.bridges(v, m)) > 0 {
			best = m
		}
	}
	return best
}

// bridge is an interface of one node, and the hardware address of another on the same segment.
type bridge struct{ name, mac string }

// bridges returns the interfaces through which a member can answer in place of the owner of an address, sorted, with the owner's MACs.
func (d *Decider) bridges(v *vip, m int32) []bridge {
	var out []bridge
	for _, u := range v.uses {
		if !u.stands() {
			continue
		}
		theirs := d.positions(u.reach, v.owner, v.addr)
		for _, k := range d.positions(u.reach, m, v.addr) {
			ours := &d.members[m].Interfaces[k]
			if mac := opposite(ours, d.members[v.owner].Interfaces, theirs, v.addr); mac != "" {
				out = append(out, bridge{ours.Name, mac})
			}
		}
	}
	slices.SortFunc(out, func(a, b bridge) int { return strings.Compare(a.name+"\x00"+a.mac, b.name+"\x00"+b.mac) })
	return slices.CompactFunc(out, func(a, b bridge) bool { return a.name == b.name })
}

// opposite returns the MAC of the other node's interface on the segment of ours: one that carries the address as ours does, else one that
// shares a subnet with ours. Of several the one of the same name is taken, else the first by name. "" when there is none.
func opposite(ours *config.Interface, links []config.Interface, positions []int32, a netip.Addr) string {
	var best *config.Interface
	for _, k := range positions {
		l := &links[k]
		if l.MAC == "" || !alike(ours, l, a) {
			continue
		}
		if best == nil || l.Name == ours.Name || best.Name != ours.Name && l.Name < best.Name {
			best = l
		}
	}
	if best == nil {
		return ""
	}
	return best.MAC
}

// alike reports whether two interfaces of different nodes are on one segment, as far as their subnets tell.
func alike(x, y *config.Interface, a netip.Addr) bool {
	has := func(l *config.Interface) bool {
		return slices.ContainsFunc(l.Subnets, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if has(x) || has(y) {
		return has(x) && has(y)
	}
	return slices.ContainsFunc(x.Subnets, func(p netip.Prefix) bool {
		return slices.ContainsFunc(y.Subnets, func(q netip.Prefix) bool { return p.Masked() == q.Masked() })
	})
}

func sameEntry(a, b *entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.claim == b.claim && sameAddress(&a.l2, &b.l2)
}

func sameAddress(a, b *L2Address) bool {
	return a.Addr == b.Addr && a.Taken == b.Taken && a.Refresh == b.Refresh && a.Probe == b.Probe && a.For == b.For &&
		slices.Equal(a.Interfaces, b.Interfaces) && slices.Equal(a.MACs, b.MACs)
}
