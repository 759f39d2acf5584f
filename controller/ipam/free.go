package ipam

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// fresh is a set of addresses as disjoint ranges, the lowest last, so that taking the lowest address moves nothing.
type fresh []config.Range

// first returns the lowest address that the pool may give out. Those below it are dropped.
func (f *fresh) first(p *pool) (netip.Addr, bool) {
	for len(*f) > 0 {
		last := &(*f)[len(*f)-1]
		if !p.AvoidBuggy || !buggy(last.From) {
			return last.From, true
		}
		f.dropFirst()
	}
	return netip.Addr{}, false
}

// dropFirst removes the lowest address.
func (f *fresh) dropFirst() {
	last := &(*f)[len(*f)-1]
	if last.From == last.To {
		*f = (*f)[:len(*f)-1]
		return
	}
	last.From = last.From.Next()
}

// find returns where the range with the address is, or where one that has it would have to stand.
func (f fresh) find(a netip.Addr) (int, bool) {
	return slices.BinarySearchFunc(f, a, func(r config.Range, a netip.Addr) int {
		switch {
		case r.To.Compare(a) < 0:
			return 1
		case a.Compare(r.From) < 0:
			return -1
		}
		return 0
	})
}

// remove takes an address out of the set, and reports whether it was in.
func (f *fresh) remove(a netip.Addr) bool {
	i, found := f.find(a)
	if !found {
		return false
	}
	r := &(*f)[i]
	switch {
	case r.From == r.To:
		*f = slices.Delete(*f, i, i+1)
	case r.From == a:
		r.From = a.Next()
	case r.To == a:
		r.To = a.Prev()
	default:
		lower := config.Range{From: r.From, To: a.Prev()}
		r.From = a.Next()
		*f = slices.Insert(*f, i+1, lower)
	}
	return true
}

// add puts an address back.
func (f *fresh) add(a netip.Addr) {
	i, found := f.find(a)
	if found {
		return
	}
	above := i > 0 && (*f)[i-1].From == a.Next()
	below := i < len(*f) && (*f)[i].To.Next() == a
	switch {
	case above && below:
		(*f)[i-1].From = (*f)[i].From
		*f = slices.Delete(*f, i, i+1)
	case above:
		(*f)[i-1].From = a
	case below:
		(*f)[i].To = a
	default:
		*f = slices.Insert(*f, i, config.Range{From: a, To: a})
	}
}

// queue is a set of addresses in the order in which they came free.
type queue struct {
	order []ticket // from head on; those that are not in the map with the same number have been taken out
	head  int
	seqs  map[netip.Addr]uint64
}

type ticket struct {
	addr netip.Addr
	seq  uint64
}

func (q *queue) push(a netip.Addr, seq uint64) {
	if q.seqs == nil {
		q.seqs = make(map[netip.Addr]uint64)
	}
	q.seqs[a] = seq
	q.order = append(q.order, ticket{a, seq})
}

// first returns the address that came free the longest ago.
func (q *queue) first() (netip.Addr, bool) {
	for q.head < len(q.order) {
		t := q.order[q.head]
		if seq, ok := q.seqs[t.addr]; ok && seq == t.seq {
			return t.addr, true
		}
		q.head++
	}
	q.order, q.head = q.order[:0], 0
	return netip.Addr{}, false
}

// remove takes an address out, if it is in.
func (q *queue) remove(a netip.Addr) {
	if _, ok := q.seqs[a]; !ok {
		return
	}
	delete(q.seqs, a)
	if dead := len(q.order) - len(q.seqs); dead > 64 && dead > len(q.order)/2 {
		q.order = slices.DeleteFunc(q.order, func(t ticket) bool { return q.seqs[t.addr] != t.seq })
		q.head = 0
	}
}

// all lists the tickets in order.
func (q *queue) all() []ticket {
	var out []ticket
	for _, t := range q.order[q.head:] {
		if seq, ok := q.seqs[t.addr]; ok && seq == t.seq {
			out = append(out, t)
		}
	}
	return out
}
