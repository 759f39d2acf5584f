package ipam

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/config"
)

// Reasons of heraldlb.io/Allocated being False; the public contract fixes the names.
const (
	NoPool            = "NoPool"
	PoolExhausted     = "PoolExhausted"
	PoolPaused        = "PoolPaused"
	NotPermitted      = "NotPermitted"
	QuotaExceeded     = "QuotaExceeded"
	AddressInUse      = "AddressInUse"
	AddressNotInPool  = "AddressNotInPool"
	AddressReserved   = "AddressReserved"
	SharingConflict   = "SharingConflict"
	FamilyUnavailable = "FamilyUnavailable"
	InvalidRequest    = "InvalidRequest"
)

// refusal says why something is not given: a reason of the contract and a message for a person. The zero value refuses nothing.
type refusal struct{ reason, message string }

// contradiction says why no address could ever meet what the Service asks for.
func contradiction(s *config.Service) refusal {
	switch {
	case s.Request.Invalid != "":
		return refusal{InvalidRequest, s.Request.Invalid}
	case len(s.Families) == 0:
		return refusal{FamilyUnavailable, "the Service has no IP family"}
	}
	families := (&claim{svc: s}).families()
	for i, a := range s.Request.Addresses {
		f := config.FamilyOf(a)
		if !slices.Contains(families, f) {
			return refusal{InvalidRequest, a.String() + " is asked for, but the Service has no " + f.String() + " family"}
		}
		if earlier := s.Request.Addresses[:i]; slices.ContainsFunc(earlier, func(b netip.Addr) bool { return config.FamilyOf(b) == f }) {
			return refusal{InvalidRequest, "more than one " + f.String() + " address is asked for"}
		}
	}
	return refusal{}
}

// refuse says why a Service may not have a certain address, asked for by name, reserved for it, or shared with others.
func (p *Planner) refuse(c *claim, a netip.Addr) refusal {
	name := a.String()
	in := p.poolOf(a)
	switch {
	case in == nil, in.Gone:
		return refusal{AddressNotInPool, "no pool contains " + name}
	case len(c.svc.Request.Pools) > 0 && !slices.Contains(c.svc.Request.Pools, in.Name):
		return refusal{AddressNotInPool, name + " is in pool " + in.Name + ", and the Service asks for pool " + strings.Join(c.svc.Request.Pools, " or ")}
	case !in.admits(c.svc):
		return refusal{NotPermitted, name + " is in pool " + in.Name + ", which " + in.admitsText()}
	case in.excludes(a):
		return refusal{AddressNotInPool, name + " is excluded from pool " + in.Name}
	case !in.gives(a):
		return refusal{AddressNotInPool, name + " ends in .0 or .255, which pool " + in.Name + " avoids (avoidBuggyIPs)"}
	case in.Paused:
		return refusal{PoolPaused, name + " is in pool " + in.Name + ", which is paused"}
	}
	s := p.slots[a]
	if s == nil {
		s = &slot{}
	}
	switch {
	case s.others():
		return refusal{AddressInUse, name + s.othersText()}
	case s.booking != nil && s.booking.service != c.svc.Key:
		return refusal{AddressReserved, name + " is reserved for Service " + s.booking.service.String() + s.booking.by()}
	}
	if x := s.obstacle(c); x != nil {
		return x.refusal(name, c)
	}
	f := config.FamilyOf(a)
	if p.overQuota(c, in, f) && !s.heldIn(c.svc.Namespace) {
		return refusal{QuotaExceeded, name + " is in pool " + in.Name + ": " + in.quotaText(c.svc.Namespace, f)}
	}
	return refusal{}
}

func (s *slot) othersText() string {
	if s.node != "" {
		return " is an address of node " + s.node
	}
	return " is held by " + s.foreign
}

func (b *booking) by() string {
	if b.name == "" {
		return ", which held it last"
	}
	return " (IPReservation " + b.name + ")"
}

// refusal says that another Service is in the way.
func (x *clash) refusal(name string, c *claim) refusal {
	out := refusal{AddressInUse, name + " is held by Service " + x.other.svc.Key.String()}
	if x.leaving {
		out.message = name + " is being given up by Service " + x.other.svc.Key.String()
	}
	if c.svc.SharingKey != "" {
		out.reason = SharingConflict
		out.message += ": " + x.why
	}
	return out
}

// barrier says why a pool gives a Service no address of the family, whatever may be free; the zero value when it may.
func (p *Planner) barrier(c *claim, in *pool, f config.Family) refusal {
	switch {
	case in.Gone:
		return refusal{NoPool, "does not exist any more"}
	case !in.admits(c.svc):
		return refusal{NotPermitted, in.admitsText()}
	case in.spaces[familyIndex(f)].total == 0:
		return refusal{FamilyUnavailable, "has no " + f.String() + " addresses"}
	case !in.AutoAssign && len(c.svc.Request.Pools) == 0:
		return refusal{NoPool, "on request only (autoAssign is false)"}
	case in.Paused:
		return refusal{PoolPaused, "paused"}
	}
	return refusal{}
}

func (p *pool) quotaText(namespace string, f config.Family) string {
	return "namespace " + namespace + " holds " + strconv.Itoa(p.spaces[familyIndex(f)].held[namespace]) + " of at most " +
		strconv.Itoa(p.NamespaceQuota) + " " + f.String()
}

// stands says why a pool has no address for a Service as things are; the zero value when it has.
func (p *Planner) stands(c *claim, in *pool, f config.Family) refusal {
	if r := p.barrier(c, in, f); r.reason != "" {
		return r
	}
	if p.overQuota(c, in, f) {
		return refusal{QuotaExceeded, in.quotaText(c.svc.Namespace, f)}
	}
	if n := in.spaces[familyIndex(f)].note(in); n.exhausted {
		return refusal{PoolExhausted, n.text(f)}
	}
	return refusal{}
}

// maxWalk bounds how many pools a message goes through.
const maxWalk = 20

// closeness ranks reasons: the pool that came closest to giving an address is the one to mend first.
func closeness(reason string) int {
	return slices.Index([]string{"", NoPool, FamilyUnavailable, NotPermitted, PoolPaused, QuotaExceeded, PoolExhausted}, reason)
}

// lacking says why no pool has an address of the family for the Service: it goes through all that come into question.
func (p *Planner) lacking(c *claim, f config.Family) refusal {
	var out refusal
	var text []string
	more := 0
	add := func(name string, r refusal) {
		if closeness(r.reason) > closeness(out.reason) {
			out.reason = r.reason
		}
		if len(text) == maxWalk {
			more++
			return
		}
		text = append(text, name+": "+r.message)
	}
	for _, name := range c.svc.Request.Pools {
		if p.byName[name] == nil {
			add(name, refusal{NoPool, "does not exist or is left out"})
		}
	}
	for in := range p.candidates(c) {
		r := p.stands(c, in, f)
		if r.reason == "" {
			return refusal{}
		}
		add(in.Name, r)
	}
	if out.reason == "" {
		return refusal{NoPool, "there is no IPAddressPool"}
	}
	out.message = strings.Join(text, "; ")
	if more > 0 {
		out.message += "; and " + strconv.Itoa(more) + " more"
	}
	return out
}
