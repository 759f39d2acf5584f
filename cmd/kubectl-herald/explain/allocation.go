package explain

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/controller/ipam"
)

// allocation says what keeps the Service from having its addresses.
func (e *explanation) allocation() {
	out := e.Outcome(e.svc.Key)
	switch {
	case out == nil:
		return
	case out.Allocated.Status == "False":
		e.refused(out)
	case e.svc.Waiting:
		e.add(finding.Finding{
			Level: finding.Error, About: e.about(), Reason: "NamespaceUnknown", Message: "its namespace could not be read, so it is not known which pools admit it",
			Remedy: "allow yourself to list namespaces",
		})
	case !e.svc.Deleting && !slices.Equal(out.Addresses, e.svc.Ingress):
		e.unwritten(out)
	case strings.Contains(out.Allocated.Message, "; no IP"): // PreferDualStack with one family
		e.add(finding.Finding{Level: finding.Warning, About: e.about(), Reason: ipam.FamilyUnavailable, Message: out.Allocated.Message, Remedy: "add addresses of that family to a pool"})
	}
}

// refused says why the controller gives no address. A pool that is left out comes first where it is what the Service misses.
func (e *explanation) refused(out *ipam.Outcome) {
	reason := out.Allocated.Reason
	said := finding.Finding{Level: finding.Error, About: e.about(), Reason: reason, Message: out.Allocated.Message, Remedy: allocationRemedy(reason)}
	broken := left(e.ProblemsOf(poolKind))
	if len(e.svc.Request.Pools) > 0 {
		broken = left(e.ProblemsOf(poolKind, e.svc.Request.Pools...))
	}
	switch {
	case len(broken) > 0 && slices.Contains([]string{ipam.NoPool, ipam.AddressNotInPool, ipam.FamilyUnavailable}, reason):
		e.add(problems(broken)...)
		said.Remedy = ""
		e.add(said)
	case reason == ipam.NoPool && len(e.Snapshot.Pools) == 0:
		said.Remedy = "create an IPAddressPool"
		e.add(said)
	default:
		e.add(said)
	}
}

// unwritten says that the controller would act, and does not.
func (e *explanation) unwritten(out *ipam.Outcome) {
	f := finding.Finding{
		Level: finding.Error, About: e.about(), Reason: "NotWritten",
		Message: "the status holds " + addresses(e.svc.Ingress) + "; it should hold " + addresses(out.Addresses) + ", which the controller has not written",
		Remedy:  "look again in a moment; if it stays, read the controller's log",
	}
	c := e.Install.Controller
	if e.Install.Found && c.Ready == 0 {
		f.Reason = "ControllerDown"
		f.Message = "no controller is ready, so " + addresses(out.Addresses) + " cannot be given to the Service"
		f.Remedy = "see why its Pods are not ready: kubectl -n " + e.Install.Namespace + " describe pods -l app.kubernetes.io/component=controller"
		if c.Name == "" {
			f.Remedy = "install the chart's controller"
		}
	}
	e.add(f)
}

func addresses(list []netip.Addr) string {
	if len(list) == 0 {
		return "no address"
	}
	parts := make([]string, len(list))
	for i, a := range list {
		parts[i] = a.String()
	}
	return strings.Join(parts, ", ")
}

// allocationRemedy says what to do about a reason of the contract.
func allocationRemedy(reason string) string {
	switch reason {
	case ipam.NoPool:
		return "create a pool for the Service, set autoAssign on one, or correct the pool's name in the annotation heraldlb.io/address-pool"
	case ipam.PoolExhausted:
		return "add addresses to a pool, or delete Services that are not needed"
	case ipam.PoolPaused:
		return "set spec.paused of the pool to false"
	case ipam.NotPermitted:
		return "admit the Service in the pool's serviceAllocation, or ask for another pool"
	case ipam.QuotaExceeded:
		return "raise the pool's namespaceQuota, or delete Services of the namespace"
	case ipam.AddressInUse:
		return "ask for another address, or free this one"
	case ipam.AddressNotInPool:
		return "ask for an address that a pool has, or add it to one"
	case ipam.AddressReserved:
		return "ask for another address, or delete the IPReservation"
	case ipam.SharingConflict:
		return "give both Services the same key in heraldlb.io/allow-shared-ip, different ports, and externalTrafficPolicy Cluster or equal selectors"
	case ipam.FamilyUnavailable:
		return "add addresses of the family to a pool, or set ipFamilyPolicy to PreferDualStack or SingleStack"
	case ipam.InvalidRequest:
		return "correct the Service's annotations"
	}
	return ""
}

// pools lists all pools in the order of their names, with what each is to the Service.
func (e *explanation) pools() []Pool {
	var out []Pool
	for _, p := range e.Snapshot.Pools {
		counts := e.Plan.Pools[p.Name]
		row := Pool{Name: p.Name, InForce: true, AutoAssign: p.AutoAssign, FreeIPv4: counts.IPv4.Available, FreeIPv6: counts.IPv6.Available}
		row.Candidate, row.Why = e.candidate(p)
		out = append(out, row)
	}
	for _, problem := range left(e.ProblemsOf(poolKind)) {
		if !slices.ContainsFunc(out, func(p Pool) bool { return p.Name == problem.Name }) {
			out = append(out, Pool{Name: problem.Name, Why: "left out: " + problem.Message})
		}
	}
	slices.SortFunc(out, func(a, b Pool) int { return compare(a.Name, b.Name) })
	return out
}

// candidate reports whether a pool is one that the Service may have addresses from, and why or why not.
func (e *explanation) candidate(p *config.Pool) (bool, string) {
	asked := slices.Contains(e.svc.Request.Pools, p.Name)
	byAddress := slices.ContainsFunc(e.svc.Request.Addresses, p.Contains)
	switch {
	case p.Scoped && !slices.Contains(e.svc.Admitted, p.Name):
		return false, "admits only " + p.Admits
	case len(e.svc.Request.Pools) > 0 && !asked:
		return false, "the Service asks for " + strings.Join(e.svc.Request.Pools, ", ")
	case len(e.svc.Request.Addresses) > 0 && !byAddress:
		return false, "does not have the address that the Service asks for"
	case p.Paused:
		return false, "paused"
	case asked:
		return true, "asked for by name"
	case byAddress:
		return true, "has the address asked for"
	case !p.AutoAssign:
		return false, "gives addresses on request only (autoAssign: false)"
	case p.Scoped:
		return true, "admits the Service (" + p.Admits + ")"
	}
	return true, "gives addresses to every Service"
}
