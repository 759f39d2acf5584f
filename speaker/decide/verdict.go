package decide

import "slices"

// judge says what was decided for the uses of one address by ARP and NDP.
func (d *Decider) judge(v *vip) {
	for _, u := range v.uses {
		if u.reach == nil {
			continue
		}
		w := d.verdict(v, u)
		if w != u.verdicts[1] {
			u.verdicts[1] = w
			d.holdings.spoil(u.holding)
		}
	}
}

func (d *Decider) verdict(v *vip, u *use) Verdict {
	w := Verdict{Service: u.svc.Key, Addr: v.addr, Protocol: L2}
	switch {
	case !u.back.any:
		w.Reason, w.Message = NoReadyEndpoints, noEndpointsMessage
	case v.owner == nobody:
		w.Reason, w.Message = NoEligibleNode, d.l2Message(u)
	case v.mine != nil && v.mine.l2.For == "":
		w.Announce, w.Owner, w.Reason = true, d.facts.Node, Announced
		if to := v.mine.claim.To; to != "" {
			w.Message = "until node " + to + " does"
		}
	case d.owns(v):
		w.Owner, w.Reason = d.rival(v), NotOwner
		w.Message = "node " + w.Owner + " answers for it on the wire, though gossip does not reach it"
	default:
		w.Owner, w.Reason = d.members[v.owner].Node, NotOwner
		w.Message = d.absence(v)
	}
	return w
}

// absence says what holds while the owner of an address restarts; "" when it does not.
func (d *Decider) absence(v *vip) string {
	if d.members[v.owner].State != Restarting || !v.resolved {
		return ""
	}
	if deputy := d.deputy(v); deputy != nobody {
		return "its speaker restarts; node " + d.members[deputy].Node + " answers in its place"
	}
	return "its speaker restarts, and no other node can answer in its place"
}

// verdictsOf appends the verdicts for a Service, in the order of addresses, then protocols.
func verdictsOf(to []Verdict, h *holding) []Verdict {
	for _, u := range h.uses {
		found := false
		for i := range u.verdicts {
			if u.verdicts[i].Protocol != "" {
				to, found = append(to, u.verdicts[i]), true
			}
		}
		if !found {
			to = append(to, Verdict{Service: h.svc.Key, Addr: u.addr, Reason: NoAdvertisement, Message: noAdvertisementMessage})
		}
	}
	return to
}

// routesAt appends the routes for an address.
func routesAt(to []Route, v *vip) []Route {
	for _, u := range v.uses {
		to = append(to, u.routes...)
	}
	return to
}

// aggregates counts the routes of a use that are for more than its address.
func aggregates(u *use) int {
	n := 0
	for i := range u.routes {
		if !u.routes[i].Prefix.IsSingleIP() {
			n++
		}
	}
	return n
}

// collectRoutes lists the routes by prefix. As they are kept by address, they are in order already, unless there are prefixes of several lengths.
func (d *Decider) collectRoutes() {
	if !d.order.changed {
		return
	}
	d.out.Routes = d.order.list(routesAt)
	if d.aggregates == 0 || len(d.out.Routes) == 0 {
		return
	}
	all := slices.Concat(d.out.Routes...)
	slices.SortStableFunc(all, func(a, b Route) int { return comparePrefix(a.Prefix, b.Prefix) })
	d.out.Routes = [][]Route{all}
}
