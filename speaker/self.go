package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/member"
)

// self is what this speaker is and claims.
func (s *Speaker) self() decide.Member {
	return decide.Member{
		Node:       s.opt.Node,
		State:      s.state(),
		Started:    s.opt.Started.UnixNano(),
		Interfaces: s.opt.Links.Interfaces(),
		Claims:     s.claims,
	}
}

// state is Restarting while this speaker is about to answer again for what an earlier run of it had, and another stands in for it; and while
// it has come after others and still listens: were it chosen now, nobody would answer until it has listened enough. Speakers that all come
// at once are chosen at once.
func (s *Speaker) state() decide.State {
	if s.resume.returned && !s.resume.answers {
		return decide.Restarting
	}
	view := s.opt.Gossip.View()
	if s.settle.done || view == nil {
		return decide.Up
	}
	before := s.opt.Started.Add(-settleMost).UnixNano()
	if slices.ContainsFunc(view.Members, func(m decide.Member) bool { return m.Node != s.opt.Node && m.Started < before }) {
		return decide.Restarting
	}
	return decide.Up
}

// publish tells the other speakers what this one is and claims, when that changed.
func (s *Speaker) publish() {
	if !s.resume.done { // the others still know what an earlier run said, which is to stand until this one knows it, too
		return
	}
	self := s.self()
	if s.published && sameMember(self, s.last) {
		return
	}
	s.last, s.published = self, true
	s.opt.Gossip.Publish(self)
	if s.opt.Keeper != nil {
		s.opt.Keeper.Keep(self.Claims)
	}
}

func sameMember(a, b decide.Member) bool {
	return a.Node == b.Node && a.State == b.State && a.Started == b.Started && maps.Equal(a.Claims, b.Claims) &&
		slices.EqualFunc(a.Interfaces, b.Interfaces, sameInterface)
}

func sameInterface(a, b config.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up && slices.Equal(a.Subnets, b.Subnets)
}

// resume is the way back of a speaker whose node had one before. Whoever knows what that one claimed tells it with all else it knows, when it
// is first met. Until then nothing is said, as it would void those claims.
type resume struct {
	began    time.Time // when gossip ran
	met      time.Time // when another told what it knows, and knew of no claims
	done     bool
	returned bool // there were claims
	asked    time.Time
	answers  bool // they are answered for again
}

const (
	resumeMeet = 300 * time.Millisecond // after the first that knows of no claims, for another that does
	resumeMost = 2 * time.Second        // for a speaker that says that it is back before it answers
)

// check returns the claims to go on with, once, and after what time to ask again.
func (r *resume) check(now time.Time, view *member.View, keeper Keeper, seeds int, synced bool) (map[netip.Addr]decide.Claim, time.Duration) {
	if r.done || view == nil {
		return nil, 0
	}
	if r.began.IsZero() {
		r.began = now
	}
	if r.met.IsZero() && !view.Heard.IsZero() {
		r.met = now
	}
	alone := synced && seeds <= 1 && view.Alive <= 1
	wait := settleMost - now.Sub(r.began)
	if !r.met.IsZero() {
		wait = min(wait, resumeMeet-now.Sub(r.met))
	}
	switch {
	case len(view.Former) > 0:
		r.done, r.returned = true, true
		return view.Former, 0
	case !alone && wait > 0:
		return nil, wait
	}
	r.done = true
	if keeper == nil {
		return nil, 0
	}
	claims := keeper.Claims()
	for a, c := range claims { // who took an address over meanwhile has a better right to it
		c.Majority, c.Provisional = false, true
		claims[a] = c
	}
	r.returned = alone && len(claims) > 0
	return claims, 0
}

// look notes whether what was claimed before is answered for again, given what was handed out last and what is done; and after what time to
// give up waiting for it.
func (r *resume) look(now time.Time, announced []decide.L2Address, actual []config.L2Holding) time.Duration {
	if !r.returned || r.answers {
		return 0
	}
	if r.asked.IsZero() {
		r.asked = now
	}
	held := make(map[netip.Addr]bool, len(actual))
	for _, h := range actual {
		held[h.Address] = true
	}
	lacks := slices.ContainsFunc(announced, func(a decide.L2Address) bool { return a.For == "" && !held[a.Addr] })
	left := resumeMost - now.Sub(r.asked)
	if lacks && left > 0 {
		return left
	}
	r.answers = true
	return minInterval
}
