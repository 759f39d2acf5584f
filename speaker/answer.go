package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/member"
)

// answer hands the Layer 2 part out: the claims to gossip, the addresses to the responders. It returns after what time to do so again (0: need
// not).
func (s *Speaker) answer(facts decide.Facts, desired decide.Desired) time.Duration {
	now, before := facts.Now, s.announced
	news := !sameSlice(before, desired.L2)
	if news {
		s.linger.hand(now, before, desired.L2, func(a decide.L2Address) bool { return backs(facts, a) })
	}
	s.claims, s.announced = desired.Claims, desired.L2
	s.publish()
	lingering, wait := s.linger.still(now)
	answers := desired.L2
	if len(lingering) > 0 {
		answers = slices.Concat(answers, lingering)
	}
	s.opt.L2.Set(answers, s.opt.Links.Interfaces())
	if news {
		s.compare(before, desired.L2)
	}
	return wait
}

// sameSlice reports whether two slices are one. A Decider gives the same again when nothing changed.
func sameSlice(a, b []decide.L2Address) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// compare logs and counts what became of the answers.
func (s *Speaker) compare(before, after []decide.L2Address) {
	was := make(map[netip.Addr]decide.L2Address, len(before))
	for _, a := range before {
		was[a.Addr] = a
	}
	for _, a := range after {
		old, had := was[a.Addr]
		delete(was, a.Addr)
		s.tell(a, old, had)
	}
	for _, a := range slices.SortedFunc(maps.Keys(was), netip.Addr.Compare) {
		if of := was[a].For; of != "" {
			s.opt.Log.Info("no longer standing in", "address", a, "node", of)
			continue
		}
		s.opt.Log.Info("no longer answering for address", "address", a)
	}
}

// lingerMost is how long a node goes on answering for an address after another node has claimed it that was to have it: that one says so when
// it begins to open its sockets, and nobody must find the address unanswered. The node that hands over forwards meanwhile.
const lingerMost = 50 * time.Millisecond

// standInMore is the same for a node that stood in for another, which is back. Both answer alike.
const standInMore = 300 * time.Millisecond

// backs reports whether the node that this one stood in for is back and has the address.
func backs(facts decide.Facts, a decide.L2Address) bool {
	i := slices.IndexFunc(facts.Members, func(m decide.Member) bool { return m.Node == a.For })
	if i < 0 {
		return false
	}
	_, claims := facts.Members[i].Claims[a.Addr]
	return claims
}

// linger is what this node has handed over and still answers for.
type linger map[netip.Addr]lingering

type lingering struct {
	decide.L2Address
	until time.Time
}

// hand compares what was answered for with what is to be. back tells whether the node stood in for is.
func (l linger) hand(now time.Time, was, is []decide.L2Address, back func(decide.L2Address) bool) {
	has := make(map[netip.Addr]bool, len(is))
	for _, a := range is {
		has[a.Addr] = true
		delete(l, a.Addr)
	}
	for _, a := range was {
		switch {
		case has[a.Addr]:
		case a.Taken == decide.HandedOn:
			l[a.Addr] = lingering{a, now.Add(lingerMost)}
		case a.For != "" && back(a):
			l[a.Addr] = lingering{a, now.Add(standInMore)}
		}
	}
}

// still returns what is to be answered for a little longer, and how long that is.
func (l linger) still(now time.Time) (out []decide.L2Address, wait time.Duration) {
	for a, x := range l {
		left := x.until.Sub(now)
		if left <= 0 {
			delete(l, a)
			continue
		}
		out = append(out, x.L2Address)
		wait = sooner(wait, left)
	}
	return out, wait
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

// correct announces everything again when a speaker is heard again that was given up: in a split it may have answered for the same addresses, and
// have ceased to before this one could hear of it. The neighbours of either side then believe one node.
func (s *Speaker) correct(view *member.View) {
	if view == nil {
		return
	}
	there := func(node string) bool {
		return slices.ContainsFunc(view.Members, func(m decide.Member) bool { return m.Node == node })
	}
	before := len(s.lost)
	s.lost = slices.DeleteFunc(s.lost, there)
	back := len(s.lost) < before
	for _, node := range view.Missing {
		if !slices.Contains(s.lost, node) {
			s.lost = append(s.lost, node)
		}
	}
	for _, a := range s.announced {
		if back && a.For == "" && a.Taken != decide.HandedOn {
			s.opt.L2.Announce(a.Addr)
		}
	}
}

// defend repeats the announcement of addresses that somebody else has claimed. It returns after what time to look again (0: need not).
func (s *Speaker) defend(now time.Time) time.Duration {
	out, again := s.wire.defend(now, s.opt.L2.Conflicts())
	for _, a := range out {
		i := slices.IndexFunc(s.announced, func(x decide.L2Address) bool { return x.Addr == a })
		if i >= 0 && s.announced[i].For == "" && s.announced[i].Taken != decide.HandedOn {
			s.opt.L2.Announce(a)
		}
	}
	return again
}
