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
		var best *Member
		for i := range m.f.Members {
			c := &m.f.Members[i]
			if _, ok := c.Claims[a]; ok && m.may(a, c, true) && (best == nil || m.better(a, c, best)) {
				best = c
			}
		}
		if best != nil {
			owners[a] = best.Node
			loads[best.Node]++
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
		if len(able) > 1 && loads[able[1].Node]+slack < loads[owner] {
			owner = able[1].Node
		}
		owners[a] = owner
		loads[owner]++
	}
	return owners
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
	if c.State == Draining || n != nil && (n.NetworkUnavailable || n.ExcludeLB && !m.f.IgnoreExcludeLB) {
		return false
	}
	return keep || n != nil && c.State == Up
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
