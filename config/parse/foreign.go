package parse

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// gateways remembers the default gateways of nodes.
type gateways struct {
	all   []occupied // by address
	epoch uint64     // counts changes
}

// update takes in what speakers report.
func (g *gateways) update(speakers []*config.Speaker) {
	nodes := make(map[netip.Addr][]string)
	for _, s := range speakers {
		for _, a := range s.Gateways {
			nodes[a] = append(nodes[a], s.Node)
		}
	}
	var all []occupied
	for a, names := range nodes {
		who := "the default gateway of " + names[0]
		if more := len(names) - 1; more > 0 {
			who += fmt.Sprintf(" and %d more", more)
		}
		all = append(all, occupied{config.Range{From: a, To: a}, who})
	}
	slices.SortFunc(all, func(a, b occupied) int { return a.From.Compare(b.From) })
	if g.epoch == 0 || !slices.Equal(g.all, all) {
		g.all = all
		g.epoch++
	}
}

// foreign lists the addresses of pools in force that are gateways, or stand in the status of Services which somebody else serves. What Herald
// has yet to clear is not among them.
func (w *world) foreign() []config.Foreign {
	var out []config.Foreign
	add := func(a netip.Addr, owner string) {
		if w.poolWith(a) != nil {
			out = append(out, config.Foreign{Addr: a, Owner: owner})
		}
	}
	for _, g := range w.memory.gateways.all {
		add(g.From, g.name)
	}
	for e, addrs := range w.services.theirs {
		for _, a := range addrs {
			add(a, "Service "+e.key.String()+", which another load balancer serves")
		}
	}
	slices.SortFunc(out, func(a, b config.Foreign) int {
		return cmp.Or(a.Addr.Compare(b.Addr), strings.Compare(a.Owner, b.Owner))
	})
	return out
}
