package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
)

// model is the specification of a plan, written to be obvious and not to be fast: it begins anew for each plan, and looks at every address of
// every pool. What it knows of the plan before is spelt out in modelMemory.
type model struct {
	in       *config.Snapshot
	now      time.Time
	limit    int
	last     modelMemory
	services []*config.Service // by age

	pools    map[netip.Addr]*config.Pool
	reserved map[netip.Addr]config.Key
	retained map[config.Key]Retention
	holds    map[config.Key][]netip.Addr
	left     map[config.Key][]netip.Addr
	freed    []netip.Addr
}

// modelMemory is what one plan hands to the next.
type modelMemory struct {
	past     map[string]past // by UID
	used     map[netip.Addr]bool
	freed    []netip.Addr
	retained map[config.Key]Retention
}

func (m *model) plan() {
	m.services = slices.SortedFunc(slices.Values(m.in.Services), func(a, b *config.Service) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	})
	m.pools = map[netip.Addr]*config.Pool{}
	for _, p := range m.in.Pools {
		for _, a := range all(p) {
			m.pools[a] = p
		}
	}
	m.reserved, m.retained = map[netip.Addr]config.Key{}, map[config.Key]Retention{}
	m.holds, m.left = map[config.Key][]netip.Addr{}, map[config.Key][]netip.Addr{}
	m.reserve()
	for _, demoted := range []bool{false, true} {
		for _, s := range m.services {
			for _, a := range s.Ingress {
				if m.demoted(s, a) == demoted && !slices.Contains(m.holds[s.Key], a) && !slices.Contains(m.left[s.Key], a) {
					m.adopt(s, a)
				}
			}
		}
	}
	for _, s := range m.services {
		for _, a := range m.last.past[s.UID].held {
			if !frozen(s) && m.givable(a) && m.othersOf(a) == "" && m.fitsAll(s, a) && m.mayKeep(s, a) {
				m.hold(s, a)
			}
		}
	}
	m.free()
	for _, named := range []bool{true, false} {
		for _, s := range m.services {
			if named == (len(s.Request.Addresses) > 0) && !frozen(s) && valid(s) {
				m.complete(s)
			}
		}
	}
}

// memory is what the next plan is to know.
func (m *model) memory() modelMemory {
	out := modelMemory{past: map[string]past{}, used: map[netip.Addr]bool{}, freed: m.freed, retained: m.retained}
	for _, s := range m.services {
		out.past[s.UID] = past{s, m.holds[s.Key], m.left[s.Key]}
	}
	for _, p := range m.in.Pools {
		for _, a := range all(p) {
			out.used[a] = m.occupied(a) || m.isReserved(a)
		}
	}
	for _, s := range m.services {
		for _, a := range slices.Concat(m.holds[s.Key], m.left[s.Key]) {
			out.used[a] = true // in a pool or not
		}
	}
	return out
}

func frozen(s *config.Service) bool { return s.Deleting || s.Waiting }

func familiesOf(s *config.Service) []config.Family {
	if s.FamilyPolicy == config.SingleStack {
		return s.Families[:1]
	}
	return s.Families
}

// valid reports whether the Service asks for something that can be.
func valid(s *config.Service) bool {
	for _, a := range s.Request.Addresses {
		if !slices.Contains(familiesOf(s), config.FamilyOf(a)) {
			return false
		}
	}
	return s.Request.Invalid == ""
}

func all(p *config.Pool) []netip.Addr {
	var out []netip.Addr
	for _, r := range p.Ranges {
		for a := r.From; a.IsValid() && a.Compare(r.To) <= 0; a = a.Next() {
			out = append(out, a)
		}
	}
	return out
}

func (m *model) poolOf(a netip.Addr) *config.Pool { return m.pools[a] }

func (m *model) givable(a netip.Addr) bool {
	p := m.poolOf(a)
	if p == nil || slices.ContainsFunc(p.Excluded, func(r config.Range) bool { return r.Contains(a) }) {
		return false
	}
	odd := a.Is4() && (strings.HasSuffix(a.String(), ".0") || strings.HasSuffix(a.String(), ".255"))
	return !odd || !p.AvoidBuggy
}

// othersOf names the node, or whoever else has the address; "" for none.
func (m *model) othersOf(a netip.Addr) string {
	for _, n := range m.in.Nodes {
		if slices.Contains(n.Addresses, a) {
			return n.Name
		}
	}
	for _, f := range m.in.Foreign {
		if f.Addr == a {
			return f.Owner
		}
	}
	return ""
}

func (m *model) holders(a netip.Addr) (out []*config.Service) {
	for _, s := range m.services {
		if slices.Contains(m.holds[s.Key], a) {
			out = append(out, s)
		}
	}
	return out
}

func (m *model) leavers(a netip.Addr) (out []*config.Service) {
	for _, s := range m.services {
		if slices.Contains(m.left[s.Key], a) {
			out = append(out, s)
		}
	}
	return out
}

func (m *model) occupied(a netip.Addr) bool { return len(m.holders(a))+len(m.leavers(a)) > 0 }

func (m *model) isReserved(a netip.Addr) bool {
	_, ok := m.reserved[a]
	return ok && m.givable(a) && m.othersOf(a) == "" && !m.occupied(a)
}

func (m *model) isFree(a netip.Addr) bool {
	_, ok := m.reserved[a]
	return !ok && m.givable(a) && m.othersOf(a) == "" && !m.occupied(a)
}

// share reports whether two Services may have one address.
func share(a, b *config.Service) bool {
	for _, p := range a.Ports {
		if slices.Contains(b.Ports, p) {
			return false
		}
	}
	cluster := a.TrafficPolicy == config.Cluster && b.TrafficPolicy == config.Cluster
	return a.SharingKey != "" && a.SharingKey == b.SharingKey && (cluster || a.Backend != "" && a.Backend == b.Backend)
}

func (m *model) fitsHolders(s *config.Service, a netip.Addr) bool {
	return !slices.ContainsFunc(m.holders(a), func(o *config.Service) bool { return o != s && !share(s, o) })
}

func (m *model) fitsAll(s *config.Service, a netip.Addr) bool {
	return m.fitsHolders(s, a) && !slices.ContainsFunc(m.leavers(a), func(o *config.Service) bool { return o != s && !share(s, o) })
}

func (m *model) has(s *config.Service, f config.Family) bool {
	return slices.ContainsFunc(m.holds[s.Key], func(a netip.Addr) bool { return config.FamilyOf(a) == f })
}

func (m *model) hold(s *config.Service, a netip.Addr) { m.holds[s.Key] = append(m.holds[s.Key], a) }

func (m *model) demoted(s *config.Service, a netip.Addr) bool {
	was := m.last.past[s.UID]
	return slices.Contains(was.left, a) || slices.Contains(was.held, a) && !fitsAsBefore(was.svc, s)
}

func (m *model) adopt(s *config.Service, a netip.Addr) {
	if frozen(s) && !m.has(s, config.FamilyOf(a)) && m.fitsHolders(s, a) || !frozen(s) && m.mayKeep(s, a) {
		m.hold(s, a)
	} else {
		m.left[s.Key] = append(m.left[s.Key], a)
	}
}

func (m *model) mayKeep(s *config.Service, a netip.Addr) bool {
	f := config.FamilyOf(a)
	return valid(s) && slices.Contains(familiesOf(s), f) && !m.has(s, f) && m.fitsHolders(s, a) && m.asksNoOther(s, a) && m.from(s, a)
}

func (m *model) asksNoOther(s *config.Service, a netip.Addr) bool {
	for _, want := range s.Request.Addresses {
		if config.FamilyOf(want) == config.FamilyOf(a) {
			return want == a
		}
	}
	return true
}

func (m *model) admits(p *config.Pool, s *config.Service) bool {
	return !p.Scoped || slices.Contains(s.Admitted, p.Name)
}

// from reports whether the pool that the address is from lets the Service have it.
func (m *model) from(s *config.Service, a netip.Addr) bool {
	p := m.poolOf(a)
	if p == nil {
		return len(m.in.Problems) > 0 && s.Allocated.Status == "True"
	}
	return m.admits(p, s) && (len(s.Request.Pools) == 0 || slices.Contains(s.Request.Pools, p.Name))
}

// reserve finds out what is reserved, and what is to be kept for Services that went.
func (m *model) reserve() {
	shows := func(key config.Key, addrs []netip.Addr) bool {
		for _, s := range m.services {
			if s.Key == key {
				return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !slices.Contains(s.Ingress, a) })
			}
		}
		return false
	}
	written := func(r Retention) bool {
		return slices.ContainsFunc(m.in.Reservations, func(have *config.Reservation) bool {
			return have.Retained && have.Service == r.Service && !have.ExpiresAt.Add(inexact).Before(r.Until) && slices.Equal(have.Addresses, r.Addresses)
		})
	}
	for key, r := range m.last.retained {
		anyPool := slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { p := m.poolOf(a); return p != nil && p.RetainFor > 0 })
		if m.now.Before(r.Until) && !shows(key, r.Addresses) && !written(r) && anyPool {
			m.retained[key] = r
		}
	}
	for _, was := range m.wentAway() {
		r := Retention{Service: was.svc.Key}
		for _, a := range slices.SortedFunc(slices.Values(was.held), netip.Addr.Compare) {
			if p := m.poolOf(a); p != nil && p.RetainFor > 0 && m.givable(a) && !m.keptByOther(a, was.svc.Key) {
				r.Addresses = append(r.Addresses, a)
				r.Until = time.Unix(0, max(r.Until.UnixNano(), m.now.Add(p.RetainFor).UnixNano()))
			}
		}
		if len(r.Addresses) > 0 {
			m.retained[r.Service] = r
		}
	}
	for _, r := range m.in.Reservations {
		for _, a := range r.Addresses {
			if _, ok := m.reserved[a]; !ok && !r.Expired {
				m.reserved[a] = r.Service
			}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.retained), config.Key.Compare) {
		for _, a := range m.retained[key].Addresses {
			if _, ok := m.reserved[a]; !ok {
				m.reserved[a] = key
			}
		}
	}
}

// wentAway lists the Services that were there when the last plan was made, by key.
func (m *model) wentAway() []past {
	var out []past
	for uid, was := range m.last.past {
		if !slices.ContainsFunc(m.services, func(s *config.Service) bool { return s.UID == uid }) {
			out = append(out, was)
		}
	}
	slices.SortFunc(out, func(a, b past) int { return a.svc.Key.Compare(b.svc.Key) })
	return out
}

func (m *model) keptByOther(a netip.Addr, key config.Key) bool {
	for _, r := range m.in.Reservations {
		if !r.Expired && slices.Contains(r.Addresses, a) {
			return r.Service != key
		}
	}
	for other, r := range m.retained {
		if slices.Contains(r.Addresses, a) {
			return other != key
		}
	}
	for _, s := range m.services {
		if slices.Contains(m.last.past[s.UID].held, a) {
			return true
		}
	}
	return false
}

// free works out the order in which addresses that came free are given out.
func (m *model) free() {
	for _, a := range m.last.freed {
		if m.isFree(a) {
			m.freed = append(m.freed, a)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(m.last.used), netip.Addr.Compare) {
		if m.last.used[a] && m.isFree(a) {
			m.freed = append(m.freed, a)
		}
	}
	count := map[string]int{} // of each pool and family only the last few are remembered
	for i, a := range slices.Backward(slices.Clone(m.freed)) {
		key := m.poolOf(a).Name + config.FamilyOf(a).String()
		if count[key]++; count[key] > m.limit {
			m.freed = slices.Delete(m.freed, i, i+1)
		}
	}
}

func (m *model) complete(s *config.Service) {
	if s.FamilyPolicy == config.RequireDualStack && len(s.Families) < 2 {
		return
	}
	var got []netip.Addr
	for _, f := range familiesOf(s) {
		if m.has(s, f) {
			continue
		}
		a := m.choose(s, f)
		if a.IsValid() {
			got = append(got, a)
		} else if s.FamilyPolicy == config.RequireDualStack || len(s.Request.Addresses) > 0 {
			return
		}
	}
	for _, a := range got {
		m.hold(s, a)
		m.freed = slices.DeleteFunc(m.freed, func(b netip.Addr) bool { return a == b })
	}
}

func (m *model) choose(s *config.Service, f config.Family) netip.Addr {
	for _, a := range s.Request.Addresses {
		if config.FamilyOf(a) == f {
			if m.mayHave(s, a) {
				return a
			}
			return netip.Addr{}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(m.reserved), netip.Addr.Compare) {
		if m.reserved[a] == s.Key && config.FamilyOf(a) == f && m.mayHave(s, a) {
			return a
		}
	}
	pools := m.candidates(s)
	for _, p := range pools {
		for _, a := range all(p) {
			if config.FamilyOf(a) == f && slices.ContainsFunc(m.holders(a), func(o *config.Service) bool { return share(s, o) }) && m.mayHave(s, a) {
				return a
			}
		}
	}
	for _, p := range pools {
		fresh := slices.DeleteFunc(all(p), func(a netip.Addr) bool { return slices.Contains(m.freed, a) })
		for _, a := range slices.Concat(fresh, m.freed) {
			if config.FamilyOf(a) == f && m.poolOf(a) == p && m.isFree(a) && m.mayHave(s, a) {
				return a
			}
		}
	}
	return netip.Addr{}
}

// candidates lists the pools that the Service may be given something from, in order.
func (m *model) candidates(s *config.Service) (out []*config.Pool) {
	named := func(name string) {
		for _, p := range m.in.Pools {
			if p.Name == name && m.admits(p, s) {
				out = append(out, p)
			}
		}
	}
	if len(s.Request.Pools) > 0 {
		for _, name := range s.Request.Pools {
			named(name)
		}
		return out
	}
	for _, name := range s.Admitted {
		named(name)
	}
	for _, p := range m.in.Pools {
		if !p.Scoped {
			out = append(out, p)
		}
	}
	return slices.DeleteFunc(out, func(p *config.Pool) bool { return !p.AutoAssign })
}

// mayHave reports whether the Service may be given an address.
func (m *model) mayHave(s *config.Service, a netip.Addr) bool {
	p := m.poolOf(a)
	if p == nil || !m.from(s, a) || !m.givable(a) || p.Paused || m.othersOf(a) != "" || !m.fitsAll(s, a) {
		return false
	}
	if owner, ok := m.reserved[a]; ok && owner != s.Key {
		return false
	}
	inNamespace := map[netip.Addr]bool{a: true}
	for _, o := range m.services {
		for _, b := range m.holds[o.Key] {
			if o.Namespace == s.Namespace && m.poolOf(b) == p && config.FamilyOf(b) == config.FamilyOf(a) {
				inNamespace[b] = true
			}
		}
	}
	already := slices.ContainsFunc(m.holders(a), func(o *config.Service) bool { return o.Namespace == s.Namespace })
	return p.NamespaceQuota == 0 || already || len(inNamespace) <= p.NamespaceQuota
}

// counts is how full a pool is.
func (m *model) counts(p *config.Pool) (out config.PoolStatus) {
	for _, a := range all(p) {
		c := &out.IPv4
		if a.Is6() {
			c = &out.IPv6
		}
		if m.givable(a) || m.occupied(a) {
			c.Total++
		}
		switch {
		case m.occupied(a):
			c.Assigned++
		case m.isReserved(a):
			c.Reserved++
		case m.isFree(a):
			c.Available++
		}
	}
	return out
}
