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
			d.fresh.verdicts = true
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

// collectRoutes lists the routes by prefix.
func (d *Decider) collectRoutes() {
	d.out.Routes = nil
	for _, v := range d.order {
		for _, u := range v.uses {
			d.out.Routes = append(d.out.Routes, u.routes...)
		}
	}
	compare := func(a, b Route) int { return comparePrefix(a.Prefix, b.Prefix) }
	if !slices.IsSortedFunc(d.out.Routes, compare) {
		slices.SortStableFunc(d.out.Routes, compare)
	}
}
