package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
)

// compareReservations takes in who has what reserved.
func (p *Planner) compareReservations(list []*config.Reservation, anew bool) {
	was := len(p.retained)
	if was > 0 || len(p.change.removed) > 0 && p.keeping {
		have := arrange(list)
		p.dropRetentions(have)
		for key, r := range p.retained {
			have.add(key, r.Addresses)
		}
		for _, c := range p.change.dirty {
			have.add(c.svc.Key, c.last.held)
		}
		for _, c := range p.change.removed {
			p.retain(c, have)
		}
	}
	same := !anew && was == 0 && len(p.retained) == 0 && slices.Equal(p.reservations, list)
	p.reservations = list
	if same {
		return
	}
	wanted := p.bookings(list)
	for a := range p.booked {
		if wanted[a] == nil {
			p.book(a, nil)
		}
	}
	for a, b := range wanted {
		p.book(a, b)
	}
	p.booked = wanted
	clear(p.reserved)
	for _, a := range slices.SortedFunc(maps.Keys(wanted), netip.Addr.Compare) {
		key := wanted[a].service
		p.reserved[key] = append(p.reserved[key], a)
	}
}

// bookings returns what is reserved, by address.
func (p *Planner) bookings(list []*config.Reservation) map[netip.Addr]*booking {
	out := make(map[netip.Addr]*booking)
	book := func(addrs []netip.Addr, b *booking) {
		for _, a := range addrs {
			if out[a] == nil {
				out[a] = b
			}
		}
	}
	for _, r := range list {
		if !r.Expired {
			b := &booking{service: r.Service}
			if !r.Retained {
				b.name = r.Name // those that Herald makes come and go
			}
			book(r.Addresses, b)
		}
	}
	for _, r := range p.retentions() {
		book(r.Addresses, &booking{service: r.Service})
	}
	return out
}

// book notes for whom an address is reserved; nil for nobody.
func (p *Planner) book(a netip.Addr, b *booking) {
	s := p.at(a)
	old := s.booking
	if old != nil && b != nil && *old == *b {
		return
	}
	p.touch(s)
	s.booking = b
	for _, c := range s.holders {
		p.change.keys[c.svc.SharingKey] = true // who may share it is another question now
	}
	for _, x := range []*booking{old, b} {
		if x != nil {
			p.change.wake[x.service] = true
		}
	}
}

// retain keeps the addresses of a Service that went, where their pools say so. What is reserved for another, or what another
// still shares, is not kept.
func (p *Planner) retain(c *claim, have reservations) {
	r := &Retention{Service: c.svc.Key}
	for _, a := range c.last.held {
		in := p.poolOf(a)
		if in == nil || in.RetainFor <= 0 || !in.gives(a) || have.forOther(a, c.svc.Key) {
			continue
		}
		r.Addresses = append(r.Addresses, a)
		if until := p.change.now.Add(in.RetainFor); until.After(r.Until) {
			r.Until = until
		}
	}
	if len(r.Addresses) == 0 {
		return
	}
	p.retained[c.svc.Key] = r
	have.add(c.svc.Key, r.Addresses)
}

// reservations are those of a snapshot, arranged for questions.
type reservations struct {
	service map[netip.Addr]config.Key // who keeps an address: for whom it is reserved, or who still holds it
	kept    map[config.Key]*config.Reservation
}

func arrange(list []*config.Reservation) reservations {
	out := reservations{make(map[netip.Addr]config.Key), make(map[config.Key]*config.Reservation)}
	for _, r := range list {
		if r.Retained {
			out.kept[r.Service] = r
		}
		if !r.Expired {
			out.add(r.Service, r.Addresses)
		}
	}
	return out
}

// add says that a Service keeps addresses, unless another does already.
func (r reservations) add(service config.Key, addrs []netip.Addr) {
	for _, a := range addrs {
		if _, ok := r.service[a]; !ok {
			r.service[a] = service
		}
	}
}

func (r reservations) forOther(a netip.Addr, key config.Key) bool {
	service, ok := r.service[a]
	return ok && service != key
}

// dropRetentions forgets those that are written down, or over, or for which the Service is back.
func (p *Planner) dropRetentions(have reservations) {
	maps.DeleteFunc(p.retained, func(key config.Key, r *Retention) bool {
		return !p.change.now.Before(r.Until) || p.shows(key, r.Addresses) || r.written(have.kept[key]) || !slices.ContainsFunc(r.Addresses, p.retains)
	})
}

// retains reports whether addresses like this one are kept.
func (p *Planner) retains(a netip.Addr) bool {
	in := p.poolOf(a)
	return in != nil && in.RetainFor > 0
}

// shows reports whether the status of a Service shows all of the addresses.
func (p *Planner) shows(key config.Key, addrs []netip.Addr) bool {
	c := p.claims[key]
	return c != nil && !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(c.svc.Ingress, a) })
}

// inexact is by how much an expiry may fall short: the API holds whole seconds, and clocks differ.
const inexact = 5 * time.Second

// written reports whether the IPReservation keeps the addresses long enough.
func (r *Retention) written(have *config.Reservation) bool {
	return have != nil && (have.ExpiresAt.IsZero() || !have.ExpiresAt.Add(inexact).Before(r.Until)) &&
		!slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { return !slices.Contains(have.Addresses, a) })
}

// retentions lists what is to be written down, by key.
func (p *Planner) retentions() []Retention {
	var out []Retention
	for _, key := range slices.SortedFunc(maps.Keys(p.retained), config.Key.Compare) {
		out = append(out, *p.retained[key])
	}
	return out
}

// discards lists what Herald kept and nobody needs any more: what has expired, and that of Services which are back.
func (p *Planner) discards(list []*config.Reservation) []*config.Reservation {
	var out []*config.Reservation
	for _, r := range list {
		if r.Retained && (r.Expired || p.retained[r.Service] == nil && p.shows(r.Service, r.Addresses)) {
			out = append(out, r)
		}
	}
	return out
}
