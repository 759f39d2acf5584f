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
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/inspect"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/member"
)

// Source tells what the cluster asks for.
type Source interface {
	Snapshot() *config.Snapshot
	Changed() <-chan struct{}
	Seeds() []netip.Addr // addresses where speakers run, as far as known
	Stale() time.Time    // of when Snapshot is, if it comes from the disk and the API server has not answered yet; zero when it has
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
	Urgent() <-chan struct{} // a speaker came or went, or is in another state; Changed tells of that, too
	Publish(decide.Member)
	SetSeeds([]netip.AddrPort)
	Resync() // asks the others for all they know; View.Heard tells when one has answered
}

// Layer2 answers for addresses by ARP and NDP.
type Layer2 interface {
	Set([]decide.L2Address, []config.Interface)
	Actual() []config.L2Holding
	Conflicts() []l2.Conflict
	Denied() bool // packet sockets are not permitted
	Announce(netip.Addr)
	Changed() <-chan struct{}
}

// Router advertises addresses by BGP.
type Router interface {
	Set(bgp.Desired)
	Sessions() []config.Session
	Changed() <-chan struct{}
}

// Inspector looks at the node. Node is nil until it has.
type Inspector interface {
	Node() *inspect.Node
	Changed() <-chan struct{}
}

// Reporter is given what the node should report of itself whenever it may have changed; it must not block.
type Reporter interface {
	Report(Report)
}

// Keeper keeps the own claims where they outlive the process.
type Keeper interface {
	Claims() map[netip.Addr]decide.Claim // as kept before this process began; nil without any
	Keep(map[netip.Addr]decide.Claim)    // never blocks; the map is not changed afterwards
}

// Options of a Speaker. All fields are required but the two switches and those that may be nil.
type Options struct {
	Node            string
	Started         time.Time
	GossipPort      uint16
	IgnoreExcludeLB bool
	DrainOnCordon   bool
	Source          Source
	Links           Links
	Gossip          Gossip
	L2              Layer2
	BGP             Router
	Reporter        Reporter
	Inspect         Inspector // nil: the node is not looked at
	Keeper          Keeper    // nil: nothing is kept
	Metrics         *Metrics  // nil: nothing is measured
	Log             *slog.Logger
}

// Speaker is the owner loop. Make it with New, run it with Run.
type Speaker struct {
	opt       Options
	settle    settle
	comeback  comeback
	resume    resume
	pulse     pulse
	wire      wire
	able      able
	census    census
	decider   *decide.Decider
	claims    map[netip.Addr]decide.Claim // own claims, as decided last
	lost      []string                    // nodes whose speakers were given up and have not been heard since
	announced []decide.L2Address          // as handed out last
	routing   *bgp.Desired                // likewise; nil: nothing was
	last      decide.Member               // as published last
	published bool
	linger    linger
	counts    tally
	ready     *atomic.Bool
}

// New returns a Speaker that does nothing until Run.
func New(opt Options) *Speaker {
	s := &Speaker{
		opt: opt, wire: newWire(), able: able{}, decider: decide.NewDecider(), linger: linger{}, counts: newTally(), ready: &atomic.Bool{},
	}
	if opt.Metrics != nil {
		s.counts = opt.Metrics.counts
	}
	return s
}

// Ready reports whether the speaker has found its place among the others: what its node had before a restart it answers for again. It may be
// called at any time.
func (s *Speaker) Ready() bool { return s.ready.Load() }

// Run weighs the facts whenever one of them changes, until ctx ends. It leaves what is announced as it is: the reconcilers know on
// their own what a stop means.
func (s *Speaker) Run(ctx context.Context) error {
	changed, urgent := make(chan struct{}, 1), make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.forward(ctx, changed, urgent); return nil })
	g.Go(func() error { s.pulse.run(ctx, urgent); return nil })
	g.Go(func() error { s.loop(ctx, changed, urgent); return nil })
	return g.Wait()
}

// forward joins the notifications of all inputs into one coalesced signal, and into another those of what others wait for: that an address has
// lost its node, most of all.
func (s *Speaker) forward(ctx context.Context, changed, urgent chan<- struct{}) {
	var inspected <-chan struct{}
	if s.opt.Inspect != nil {
		inspected = s.opt.Inspect.Changed()
	}
	for {
		out := changed
		select {
		case <-ctx.Done():
			return
		case <-s.opt.Gossip.Urgent():
			out = urgent
		case <-s.opt.Links.Changed():
			out = urgent
		case <-s.opt.Source.Changed():
		case <-s.opt.Gossip.Changed():
		case <-s.opt.L2.Changed():
		case <-s.opt.BGP.Changed():
		case <-inspected:
		}
		poke(out)
	}
}

// loop weighs the facts, and rests in between unless something is urgent.
func (s *Speaker) loop(ctx context.Context, changed, urgent <-chan struct{}) {
	p := purse{left: purseMost, filled: time.Now()}
	for {
		var again <-chan time.Time
		began := time.Now()
		if wait := s.step(began); wait > 0 {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-urgent:
			continue
		case <-time.After(p.spend(time.Now(), time.Since(began))):
		}
		select {
		case <-ctx.Done():
			return
		case <-urgent:
		case <-changed:
		case <-again:
		}
	}
}

// step gathers the facts, decides and hands out the result. It returns after what time to look again though nothing changed; 0 = never.
func (s *Speaker) step(now time.Time) time.Duration {
	view, snap := s.opt.Gossip.View(), s.snapshot()
	seeds := s.seed()
	if held, wait := s.thaw(time.Now(), view); held { // what came before may have taken long
		return wait
	}
	back, again := s.resume.check(now, view, s.opt.Keeper, seeds, snap.Synced)
	if back != nil {
		s.claims = back
	}
	members := 1 + others(view, s.opt.Node)
	settled, wait := s.settle.check(now, snap.Synced, view != nil, s.resume.returned, members, seeds)
	hold := s.hold(now, view)
	facts, lapse := s.gather(now, view, snap)
	again = sooner(sooner(again, lapse), sooner(wait, hold))
	if snap.Synced { // until then absence means nothing: leave everything as it is
		again = sooner(again, s.act(facts, !settled || hold > 0))
		if settled {
			again = sooner(again, s.resume.look(now, s.announced, s.opt.L2.Actual()))
		}
	}
	s.publish()
	if settled && (!s.resume.returned || s.resume.answers) {
		s.ready.Store(true)
	}
	s.correct(view)
	again = sooner(sooner(again, s.defend(now)), s.census.take(now, headsOf(view)))
	if snap.Synced || s.node(snap) != nil { // a report belongs to a Node, which must be known first
		r := s.report(facts, view)
		s.opt.Metrics.hear(r)
		s.opt.Reporter.Report(r)
	}
	return again
}

// hold says for how long no address may be taken though this speaker has settled; 0: it may.
func (s *Speaker) hold(now time.Time, view *member.View) time.Duration {
	if view == nil {
		return 0
	}
	wait := s.comeback.check(now, s.opt.Links.Interfaces(), view.Known, view.Heard)
	if wait > 0 {
		s.opt.Gossip.Resync()
	}
	return wait
}

// act decides and hands out the result. With restrained, no address is taken that this node does not have.
func (s *Speaker) act(facts decide.Facts, restrained bool) time.Duration {
	desired := s.decide(facts)
	if restrained {
		s.restrain(&desired)
	}
	again := s.apply(facts, desired)
	s.opt.Metrics.take(desired)
	if desired.Again.IsZero() {
		return again
	}
	return sooner(again, max(desired.Again.Sub(facts.Now), minInterval))
}

func (s *Speaker) decide(facts decide.Facts) decide.Desired {
	defer s.opt.Metrics.stage(stageDecide)()
	return s.decider.Decide(facts)
}

// apply hands the result out. It returns after what time to do so again (0: need not).
func (s *Speaker) apply(facts decide.Facts, desired decide.Desired) (again time.Duration) {
	defer s.opt.Metrics.stage(stageApply)()
	if s.resume.done {
		again = s.answer(facts, desired)
	}
	s.routing = &bgp.Desired{
		Peers:      desired.Peers,
		Routes:     desired.Routes,
		Draining:   desired.Draining,
		Addresses:  s.addresses(facts.Config),
		Interfaces: s.opt.Links.Interfaces(),
	}
	s.opt.BGP.Set(*s.routing)
	return again
}

// sooner returns the smaller of two waits, of which 0 means for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// restrain leaves of the Layer 2 part only what this node has already, and those it stands in for.
func (s *Speaker) restrain(d *decide.Desired) {
	stands := map[netip.Addr]bool{}
	for _, a := range s.announced {
		stands[a.Addr] = a.For != ""
	}
	d.L2 = slices.DeleteFunc(slices.Clone(d.L2), func(a decide.L2Address) bool {
		_, has := s.claims[a.Addr]
		return !has && (a.For == "" || !stands[a.Addr])
	})
	d.Claims = maps.Clone(d.Claims)
	maps.DeleteFunc(d.Claims, func(a netip.Addr, _ decide.Claim) bool {
		_, has := s.claims[a]
		return !has
	})
}

// snapshot returns what the cluster asks for.
func (s *Speaker) snapshot() *config.Snapshot {
	defer s.opt.Metrics.stage(stageRead)()
	if snap := s.opt.Source.Snapshot(); snap != nil {
		return snap
	}
	return &config.Snapshot{}
}

// others counts the members of a view without this node.
func others(view *member.View, self string) int {
	n := 0
	if view != nil {
		for _, m := range view.Members {
			if m.Node != self {
				n++
			}
		}
	}
	return n
}

// gather puts the facts together, and says after what time one of them lapses (0: none does). What this node says of itself comes from
// here, not back from gossip.
func (s *Speaker) gather(now time.Time, view *member.View, snap *config.Snapshot) (facts decide.Facts, again time.Duration) {
	facts = decide.Facts{
		Node:            s.opt.Node,
		Config:          snap,
		Members:         []decide.Member{s.self()},
		IgnoreExcludeLB: s.opt.IgnoreExcludeLB,
		DrainOnCordon:   s.opt.DrainOnCordon,
		Now:             now,
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
	s.wire.learn(now, facts)
	facts.Heard, facts.Insists, again = s.wire.hear(now, s.opt.Node, s.opt.L2.Conflicts())
	slices.SortFunc(facts.Members, func(a, b decide.Member) int { return strings.Compare(a.Node, b.Node) })
	facts.Expected = max(facts.Expected, len(facts.Members))
	facts.Since = s.able.update(now, facts)
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
