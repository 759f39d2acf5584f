package speaker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/decide"
)

// retireMost bounds how long a speaker that stops keeps answering for addresses that no other takes over.
const retireMost = 500 * time.Millisecond

// Retire hands this node's addresses over: it says that it drains, asks routers to prefer other nodes, and answers for each address until another
// speaker claims it. It is called after Run has returned, and ends early with ctx.
func (s *Speaker) Retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, retireMost)
	defer cancel()
	if s.routing != nil { // which takes its time, too
		draining := *s.routing
		draining.Draining = true
		s.opt.BGP.Set(draining)
	}
	self := s.self() // which has claims if this run has said anything; else it voids those of an earlier one, that is still waited for
	self.State = decide.Draining
	s.opt.Gossip.Publish(self)
	s.announced = slices.DeleteFunc(slices.Clone(s.announced), func(a decide.L2Address) bool { return a.For != "" })
	if s.pulse.silent { // it stood still, and what it had is others' by now
		s.announced = nil
	}
	since := map[netip.Addr]time.Time{} // when another was seen to have taken an address
	for {
		wait := s.handOver(time.Now(), since)
		s.opt.L2.Set(s.announced, s.opt.Links.Interfaces())
		if len(s.announced) == 0 || s.alone() {
			break
		}
		var over <-chan time.Time
		if wait > 0 {
			over = time.After(wait)
		}
		select {
		case <-s.opt.Gossip.Changed():
			continue
		case <-over:
			continue
		case <-ctx.Done():
		}
		break
	}
	s.announced = slices.DeleteFunc(s.announced, s.taken)
	for _, a := range s.announced {
		s.opt.Log.Warn("stopping, and no other speaker took the address over", "address", a.Addr)
	}
	s.announced, s.claims = nil, nil
	s.opt.L2.Set(nil, s.opt.Links.Interfaces())
	s.opt.Reporter.Report(Report{Troubles: []Trouble{{Reason: v1beta1.SpeakerStopped, Message: "the speaker of this node was stopped"}}})
}

// handOver drops the addresses that others have taken, and had time to open their sockets for; it returns how long until the next one is.
func (s *Speaker) handOver(now time.Time, since map[netip.Addr]time.Time) (wait time.Duration) {
	s.announced = slices.DeleteFunc(slices.Clone(s.announced), func(a decide.L2Address) bool {
		if !s.taken(a) {
			return false
		}
		if since[a.Addr].IsZero() {
			since[a.Addr] = now
		}
		left := lingerMost - now.Sub(since[a.Addr])
		if left > 0 {
			wait = sooner(wait, left)
		}
		return left <= 0
	})
	return wait
}

// pauseMost is how long a speaker that restarts goes on answering after it has said so: until another stands in for it.
const pauseMost = 300 * time.Millisecond

// Pause says that this speaker is about to be back, so that its claims stand and another answers in its name meanwhile, and goes on
// answering until that one does. It is called after Run has returned, instead of Retire, and ends early with ctx.
func (s *Speaker) Pause(ctx context.Context) {
	if !s.published {
		return // an earlier run's word stands
	}
	self := s.self()
	self.State = decide.Restarting
	s.opt.Gossip.Publish(self)
	if s.alone() {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pauseMost):
	}
}

// taken reports whether another live speaker claims the address.
func (s *Speaker) taken(a decide.L2Address) bool {
	view := s.opt.Gossip.View()
	return view != nil && slices.ContainsFunc(view.Members, func(m decide.Member) bool {
		_, claims := m.Claims[a.Addr]
		return claims && m.Node != s.opt.Node
	})
}

// alone reports whether there is no other live speaker.
func (s *Speaker) alone() bool {
	view := s.opt.Gossip.View()
	return view == nil || !slices.ContainsFunc(view.Members, func(m decide.Member) bool { return m.Node != s.opt.Node })
}
