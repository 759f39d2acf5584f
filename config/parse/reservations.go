package parse

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// reservationSpec is an IPReservation's spec as values.
type reservationSpec struct {
	addresses []netip.Addr // IPv4 first
	service   config.Key
	expires   time.Time // zero: never
}

func (s *reservationSpec) expired(now time.Time) bool {
	return !now.IsZero() && !s.expires.IsZero() && !now.Before(s.expires)
}

func parseReservation(o *v1beta1.IPReservation) (reservationSpec, []config.Problem) {
	spec := reservationSpec{service: config.Key{Namespace: o.Spec.Service.Namespace, Name: o.Spec.Service.Name}}
	if o.Spec.ExpiresAt != nil {
		spec.expires = o.Spec.ExpiresAt.Time
	}
	var problems []config.Problem
	bad := func(field, reason, message string) {
		problems = append(problems, config.Problem{Field: field, Reason: reason, Message: message})
	}
	for i, text := range o.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		r, err := parseRange(text)
		switch {
		case err != nil:
			bad(field, InvalidAddress, err.Error())
		case strings.ContainsAny(text, "-/"):
			bad(field, InvalidAddress, fmt.Sprintf("%q is not one address", text))
		case slices.ContainsFunc(spec.addresses, func(a netip.Addr) bool { return a.BitLen() == r.From.BitLen() }):
			bad(field, InvalidAddress, fmt.Sprintf("%s is a second address of one family (%s), of which a Service holds one", r.From, config.FamilyOf(r.From)))
		default:
			spec.addresses = append(spec.addresses, r.From)
		}
	}
	if len(o.Spec.Addresses) == 0 {
		bad("spec.addresses", InvalidAddress, "the reservation has no addresses")
	}
	if spec.service.Namespace == "" || spec.service.Name == "" {
		bad("spec.service", InvalidService, "namespace and name of a Service are needed")
	}
	slices.SortFunc(spec.addresses, netip.Addr.Compare)
	return spec, problems
}

func (w *world) parseReservations(objs []*v1beta1.IPReservation) []*config.Reservation {
	byName := make(map[string]*v1beta1.IPReservation, len(objs))
	for _, o := range objs {
		w.see(KindReservation, o, o.Status.Conditions)
		byName[o.Name] = o
	}
	taken := make(map[netip.Addr]string) // by the name of the reservation in force
	var out []*config.Reservation
	for _, d := range update(&w.memory.reserved, objs, parseReservation) {
		ref := config.Ref{Kind: KindReservation, Name: d.name}
		spec := settle(w, ref, d, func(s *reservationSpec) *config.Problem { return alreadyReserved(taken, s, w.now) })
		if spec == nil {
			continue
		}
		o, expired := byName[d.name], spec.expired(w.now)
		if expired {
			w.report(ref, []config.Problem{{Field: "spec.expiresAt", Reason: Expired, Message: "the reservation has ended; delete it, or give it a later end"}}, false)
		} else {
			for _, a := range spec.addresses {
				taken[a] = d.name
			}
			w.report(ref, w.unusableReservation(spec), false)
		}
		out = append(out, reuse(d, &config.Reservation{
			Name: o.Name, UID: string(o.UID), Created: o.CreationTimestamp.Time, Addresses: spec.addresses, Service: spec.service,
			ExpiresAt: spec.expires, Expired: expired, Retained: o.Labels[RetainedLabel] == "true",
		}, equalReservations))
	}
	slices.SortFunc(out, func(a, b *config.Reservation) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// alreadyReserved finds an older reservation in force of one of the addresses.
func alreadyReserved(taken map[netip.Addr]string, spec *reservationSpec, now time.Time) *config.Problem {
	if spec.expired(now) {
		return nil
	}
	for _, a := range spec.addresses {
		if other, ok := taken[a]; ok {
			return &config.Problem{
				Field: "spec.addresses", Reason: AddressReserved,
				Message: fmt.Sprintf("%s is in the older IPReservation %s; delete one of the two", a, other),
			}
		}
	}
	return nil
}

// unusableReservation says which of the addresses no Service can get.
func (w *world) unusableReservation(spec *reservationSpec) []config.Problem {
	var problems []config.Problem
	warn := func(reason, format string, args ...any) {
		problems = append(problems, config.Problem{Field: "spec.addresses", Reason: reason, Warning: true, Message: fmt.Sprintf(format, args...)})
	}
	for _, a := range spec.addresses {
		pool := w.poolWith(a)
		if pool == nil {
			warn(AddressNotInPool, "%s is in no IPAddressPool in force, so no Service gets it", a)
			continue
		}
		if contains(pool.excluded, a) {
			warn(AddressExcluded, "%s is excluded in IPAddressPool %s, so no Service gets it", a, pool.name)
		}
		if contains(w.around().nodes.merged, a) {
			warn(NodeAddress, "%s is an address of a node, so no Service gets it", a)
		}
	}
	return problems
}

func equalReservations(a, b *config.Reservation) bool {
	return a.Name == b.Name && a.UID == b.UID && a.Created.Equal(b.Created) && slices.Equal(a.Addresses, b.Addresses) && a.Service == b.Service &&
		a.ExpiresAt.Equal(b.ExpiresAt) && a.Expired == b.Expired && a.Retained == b.Retained
}
