package speaker

import (
	"maps"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
)

// comeback holds a speaker back whose link came up: the others may have taken its addresses over, and it finds them dead one by one, or alive.
type comeback struct {
	up    map[string]bool // interfaces that were up when last looked at
	since time.Time       // when one came up, and no other speaker has told since what it knows; zero: all is well
}

// askEvery is how often the others are asked what they know, when it matters.
const askEvery = 250 * time.Millisecond

// check reports for how long no address should be taken, given the interfaces, how many speakers there should be, and when one of them told
// last what it knows; 0: need not hold back.
func (c *comeback) check(now time.Time, links []config.Interface, known int, heard time.Time) time.Duration {
	first := c.up == nil
	was := c.up
	c.up = make(map[string]bool, len(links))
	for _, l := range links {
		if l.Up && len(l.Subnets) > 0 {
			c.up[l.Name] = true
			if !first && !was[l.Name] {
				c.since = now
			}
		}
	}
	left := settleMost - now.Sub(c.since)
	if c.since.IsZero() || known <= 1 || heard.After(c.since) || left <= 0 {
		c.since = time.Time{}
		return 0
	}
	return min(left, askEvery)
}

const (
	// rivalMemory is how long a speaker that was heard only on the wire is given way to after its last claim.
	rivalMemory = 10 * time.Second
	// defendEvery bounds how often an address is announced again because somebody else claims it (RFC 5227 section 2.4, DEFEND_INTERVAL).
	defendEvery = 10 * time.Second
	// challengeEvery takes its place for another speaker, which gives way, or insists, as soon as it hears us.
	challengeEvery = 900 * time.Millisecond
	// disputeEnds is how long after its last claim another is a new dispute.
	disputeEnds = 3 * time.Second
)

// rival is a speaker that was heard on the wire to answer for an address.
type rival struct {
	node    string
	last    time.Time
	insists bool // it went on though it must have heard that this node answers, too

	challenged time.Time // when it was first told so in this dispute; zero: not yet
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

// seat is where a hardware address belongs.
type seat struct {
	node string
	told time.Time // when it was told last
}

// staleAfter is how long after a speaker has ceased to tell of a hardware address it is forgotten. One that is not heard any more may still be on
// the wire: what it told last is kept as long as its node is there.
const staleAfter = 10 * time.Minute

// wire remembers who was heard on the wire to claim addresses. A conflict is known only while the address is answered for; without memory a
// speaker that gave way would take the address again at once.
type wire struct {
	macs     map[string]seat // of each hardware address that gossip has told of
	pruned   time.Time
	rivals   map[netip.Addr]rival
	defended map[netip.Addr]time.Time
}

func newWire() wire {
	return wire{macs: map[string]seat{}, rivals: map[netip.Addr]rival{}, defended: map[netip.Addr]time.Time{}}
}

// learn notes which member has which hardware addresses, and now and then forgets those of nodes that are gone from the cluster, and those that live
// members have not any more.
func (w *wire) learn(now time.Time, f decide.Facts) {
	live := make(map[string]bool, len(f.Members))
	for _, m := range f.Members {
		live[m.Node] = true
		for _, l := range m.Interfaces {
			if l.MAC != "" {
				w.macs[l.MAC] = seat{m.Node, now}
			}
		}
	}
	if !f.Config.Synced || now.Sub(w.pruned) < staleAfter/10 {
		return
	}
	w.pruned = now
	there := make(map[string]bool, len(f.Config.Nodes))
	for _, n := range f.Config.Nodes {
		there[n.Name] = true
	}
	maps.DeleteFunc(w.macs, func(_ string, s seat) bool {
		return now.Sub(s.told) > staleAfter && (live[s.node] || !there[s.node])
	})
}

// hear takes in what was heard, and returns the speakers to give way to by address, those of the addresses for which they insist, and after
// what time the first of them is forgotten (0: there is none). A foreign device that claims an address is no speaker, and not given way to.
func (w *wire) hear(now time.Time, self string, conflicts []l2.Conflict) (heard map[netip.Addr]string, insists map[netip.Addr]bool, again time.Duration) {
	for _, c := range conflicts {
		was := w.rivals[c.Addr]
		belongs, ok := w.macs[c.MAC]
		node := belongs.node
		if !ok || node == self || !c.Last.After(was.last) {
			continue
		}
		next := rival{node: node, last: c.Last}
		if was.node == node && c.Last.Sub(was.last) < disputeEnds {
			next.challenged = was.challenged
		}
		next.insists = was.node == node && was.insists || !next.challenged.IsZero() && c.Last.Sub(next.challenged) > hearing
		w.rivals[c.Addr] = next
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

// defend returns the addresses that somebody else has claimed since they were last defended, and that it is time to announce again; and after
// what time it will be for others (0: for none).
func (w *wire) defend(now time.Time, conflicts []l2.Conflict) (out []netip.Addr, again time.Duration) {
	disputed := make(map[netip.Addr]bool, len(conflicts))
	for _, c := range conflicts {
		disputed[c.Addr] = true
		every := defendEvery
		if w.speaks(c.MAC) {
			every = challengeEvery
		}
		last, ok := w.defended[c.Addr]
		if ok && !c.Last.After(last) {
			continue
		}
		if left := every - now.Sub(last); ok && left > 0 {
			again = sooner(again, left)
			continue
		}
		w.defended[c.Addr] = now
		if r, ok := w.rivals[c.Addr]; ok && r.challenged.IsZero() {
			r.challenged = now
			w.rivals[c.Addr] = r
		}
		out = append(out, c.Addr)
	}
	for a := range w.defended {
		if !disputed[a] {
			delete(w.defended, a)
		}
	}
	return out, again
}
