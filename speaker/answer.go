package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
)

// answer hands the Layer 2 part out: the claims to gossip, the addresses to the responders.
func (s *Speaker) answer(desired decide.Desired) {
	was := make(map[netip.Addr]decide.L2Address, len(s.announced))
	for _, a := range s.announced {
		was[a.Addr] = a
	}
	s.claims, s.announced = desired.Claims, desired.L2
	s.publish()
	s.opt.L2.Set(desired.L2, s.opt.Links.Interfaces())
	for _, a := range desired.L2 {
		before, had := was[a.Addr]
		delete(was, a.Addr)
		s.tell(a, before, had)
	}
	for _, a := range slices.SortedFunc(maps.Keys(was), netip.Addr.Compare) {
		if of := was[a].For; of != "" {
			s.opt.Log.Info("no longer standing in", "address", a, "node", of)
			continue
		}
		s.opt.Log.Info("no longer answering for address", "address", a)
	}
}

// tell logs and counts what an answer has become, and repeats the announcement where the neighbours may believe somebody else.
func (s *Speaker) tell(is, was decide.L2Address, had bool) {
	switch {
	case is.For != "":
		if !had || was.For != is.For {
			s.opt.Log.Info("standing in for a speaker that restarts", "address", is.Addr, "node", is.For, "macs", is.MACs)
		}
	case !had || was.For != "":
		s.opt.Log.Info("answering for address", "address", is.Addr, "interfaces", is.Interfaces, "reason", is.Taken)
		if is.Taken != decide.Kept {
			s.counts.add(is.Taken)
		}
	case is.Taken == decide.HandedOn:
		if was.Taken != decide.HandedOn {
			s.opt.Log.Info("address is to go to another node; answering until it does", "address", is.Addr)
		}
	case (was.Taken == decide.Won) != (is.Taken == decide.Won):
		// Another speaker claims it too, or has just ceased to: the neighbours may believe that one.
		s.opt.Log.Info("address was claimed twice; announcing it again", "address", is.Addr)
		s.opt.L2.Announce(is.Addr)
	}
}

// defend repeats the announcement of addresses that somebody else has claimed.
func (s *Speaker) defend(now time.Time) {
	for _, a := range s.wire.defend(now, s.opt.L2.Conflicts()) {
		i := slices.IndexFunc(s.announced, func(x decide.L2Address) bool { return x.Addr == a })
		if i >= 0 && s.announced[i].For == "" && s.announced[i].Taken != decide.HandedOn {
			s.opt.L2.Announce(a)
		}
	}
}

// tally counts the addresses that this node came to answer for, by reason.
type tally struct {
	mu *sync.Mutex
	n  map[decide.Reason]uint64
}

func newTally() tally { return tally{&sync.Mutex{}, map[decide.Reason]uint64{}} }

func (t tally) add(r decide.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[r]++
}

// OwnershipChanges returns how often this node came to answer for an address, by the reason why. It may be called at any time.
func (s *Speaker) OwnershipChanges() map[decide.Reason]uint64 {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return maps.Clone(s.counts.n)
}
