package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// claim is one Service with what it has.
type claim struct {
	svc      *config.Service
	invalid  refusal // the request cannot be understood, or no address could ever meet it
	hopeless refusal // what it lacks cannot be given whatever comes free; what it has it keeps
	named    bool    // asks for addresses by name, so it comes before those that take any
	have     [2]held // by familyIndex
	left     []netip.Addr
	why      []Release  // what its status shows and it must give up, with the reason
	refused  [2]refusal // by familyIndex: why an address is missing
	ours     bool       // the status shows an address of one of the pools
	outcome  *Outcome
	gone     bool

	// In the course of a plan.
	next *config.Service // the Service as it is now; not nil: the claim is judged anew
	last past
}

// past is what a claim was when the last plan was made.
type past struct {
	svc  *config.Service
	held []netip.Addr
	left []netip.Addr // shown by the status, though it had to be given up
}

// held is an address with the pool it comes from; a nil pool is one that is left out for the time being.
type held struct {
	addr netip.Addr
	pool *pool
}

// enter takes in the Service as it is now.
func (c *claim) enter() {
	c.svc, c.next = c.next, nil
	c.invalid = contradiction(c.svc)
	c.hopeless = refusal{}
	if f := c.families(); c.svc.FamilyPolicy == config.RequireDualStack && len(f) == 1 {
		c.hopeless = refusal{FamilyUnavailable, "the Service requires both families, but the cluster gave it " + f[0].String() + " only"}
	}
	c.named = named(c.svc)
	c.left, c.why, c.refused, c.ours = nil, nil, [2]refusal{}, false
}

func named(s *config.Service) bool { return len(s.Request.Addresses) > 0 }

// frozen reports whether the Service keeps what it has and gets nothing.
func (c *claim) frozen() bool { return c.svc.Deleting || c.svc.Waiting }

// families returns the families that the Service wants an address of.
func (c *claim) families() []config.Family {
	if s := c.svc; s.FamilyPolicy == config.SingleStack && len(s.Families) > 1 {
		return s.Families[:1]
	}
	return c.svc.Families
}

// lacks reports whether the Service waits for an address that it may get one day.
func (c *claim) lacks() bool {
	return !c.frozen() && c.invalid.reason == "" && c.hopeless.reason == "" && slices.ContainsFunc(c.families(), c.missing)
}

func (c *claim) missing(f config.Family) bool { return !c.have[familyIndex(f)].addr.IsValid() }

// allOrNothing reports whether the Service takes all of what it is missing or nothing of it.
func (c *claim) allOrNothing() bool {
	return c.svc.FamilyPolicy == config.RequireDualStack || c.named
}

// requested returns the address of the family that the Service asks for by name.
func (c *claim) requested(f config.Family) (netip.Addr, bool) {
	for _, a := range c.svc.Request.Addresses {
		if config.FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// holds lists the addresses it has.
func (c *claim) holds() []netip.Addr {
	var out []netip.Addr
	for _, h := range c.have {
		if h.addr.IsValid() {
			out = append(out, h.addr)
		}
	}
	return out
}

// demoted reports whether the claim comes after all others that the status of shows the address: it is the one that changed and may not fit
// those any more who share the address with it.
func (c *claim) demoted(a netip.Addr) bool {
	return slices.Contains(c.last.left, a) || slices.Contains(c.last.held, a) && !fitsAsBefore(c.last.svc, c.svc)
}

func fitsAsBefore(a, b *config.Service) bool {
	return a.SharingKey == b.SharingKey && a.TrafficPolicy == b.TrafficPolicy && a.Backend == b.Backend && slices.Equal(a.Ports, b.Ports)
}

// senior orders claims by age: creation, then key.
func senior(a, b *claim) int {
	return cmp.Or(a.svc.Created.Compare(b.svc.Created), a.svc.Key.Compare(b.svc.Key), strings.Compare(a.svc.UID, b.svc.UID))
}

// ranked orders claims as they are served: those that ask for addresses by name first, then by age.
func ranked(a, b *claim) int {
	if a.named != b.named {
		if a.named {
			return -1
		}
		return 1
	}
	return senior(a, b)
}

// insert puts a claim into a list in order of rank.
func insert(list []*claim, c *claim) []*claim {
	i, found := slices.BinarySearchFunc(list, c, ranked)
	if found {
		return list
	}
	return slices.Insert(list, i, c)
}

// remove takes a claim out of such a list.
func remove(list []*claim, c *claim) []*claim {
	i, found := slices.BinarySearchFunc(list, c, ranked)
	if !found {
		return list
	}
	return slices.Delete(list, i, i+1)
}

// alike reports whether two versions of a Service are the same to a plan.
func alike(a, b *config.Service) bool {
	return a.Deleting == b.Deleting && a.Waiting == b.Waiting && a.FamilyPolicy == b.FamilyPolicy && a.ForeignStatus == b.ForeignStatus &&
		a.Allocated == b.Allocated && a.Request.Invalid == b.Request.Invalid && a.Created.Equal(b.Created) && fitsAsBefore(a, b) &&
		slices.Equal(a.Families, b.Families) && slices.Equal(a.Ingress, b.Ingress) && slices.Equal(a.Admitted, b.Admitted) &&
		slices.Equal(a.Request.Pools, b.Request.Pools) && slices.Equal(a.Request.Addresses, b.Request.Addresses)
}

// familyIndex is the place of a family in per-family arrays.
func familyIndex(f config.Family) int {
	if f == config.IPv4 {
		return 0
	}
	return 1
}
