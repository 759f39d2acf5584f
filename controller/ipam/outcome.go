package ipam

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/config"
)

// maxWalk bounds how many pools a message goes through.
const maxWalk = 20

// walk collects what each candidate pool says.
type walk struct {
	text   []string
	more   int
	reason string // of the candidate that came closest
}

// closeness ranks reasons: the pool that came closest to giving an address is the one to mend first.
func closeness(reason string) int {
	return slices.Index([]string{"", NoPool, FamilyUnavailable, PoolExhausted}, reason)
}

func (w *walk) add(pool, text, reason string) {
	if closeness(reason) > closeness(w.reason) {
		w.reason = reason
	}
	if len(w.text) == maxWalk {
		w.more++
		return
	}
	w.text = append(w.text, "pool "+pool+" "+text)
}

func (w *walk) refusal() refusal {
	if w.reason == "" {
		return refusal{NoPool, "there is no IPAddressPool"}
	}
	text := join(w.text, ", ")
	if w.more > 0 {
		text += " and " + strconv.Itoa(w.more) + " more"
	}
	return refusal{w.reason, text}
}

func join(parts []string, sep string) string { return strings.Join(parts, sep) }

// outcome turns the claim into the part of the plan.
func (c *claim) outcome() Outcome {
	o := Outcome{Service: c.svc, Released: c.released}
	if c.svc.Deleting {
		o.Keep, o.Addresses, o.Allocated = true, c.svc.Ingress, c.svc.Allocated
		o.Pools = make([]string, len(o.Addresses))
		return o
	}
	for _, f := range c.families {
		if h := c.have[familyIndex(f)]; h.addr.IsValid() {
			o.Addresses = append(o.Addresses, h.addr)
			o.Pools = append(o.Pools, poolName(h.pool))
		}
	}
	o.Allocated = c.condition(o)
	if c.foreign(o) {
		o.Keep = true
		o.Allocated = config.Condition{Status: "False", Reason: NoPool, Message: foreignMessage(c.svc, o.Allocated.Message)}
		o.Released = nil
	}
	o.Changed = o.Allocated.Status != c.svc.Allocated.Status || o.Allocated.Reason != c.svc.Allocated.Reason ||
		o.Allocated.Message != c.svc.Allocated.Message ||
		!o.Keep && (c.svc.ForeignStatus || !slices.Equal(o.Addresses, c.svc.Ingress))
	return o
}

func poolName(p *pool) string {
	if p == nil {
		return ""
	}
	return p.Name
}

// condition says whether the Service has what it asks for.
func (c *claim) condition(o Outcome) config.Condition {
	why := c.refusal()
	if why.reason != "" && (len(o.Addresses) == 0 || c.allOrNothing()) {
		if why.reason == NoPool && len(o.Addresses) > 0 {
			why.reason = FamilyUnavailable // one family is held: NoPool beside an address marks one that is not ours, see foreign
		}
		message := why.message
		if len(o.Addresses) > 0 {
			message = kept(o) + "; " + message
		}
		return config.Condition{Status: "False", Reason: why.reason, Message: message}
	}
	message := kept(o)
	if why.reason != "" {
		message += "; " + why.message
	}
	return config.Condition{Status: "True", Reason: "Allocated", Message: message}
}

// refusal puts together why families are missing.
func (c *claim) refusal() refusal {
	if c.invalid.reason != "" {
		return c.invalid
	}
	var out refusal
	for _, f := range []config.Family{config.IPv4, config.IPv6} {
		why := c.refused[familyIndex(f)]
		if why.reason == "" {
			continue
		}
		if out.reason == "" {
			out.reason = why.reason
		} else {
			out.message += "; "
		}
		out.message += "no " + f.String() + " address: " + why.message
	}
	return out
}

// kept lists the addresses with their pools.
func kept(o Outcome) string {
	var b strings.Builder
	for i, a := range o.Addresses {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
		if o.Pools[i] == "" {
			b.WriteString(" (kept: its pool is left out for the time being)")
			continue
		}
		b.WriteString(" from pool ")
		b.WriteString(o.Pools[i])
	}
	return b.String()
}

// foreign reports whether the status holds something that Herald never gave, of no pool, and has nothing to replace with. Such a thing
// is not Herald's to take away: another implementation may still serve it. The mark that survives a restart is NoPool beside an address.
func (c *claim) foreign(o Outcome) bool {
	return len(o.Addresses) == 0 && !c.ours && (len(c.svc.Ingress) > 0 || c.svc.ForeignStatus) &&
		(c.svc.Allocated.Status == "" || c.svc.Allocated.Status == "False" && c.svc.Allocated.Reason == NoPool)
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
	return join(parts, ", ")
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
func (o Outcome) Events() []Event {
	var out []Event
	for _, r := range o.Released {
		out = append(out, Event{AddressReleased, "released " + r.Addr.String() + ": " + r.Why, true})
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
