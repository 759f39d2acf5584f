package parse

import (
	"cmp"
	"slices"

	"github.com/heraldlb/herald/config"
)

// foreign lists the addresses of pools in force that stand in the status of Services which somebody else serves. What Herald has yet to clear
// is not among them.
func (w *world) foreign() []config.Foreign {
	var out []config.Foreign
	for e, addrs := range w.services.theirs {
		for _, a := range addrs {
			if w.poolWith(a) != nil {
				out = append(out, config.Foreign{Addr: a, Service: e.key})
			}
		}
	}
	slices.SortFunc(out, func(a, b config.Foreign) int { return cmp.Or(a.Addr.Compare(b.Addr), a.Service.Compare(b.Service)) })
	return out
}
