package decide

import (
	"net/netip"
	"path"
	"slices"

	"github.com/heraldlb/herald/config"
)

// model is the election said slowly: no classes, no caches, every question asked anew for every address and node.
type model struct {
	f     Facts
	nodes map[string]*config.Node
}

func newModel(f Facts) *model {
	m := &model{f: f, nodes: map[string]*config.Node{}}
	for _, n := range f.Config.Nodes {
		m.nodes[n.Name] = n
	}
	return m
}

// owners returns who answers for each address that somebody answers for.
func (m *model) owners() map[netip.Addr]string {
	addrs := m.addresses()
	owners, loads := map[netip.Addr]string{}, map[string]int{}
	for _, a := range addrs {
		stays := m.best(a, func(c *Member) bool { return m.may(a, c, true) })
		leaves := m.best(a, m.leaving)
		switch {
		case stays != nil:
			owners[a] = stays.Node
			loads[stays.Node]++
			if m.gets(a, stays.Claims[a].To) {
				owners[a] = stays.Claims[a].To
			}
		case leaves != nil && m.gets(a, leaves.Claims[a].To):
			owners[a] = leaves.Claims[a].To
			loads[owners[a]]++
		}
	}
	for _, c := range m.f.Members {
		for a := range c.Claims {
			if !slices.Contains(addrs, a) {
				loads[c.Node]++
			}
		}
	}
	slack := 0
	if len(m.f.Members) > 0 {
		slack = len(addrs) / len(m.f.Members) / slackShare
	}
	for _, a := range addrs {
		if _, ok := owners[a]; ok {
			continue
		}
		var able []*Member
		for i := range m.f.Members {
			if c := &m.f.Members[i]; m.may(a, c, false) {
				able = append(able, c)
			}
		}
		top := 0
		for _, c := range able {
			top = max(top, m.weight(a, c))
		}
		able = slices.DeleteFunc(able, func(c *Member) bool { return m.weight(a, c) < top })
		slices.SortFunc(able, func(x, y *Member) int {
			if m.outranks(a, x.Node, y.Node) {
				return -1
			}
			return 1
		})
		if len(able) == 0 {
			continue
		}
		owner := able[0].Node
		if len(able) > 1 && !m.goesBack(a) && loads[able[1].Node]+slack < loads[owner] {
			owner = able[1].Node
		}
		owners[a] = owner
		loads[owner]++
	}
	return owners
}

// best returns the member with the best claim for the address among those that count.
func (m *model) best(a netip.Addr, counts func(c *Member) bool) *Member {
	var best *Member
	for i := range m.f.Members {
		c := &m.f.Members[i]
		if _, ok := c.Claims[a]; ok && counts(c) && (best == nil || m.better(a, c, best)) {
			best = c
		}
	}
	return best
}

// gets reports whether a live member of that name may be given the address.
func (m *model) gets(a netip.Addr, name string) bool {
	return slices.ContainsFunc(m.f.Members, func(c Member) bool { return c.Node == name && m.may(a, &c, false) })
}

// advertisements returns those that cover the address for a Service that counts, and that Service.
func (m *model) advertisements(a netip.Addr) []*config.L2Advertisement {
	var out []*config.L2Advertisement
	for _, adv := range m.f.Config.L2Advertisements {
		inPool := slices.ContainsFunc(m.f.Config.Pools, func(p *config.Pool) bool { return adv.Pools.Has(p.Name) && p.Contains(a) })
		if inPool && slices.ContainsFunc(m.f.Config.Services, func(s *config.Service) bool {
			return adv.Services.Has(s.Key) && slices.Contains(s.Ingress, a) && m.stands(s, a)
		}) {
			out = append(out, adv)
		}
	}
	return out
}

func (m *model) goesBack(a netip.Addr) bool {
	return slices.ContainsFunc(m.advertisements(a), func(adv *config.L2Advertisement) bool { return adv.FailbackDelay != nil })
}

// weight is the most that one advertisement makes of a member.
func (m *model) weight(a netip.Addr, c *Member) int {
	most := 0
	for _, adv := range m.advertisements(a) {
		sum := 0
		for _, p := range adv.Preferred {
			if p.Nodes.Has(c.Node) {
				sum += p.Weight
			}
		}
		if adv.Nodes.Has(c.Node) {
			most = max(most, sum)
		}
	}
	return most
}

func (m *model) addresses() []netip.Addr {
	var addrs []netip.Addr
	for _, s := range m.f.Config.Services {
		addrs = append(addrs, s.Ingress...)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

func (m *model) outranks(a netip.Addr, x, y string) bool {
	p, q := score(hashNode(x), hashAddr(a)), score(hashNode(y), hashAddr(a))
	return p > q || p == q && x < y
}

func (m *model) better(a netip.Addr, x, y *Member) bool {
	p, q := x.Claims[a], y.Claims[a]
	if p.Majority != q.Majority {
		return p.Majority
	}
	if p.Counter != q.Counter {
		return p.Counter > q.Counter
	}
	return m.outranks(a, x.Node, y.Node)
}

// may reports whether a member may answer for the address: for all Services that have it and could be announced at all, or for any of
// them where nobody may be given it for all.
func (m *model) may(a netip.Addr, c *Member, keep bool) bool {
	var services []*config.Service
	for _, s := range m.f.Config.Services {
		if slices.Contains(s.Ingress, a) && m.stands(s, a) {
			services = append(services, s)
		}
	}
	if slices.ContainsFunc(m.f.Members, func(o Member) bool { return m.all(services, a, &o, false) }) {
		return m.all(services, a, c, keep)
	}
	return slices.ContainsFunc(services, func(s *config.Service) bool { return m.one(s, a, c, keep, false) })
}

func (m *model) all(services []*config.Service, a netip.Addr, c *Member, keep bool) bool {
	for _, s := range services {
		if !m.one(s, a, c, keep, false) {
			return false
		}
	}
	return len(services) > 0
}

// stands reports whether, endpoints' places aside, somebody might announce the Service's address.
func (m *model) stands(s *config.Service, a netip.Addr) bool {
	return slices.ContainsFunc(m.f.Members, func(c Member) bool { return m.one(s, a, &c, true, true) })
}

func (m *model) one(s *config.Service, a netip.Addr, c *Member, keep, anyPlace bool) bool {
	if !m.nodeOK(c, keep) || !m.endpoints(s, c.Node, anyPlace) {
		return false
	}
	direct := false
	for i := range m.f.Members {
		up := m.f.Members[i]
		up.Interfaces = slices.Clone(up.Interfaces)
		for k := range up.Interfaces {
			up.Interfaces[k].Up = true
		}
		direct = direct || m.interfaces(s, a, &up, true) > 0
	}
	return m.interfaces(s, a, c, direct) > 0
}

func (m *model) nodeOK(c *Member, keep bool) bool {
	n := m.nodes[c.Node]
	if m.leaving(c) || n != nil && n.NetworkUnavailable {
		return false
	}
	return keep || n != nil && c.State == Up
}

// leaving reports whether the member is to be relieved.
func (m *model) leaving(c *Member) bool {
	n := m.nodes[c.Node]
	if n == nil {
		return c.State == Draining
	}
	return !n.NetworkUnavailable && (c.State == Draining || n.Drain || n.OutOfService ||
		n.ExcludeLB && !m.f.IgnoreExcludeLB || n.Unschedulable && m.f.DrainOnCordon)
}

func (m *model) endpoints(s *config.Service, node string, anyPlace bool) bool {
	counts := s.Endpoints.Ready
	if total(counts) == 0 {
		counts = s.Endpoints.Serving
	}
	if anyPlace || s.TrafficPolicy == config.Cluster {
		return total(counts) > 0
	}
	return counts[node] > 0
}

// interfaces counts the member's interfaces that would answer.
func (m *model) interfaces(s *config.Service, a netip.Addr, c *Member, inSubnet bool) int {
	n := 0
	for _, ifi := range c.Interfaces {
		ok := ifi.Up && (!inSubnet || slices.ContainsFunc(ifi.Subnets, func(p netip.Prefix) bool { return p.Contains(a) }))
		if ok && slices.ContainsFunc(m.f.Config.L2Advertisements, func(adv *config.L2Advertisement) bool { return m.covers(adv, s, a, c, ifi.Name) }) {
			n++
		}
	}
	return n
}

func (m *model) covers(adv *config.L2Advertisement, s *config.Service, a netip.Addr, c *Member, ifi string) bool {
	if !adv.Services.Has(s.Key) || m.nodes[c.Node] != nil && !adv.Nodes.Has(c.Node) {
		return false
	}
	inPool := slices.ContainsFunc(m.f.Config.Pools, func(p *config.Pool) bool { return adv.Pools.Has(p.Name) && p.Contains(a) })
	named := len(adv.Interfaces) == 0 || slices.ContainsFunc(adv.Interfaces, func(g string) bool {
		ok, err := path.Match(g, ifi)
		return ok && err == nil
	})
	return inPool && named
}
