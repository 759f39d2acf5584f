package speaker

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2"
)

// comeback holds a speaker back whose link came up while it hears nobody: the others, who took its addresses over, are about to be heard.
type comeback struct {
	up    map[string]bool // interfaces that were up when last looked at
	until time.Time
}

// check reports for how long no address should be taken, given the interfaces and whether no other speaker is heard though there should
// be some; 0: need not hold back.
func (c *comeback) check(now time.Time, links []config.Interface, alone bool) time.Duration {
	first := c.up == nil
	was := c.up
	c.up = make(map[string]bool, len(links))
	for _, l := range links {
		if l.Up && len(l.Subnets) > 0 {
			c.up[l.Name] = true
			if !first && !was[l.Name] {
				c.until = now.Add(settleMost)
			}
		}
	}
	if !alone {
		c.until = time.Time{}
	}
	return max(c.until.Sub(now), 0)
}

const (
	// rivalMemory is how long a speaker that was heard only on the wire is given way to after its last claim.
	rivalMemory = 10 * time.Second
	// defendEvery bounds how often an address is announced again because somebody else claims it (RFC 5227 section 2.4, DEFEND_INTERVAL).
	defendEvery = 10 * time.Second
)

// rival is a speaker that was heard on the wire to answer for an address.
type rival struct {
	node    string
	last    time.Time
	insists bool // it went on though it must have heard that this node answers, too
}

const (
	// hearing is how long after an announcement of ours a rival may still speak that has not heard it.
	hearing = 500 * time.Millisecond
	// insisterMemory takes the place of rivalMemory for one that insists: it will again.
	insisterMemory = time.Minute
)

func (r rival) memory() time.Duration {
	if r.insists {
		return insisterMemory
	}
	return rivalMemory
}

// wire remembers who was heard on the wire to claim addresses. A conflict is known only while the address is answered for; without memory a
// speaker that gave way would take the address again at once.
type wire struct {
	macs     map[string]string // node of each hardware address that gossip ever told of
	rivals   map[netip.Addr]rival
	defended map[netip.Addr]time.Time
}

func newWire() wire {
	return wire{macs: map[string]string{}, rivals: map[netip.Addr]rival{}, defended: map[netip.Addr]time.Time{}}
}

// learn notes which node has which hardware addresses.
func (w *wire) learn(node string, links []config.Interface) {
	for _, l := range links {
		if l.MAC != "" {
			w.macs[l.MAC] = node
		}
	}
}

// hear takes in what was heard, and returns the speakers to give way to by address, those of the addresses for which they insist, and after
// what time the first of them is forgotten (0: there is none). A foreign device that claims an address is no speaker, and not given way to.
func (w *wire) hear(now time.Time, self string, conflicts []l2.Conflict) (heard map[netip.Addr]string, insists map[netip.Addr]bool, again time.Duration) {
	for _, c := range conflicts {
		was := w.rivals[c.Addr]
		node, ok := w.macs[c.MAC]
		if !ok || node == self || !c.Last.After(was.last) {
			continue
		}
		defended, spoke := w.defended[c.Addr]
		w.rivals[c.Addr] = rival{
			node: node, last: c.Last,
			insists: was.insists && was.node == node || spoke && c.Last.Sub(defended) > hearing,
		}
	}
	heard, insists = make(map[netip.Addr]string, len(w.rivals)), map[netip.Addr]bool{}
	for a, r := range w.rivals {
		left := r.last.Add(r.memory()).Sub(now)
		if left <= 0 {
			delete(w.rivals, a)
			continue
		}
		heard[a] = r.node
		if r.insists {
			insists[a] = true
		}
		if again == 0 || left < again {
			again = left
		}
	}
	return heard, insists, again
}

// speaks reports whether a hardware address is that of a speaker.
func (w *wire) speaks(mac string) bool {
	_, ok := w.macs[mac]
	return ok
}

// defend returns the addresses that somebody else has claimed since they were last defended, and that it is time to announce again.
func (w *wire) defend(now time.Time, conflicts []l2.Conflict) []netip.Addr {
	var out []netip.Addr
	disputed := make(map[netip.Addr]bool, len(conflicts))
	for _, c := range conflicts {
		disputed[c.Addr] = true
		last, ok := w.defended[c.Addr]
		if ok && (!c.Last.After(last) || now.Sub(last) < defendEvery) {
			continue
		}
		w.defended[c.Addr] = now
		out = append(out, c.Addr)
	}
	for a := range w.defended {
		if !disputed[a] {
			delete(w.defended, a)
		}
	}
	return out
}
