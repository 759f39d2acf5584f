package ipam

import "net/netip"

// ledger says who holds which address in the course of a plan. Whether two Services may hold one address together is decided here and
// nowhere else.
type ledger struct {
	holders map[netip.Addr]int32 // id of the claim
	leaving map[netip.Addr]int32 // id of a claim whose status still shows the address, though it must give it up
}

func newLedger(size int) ledger {
	return ledger{holders: make(map[netip.Addr]int32, size), leaving: make(map[netip.Addr]int32)}
}

// holder returns the claim that keeps c from taking the address, if there is one.
func (l *ledger) holder(a netip.Addr, c *claim) (id int32, blocked bool) {
	id, ok := l.holders[a]
	return id, ok && id != c.id
}

// leaver returns the claim that has yet to give up the address before c may take it, if there is one.
func (l *ledger) leaver(a netip.Addr, c *claim) (id int32, blocked bool) {
	id, ok := l.leaving[a]
	return id, ok && id != c.id
}

// free reports whether nobody holds the address or has yet to give it up.
func (l *ledger) free(a netip.Addr) bool {
	if _, ok := l.holders[a]; ok {
		return false
	}
	_, ok := l.leaving[a]
	return !ok
}

// take records that c holds the address. The caller has made sure that it may.
func (l *ledger) take(a netip.Addr, c *claim) { l.holders[a] = c.id }

// leave records that c must give up the address but still shows it.
func (l *ledger) leave(a netip.Addr, c *claim) {
	if _, ok := l.leaving[a]; !ok {
		l.leaving[a] = c.id
	}
}
