// Package speaker is the owner loop of the process that announces addresses from one node. It gathers facts (what the cluster asks for,
// who is alive, which interfaces there are), lets decide choose, and hands each reconciler its whole part. One goroutine owns the
// loop's state; everything else is read as immutable values.
package speaker

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

// Source tells what the cluster asks for.
type Source interface {
	Snapshot() *config.Snapshot
	Changed() <-chan struct{}
	Seeds() []netip.Addr // addresses where speakers run, as far as known
}

// Links tells which interfaces the node has.
type Links interface {
	Interfaces() []config.Interface
	Changed() <-chan struct{}
}

// Gossip tells who is alive and carries this node's claims to the others. View is nil until gossip runs.
type Gossip interface {
	View() *member.View
	Changed() <-chan struct{}
	Publish(decide.Member)
	SetSeeds([]netip.AddrPort)
}

// Layer2 answers for addresses by ARP and NDP.
type Layer2 interface {
	Set([]decide.L2Address, []config.Interface)
	Actual() []config.L2Holding
	Conflicts() []l2.Conflict
	Announce(netip.Addr)
	Changed() <-chan struct{}
}

// Router advertises addresses by BGP.
type Router interface {
	Set(bgp.Desired)
	Sessions() []config.Session
	Changed() <-chan struct{}
}

// Reporter is given what the node should report of itself whenever it may have changed; it must not block.
type Reporter interface {
	Report(Report)
}

// Options of a Speaker. All fields are required but IgnoreExcludeLB.
type Options struct {
	Node            string
	Started         time.Time
	GossipPort      uint16
	IgnoreExcludeLB bool
	Source          Source
	Links           Links
	Gossip          Gossip
	L2              Layer2
	BGP             Router
	Reporter        Reporter
	Log             *slog.Logger
}

// Speaker is the owner loop. Make it with New, run it with Run.
type Speaker struct {
	opt       Options
	settle    settle
	claims    map[netip.Addr]decide.Claim // own claims, as decided last
	announced []decide.L2Address          // as handed out last
	last      decide.Member               // as published last
	published bool
	comeback  comeback
	wire      wire
}

// New returns a Speaker that does nothing until Run.
func New(opt Options) *Speaker { return &Speaker{opt: opt, wire: newWire()} }

// minInterval bounds how often the facts are weighed anew while they keep changing; the first change after a pause is acted on at once.
const minInterval = 2 * time.Millisecond

// Run weighs the facts whenever one of them changes, until ctx ends. It leaves what is announced as it is: the reconcilers know on
// their own what a stop means.
func (s *Speaker) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.forward(ctx, changed); return nil })
	g.Go(func() error { s.loop(ctx, changed); return nil })
	return g.Wait()
}

// forward joins the notifications of all inputs into one coalesced signal.
func (s *Speaker) forward(ctx context.Context, out chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.opt.Source.Changed():
		case <-s.opt.Links.Changed():
		case <-s.opt.Gossip.Changed():
		case <-s.opt.L2.Changed():
		case <-s.opt.BGP.Changed():
		}
		select {
		case out <- struct{}{}:
		default:
		}
	}
}

func (s *Speaker) loop(ctx context.Context, changed <-chan struct{}) {
	for {
		var again <-chan time.Time
		if wait := s.step(time.Now()); wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(minInterval):
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// step gathers the facts, decides and hands out the result. It returns after what time to look again though nothing changed; 0 = never.
func (s *Speaker) step(now time.Time) time.Duration {
	view := s.opt.Gossip.View()
	facts, again := s.gather(now, view)
	seeds := s.seed()
	settled, wait := s.settle.check(now, facts.Config.Synced, view != nil, len(facts.Members), seeds)
	hold := s.comeback.check(now, s.opt.Links.Interfaces(), len(facts.Members) == 1 && facts.Expected > 1)
	again = sooner(again, sooner(wait, hold))
	if facts.Config.Synced { // until then absence means nothing: leave everything as it is
		desired := decide.Decide(facts)
		if !settled || hold > 0 {
			s.restrain(&desired)
		}
		s.answer(desired)
		s.opt.BGP.Set(bgp.Desired{
			Peers:      desired.Peers,
			Routes:     desired.Routes,
			Addresses:  s.addresses(facts.Config),
			Interfaces: s.opt.Links.Interfaces(),
		})
	}
	s.publish()
	for _, a := range s.wire.defend(now, s.opt.L2.Conflicts()) {
		s.opt.L2.Announce(a)
	}
	if facts.Config.Synced || s.node(facts.Config) != nil { // a report belongs to a Node, which must be known first
		s.opt.Reporter.Report(s.report(facts, view))
	}
	return again
}

// sooner returns the smaller of two waits, of which 0 means for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// restrain leaves of the Layer 2 part only what this node has already.
func (s *Speaker) restrain(d *decide.Desired) {
	d.L2 = slices.DeleteFunc(slices.Clone(d.L2), func(a decide.L2Address) bool {
		_, has := s.claims[a.Addr]
		return !has
	})
	d.Claims = maps.Clone(d.Claims)
	maps.DeleteFunc(d.Claims, func(a netip.Addr, _ decide.Claim) bool {
		_, has := s.claims[a]
		return !has
	})
}

// gather puts the facts together, and says after what time one of them lapses (0: none does). What this node says of itself comes from
// here, not back from gossip.
func (s *Speaker) gather(now time.Time, view *member.View) (facts decide.Facts, again time.Duration) {
	facts = decide.Facts{
		Node:            s.opt.Node,
		Config:          s.opt.Source.Snapshot(),
		Members:         []decide.Member{s.self()},
		IgnoreExcludeLB: s.opt.IgnoreExcludeLB,
	}
	if facts.Config == nil {
		facts.Config = &config.Snapshot{}
	}
	if view != nil {
		facts.Claims = view.Claims
		facts.Expected = view.Known
		for _, m := range view.Members {
			if m.Node != s.opt.Node {
				facts.Members = append(facts.Members, m)
			}
		}
	}
	for _, m := range facts.Members {
		s.wire.learn(m.Node, m.Interfaces)
	}
	facts.Heard, again = s.wire.hear(now, s.opt.Node, s.opt.L2.Conflicts())
	slices.SortFunc(facts.Members, func(a, b decide.Member) int { return strings.Compare(a.Node, b.Node) })
	facts.Expected = max(facts.Expected, len(facts.Members))
	return facts, again
}

// node returns this node as the cluster knows it; nil when it does not (yet).
func (s *Speaker) node(snap *config.Snapshot) *config.Node {
	for _, n := range snap.Nodes {
		if n.Name == s.opt.Node {
			return n
		}
	}
	return nil
}

// addresses returns the node's own addresses as the cluster knows them.
func (s *Speaker) addresses(snap *config.Snapshot) []netip.Addr {
	if n := s.node(snap); n != nil {
		return n.Addresses
	}
	return nil
}

// seed tells gossip where other speakers run and returns how many there should be, this one included.
func (s *Speaker) seed() int {
	addrs := s.opt.Source.Seeds()
	ports := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		ports[i] = netip.AddrPortFrom(a, s.opt.GossipPort)
	}
	s.opt.Gossip.SetSeeds(ports)
	return len(addrs)
}

func (s *Speaker) self() decide.Member {
	return decide.Member{
		Node:       s.opt.Node,
		State:      decide.Up,
		Started:    s.opt.Started.UnixNano(),
		Interfaces: s.opt.Links.Interfaces(),
		Claims:     s.claims,
	}
}

// state is what the others are told: Restarting while this speaker has come after others and still listens. Were it chosen now, nobody would
// answer until it has listened enough. Speakers that all come at once are chosen at once.
func (s *Speaker) state() decide.State {
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
	self := s.self()
	self.State = s.state()
	if s.published && sameMember(self, s.last) {
		return
	}
	s.last, s.published = self, true
	s.opt.Gossip.Publish(self)
}

func sameMember(a, b decide.Member) bool {
	return a.Node == b.Node && a.State == b.State && a.Started == b.Started && maps.Equal(a.Claims, b.Claims) &&
		slices.EqualFunc(a.Interfaces, b.Interfaces, sameInterface)
}

func sameInterface(a, b config.Interface) bool {
	return a.Name == b.Name && a.Index == b.Index && a.MAC == b.MAC && a.Up == b.Up && slices.Equal(a.Subnets, b.Subnets)
}

// answer hands the Layer 2 part out: the claims to gossip, the addresses to the responders.
func (s *Speaker) answer(desired decide.Desired) {
	was := make(map[netip.Addr]decide.Reason, len(s.announced))
	for _, a := range s.announced {
		was[a.Addr] = a.Taken
	}
	s.claims, s.announced = desired.Claims, desired.L2
	s.publish()
	s.opt.L2.Set(desired.L2, s.opt.Links.Interfaces())
	for _, a := range desired.L2 {
		taken, ok := was[a.Addr]
		switch {
		case !ok:
			s.opt.Log.Info("answering for address", "address", a.Addr, "interfaces", a.Interfaces, "reason", a.Taken)
		case (taken == decide.Won) != (a.Taken == decide.Won):
			// Another speaker claims it too, or has just ceased to: the neighbours may believe that one.
			s.opt.Log.Info("address was claimed twice; announcing it again", "address", a.Addr)
			s.opt.L2.Announce(a.Addr)
		}
		delete(was, a.Addr)
	}
	for _, a := range slices.SortedFunc(maps.Keys(was), netip.Addr.Compare) {
		s.opt.Log.Info("no longer answering for address", "address", a)
	}
}
