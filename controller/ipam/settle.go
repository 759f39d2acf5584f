package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/config"
)

// settle brings the pools in line with what is held after adoption: addresses that came free can be given out.
func (p *Planner) settle(anew bool) {
	if anew {
		p.fill()
		return
	}
	p.change.notes = make(map[*pool][2]note, len(p.pools))
	for _, in := range p.pools {
		p.change.notes[in] = [2]note{in.spaces[0].note(in), in.spaces[1].note(in)}
	}
	slices.SortFunc(p.change.touched, func(a, b *slot) int { return a.addr.Compare(b.addr) })
	for _, s := range p.change.touched {
		p.account(s)
	}
}

// account makes the pool count an address as what it is now.
func (p *Planner) account(s *slot) {
	was := s.class
	s.class = s.classify()
	if s.pool == nil || was == s.class {
		return
	}
	f := familyIndex(config.FamilyOf(s.addr))
	space := &s.pool.spaces[f]
	gives := s.pool.gives(s.addr)
	space.move(was, s.class, gives)
	if !gives {
		return
	}
	if s.class == reserved {
		p.change.wake[s.booking.service] = true // whoever was in its way is gone
	}
	switch {
	case was == available:
		if !space.fresh.remove(s.addr) {
			space.freed.remove(s.addr)
		}
	case s.class == available:
		p.change.freed[f] = true
		p.push(space, s.addr)
	}
}

// move counts that an address changed its class.
func (s *space) move(was, is class, gives bool) {
	s.count[was]--
	s.count[is]++
	if !gives {
		if was == assigned {
			s.odd--
		}
		if is == assigned {
			s.odd++
		}
	}
}

// push notes that an address came free. When too many are remembered, the one that came free first counts as never used.
func (p *Planner) push(s *space, a netip.Addr) {
	p.seq++
	s.freed.push(a, p.seq)
	if len(s.freed.seqs) > p.limit {
		if oldest, ok := s.freed.first(); ok {
			s.freed.remove(oldest)
			s.fresh.add(oldest)
		}
	}
}

// carry lists the addresses that came free in all pools, the longest ago first.
func (p *Planner) carry() []netip.Addr {
	var all []ticket
	for _, in := range p.pools {
		for i := range in.spaces {
			all = append(all, in.spaces[i].freed.all()...)
		}
	}
	slices.SortFunc(all, func(a, b ticket) int { return cmp.Compare(a.seq, b.seq) })
	out := make([]netip.Addr, len(all))
	for i, t := range all {
		out[i] = t.addr
	}
	return out
}

// fill finds out for all pools anew what is free.
func (p *Planner) fill() {
	taken := make([]netip.Addr, 0, len(p.slots)+len(p.change.was)+len(p.change.carried))
	for a, s := range p.slots {
		s.class = s.classify()
		if s.pool == nil || s.class == available {
			continue
		}
		s.pool.spaces[familyIndex(config.FamilyOf(a))].move(available, s.class, s.pool.gives(a))
		taken = append(taken, a)
	}
	var freed []netip.Addr
	for _, a := range slices.Concat(p.change.carried, p.change.was) {
		in := p.poolOf(a)
		if s := p.slots[a]; in != nil && in.gives(a) && (s == nil || s.class == available) {
			freed = append(freed, a)
		}
	}
	taken = append(taken, freed...)
	slices.SortFunc(taken, netip.Addr.Compare)
	for _, in := range p.pools {
		in.fill(taken)
	}
	for _, a := range freed {
		p.push(&p.poolOf(a).spaces[familyIndex(config.FamilyOf(a))], a)
	}
}

// fill makes the set of fresh addresses: all but those that are taken, a sorted list for all pools.
func (p *pool) fill(taken []netip.Addr) {
	var holes []config.Range
	for _, r := range p.Ranges {
		i, _ := slices.BinarySearchFunc(taken, r.From, netip.Addr.Compare)
		for ; i < len(taken) && taken[i].Compare(r.To) <= 0; i++ {
			holes = append(holes, config.Range{From: taken[i], To: taken[i]})
		}
	}
	free := config.Subtract(config.Subtract(p.Ranges, p.Excluded), holes)
	for _, r := range slices.Backward(free) {
		s := &p.spaces[familyIndex(config.FamilyOf(r.From))]
		s.fresh = append(s.fresh, r)
	}
}
