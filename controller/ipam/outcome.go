package ipam

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// equal reports whether two outcomes say the same of the same version of a Service.
func (o *Outcome) equal(b *Outcome) bool {
	return o.Service == b.Service && o.Keep == b.Keep && o.Changed == b.Changed && o.Allocated == b.Allocated &&
		slices.Equal(o.Addresses, b.Addresses) && slices.Equal(o.Pools, b.Pools) && slices.Equal(o.Released, b.Released)
}

// Compare orders outcomes as Plan.Due does.
func (o *Outcome) Compare(b *Outcome) int {
	return ranked(&claim{svc: o.Service, named: named(o.Service)}, &claim{svc: b.Service, named: named(b.Service)})
}

func foreignMessage(s *config.Service, why string) string {
	what := "its status"
	if len(s.Ingress) > 0 {
		what = joinAddrs(s.Ingress)
	}
	return what + " was not given by Herald and is left as it is; " + why
}

func joinAddrs(addrs []netip.Addr) string {
	parts := make([]string, len(addrs))
	for i, a := range addrs {
		parts[i] = a.String()
	}
	return strings.Join(parts, ", ")
}

// Event tells a user of a transition. It is due once, when the status that goes with it has been written.
type Event struct {
	Reason  string
	Message string
	Warning bool
}

// The reasons of events about assignment.
const (
	AddressAssigned  = "AddressAssigned"
	AddressReleased  = "AddressReleased"
	AllocationFailed = "AllocationFailed"
)

// Events returns what changes for the Service when the outcome is written over the status it was made from.
func (o *Outcome) Events() []Event {
	var out []Event
	for _, r := range o.Released {
		out = append(out, Event{AddressReleased, "released " + r.Addr.String() + ": " + r.Why, !r.Asked})
	}
	for i, a := range o.Addresses {
		if !slices.Contains(o.Service.Ingress, a) {
			out = append(out, Event{AddressAssigned, "assigned " + a.String() + " from pool " + o.Pools[i], false})
		}
	}
	was := o.Service.Allocated
	if o.Allocated.Status == "False" && (was.Status != "False" || was.Reason != o.Allocated.Reason) {
		out = append(out, Event{AllocationFailed, o.Allocated.Message, true})
	}
	return out
}
