package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
)

// Options of an Announcer. All fields are required but DrainWait and Watcher.
type Options struct {
	Node   string // name of the node
	Router Router
	Log    *slog.Logger

	// DrainWait is how long routers are given to move traffic elsewhere before routes are withdrawn for good: when the node drains, and
	// when the speaker stops. 0: none.
	DrainWait time.Duration

	// Watcher watches the paths of the peers that ask for it; nil: none is watched. Run runs it, for a moment longer than the sessions.
	Watcher Watcher
}

// Announcer holds the BGP sessions of this node. Make it with New, run it with Run, tell it what to do with Set.
type Announcer struct {
	opt      Options
	desired  atomic.Pointer[Desired]
	inbox    chan struct{} // capacity 1: desired was replaced
	poked    chan struct{} // capacity 1: a session's status changed
	changed  chan struct{} // capacity 1: sessions was replaced
	sessions atomic.Pointer[[]config.Session]
	held     atomic.Pointer[map[string]account] // by name of the peer; never changed after it was stored
}

// New returns an Announcer that does nothing until Run.
func New(opt Options) *Announcer {
	return &Announcer{
		opt:     opt,
		inbox:   make(chan struct{}, 1),
		poked:   make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
	}
}

// Set replaces everything that should be done. It never blocks; only the last value counts, and it must not be changed afterwards.
func (a *Announcer) Set(d Desired) {
	a.desired.Store(&d)
	signal(a.inbox)
}

// Sessions returns the state of every wanted session, sorted by the peer's name. The slice must not be changed.
func (a *Announcer) Sessions() []config.Session {
	if s := a.sessions.Load(); s != nil {
		return *s
	}
	return nil
}

// Counters returns what has been counted for every peer that has, or had, a session, by name. It goes on when the session is replaced.
func (a *Announcer) Counters() map[string]Counters {
	out := map[string]Counters{}
	if held := a.held.Load(); held != nil {
		for name, of := range *held {
			out[name] = of.sum()
		}
	}
	return out
}

// Changed tells that Sessions has something new to say. Several changes may be told once.
func (a *Announcer) Changed() <-chan struct{} { return a.changed }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run holds the sessions until ctx ends, and returns nil. What happens then depends on the cause of ctx: with ErrRestarting the sessions
// are left so that routers keep the routes for a while, those that do so at all. With anything else they are withdrawn: first peers are
// asked to prefer other paths for the time of DrainWait, then every peer is said goodbye to.
func (a *Announcer) Run(ctx context.Context) error {
	o := owner{
		Announcer: a,
		ctx:       context.WithoutCancel(ctx),
		seats:     map[string]*seat{},
		accounts:  map[string]account{},
		leaving:   map[place]<-chan struct{}{},
	}
	defer o.look()()
	defer o.wg.Wait()
	inbox := a.inbox
	var rested <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			o.retire(context.Cause(ctx))
			return nil
		case <-inbox:
			began := time.Now()
			if o.apply(a.desired.Load()) {
				inbox, rested = nil, time.After(rest(time.Since(began)))
			}
		case <-rested:
			inbox, rested = a.inbox, nil
		case <-o.drain.over:
			o.drain.end()
			o.tell()
		case <-a.poked:
		case <-o.seen:
			o.heed()
		}
		o.watch()
		o.publish()
	}
}

// rest is how long to wait for more to be asked for after routes changed and that took so long to work out, so that thousands of changes one
// after another do not each cost what thousands of routes do, here and several times more in the sessions. The first change after a pause
// waits for nothing.
func rest(took time.Duration) time.Duration {
	const most = 100 * time.Millisecond
	return min(40*took, most)
}

// look starts the Watcher, and returns what ends it.
func (o *owner) look() (end func()) {
	if o.opt.Watcher == nil {
		return func() {}
	}
	o.seen = o.opt.Watcher.Changed()
	ctx, cancel := context.WithCancel(o.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := o.opt.Watcher.Run(ctx); err != nil {
			o.opt.Log.Error("paths are not watched by BFD any more", "reason", err)
		}
	}()
	return func() { cancel(); <-done }
}

// owner is the state of Run's goroutine.
type owner struct {
	*Announcer
	ctx      context.Context // of the sessions; each is ended on its own
	told     *Desired        // as applied last
	drain    drain
	seats    map[string]*seat          // by name of the peer
	accounts map[string]account        // likewise
	leaving  map[place]<-chan struct{} // by router: closed when the last session with it has said goodbye
	wg       sync.WaitGroup
	identity netip.Addr // default router identifier; kept once chosen, so that a change of node addresses resets no session
	shares   shares
	watched  []Watch // as the Watcher was told last
	seen     <-chan struct{}
}

// drain is where the node stands in giving up its routes.
type drain struct {
	asking bool             // peers are asked to prefer other paths
	done   bool             // and were given the time for it: nothing is advertised any more
	over   <-chan time.Time // when they will have been
}

func (d *drain) begin(wait time.Duration) {
	if !d.asking {
		*d = drain{asking: true, done: wait <= 0}
		if !d.done {
			d.over = time.After(wait)
		}
	}
}

func (d *drain) end() { d.done, d.over = true, nil }

// patience is for how long peers are asked to prefer other paths. Where nothing is advertised, as on a node that was drained before its
// speaker came, there is nothing to ask.
func (o *owner) patience() time.Duration {
	if o.advertises() {
		return o.opt.DrainWait
	}
	return 0
}

// advertises reports whether some peer was told of a path.
func (o *owner) advertises() bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(o.seats)), (*seat).advertises)
}

// seat is a wanted session.
type seat struct {
	neighbor Neighbor
	session  Session // nil when another peer has the same router
	blocked  string  // why there is no session
	cancel   context.CancelCauseFunc
	gone     chan struct{}
	bfd      *config.BFDProfile // nil = the path is not watched
	sight    Sight              // what was last heeded of the path
	paths    [][]Path           // that the session should tell the peer
}

// apply starts, replaces and ends sessions so that they are the wanted ones, and tells each its part. Sessions that stay are not
// touched. It reports whether some peer is told of other paths than before.
func (o *owner) apply(d *Desired) (news bool) {
	o.told = d
	if d.Draining {
		o.drain.begin(o.patience())
	} else {
		o.drain = drain{}
	}
	if !o.identity.IsValid() && len(d.Peers) > 0 {
		o.identity = RouterID(o.opt.Node, d.Addresses)
	}
	want := o.wanted(d.Peers)
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		if _, ok := want[name]; !ok {
			o.stop(name, ErrRemoved)
			delete(o.accounts, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w := want[name]
		if have, ok := o.seats[name]; ok && (have.neighbor != w.neighbor || have.blocked != w.blocked) {
			o.stop(name, have.neighbor.change(w.neighbor))
		}
		if have, ok := o.seats[name]; ok {
			have.bfd = w.bfd
		} else {
			o.start(name, &w)
		}
	}
	return o.tell()
}

// tell tells each session its part of what is wanted, and reports whether that is news in some of them.
func (o *owner) tell() (news bool) {
	o.shares.take(o.told.Routes)
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		s := o.seats[name]
		if s.session == nil {
			continue
		}
		a := Advert{Draining: o.drain.asking, Addresses: o.told.Addresses, Interfaces: o.told.Interfaces}
		if !o.drain.done {
			a.Paths = o.shares.paths(name)
		}
		news = news || !samePages(s.paths, a.Paths)
		s.paths = a.Paths
		s.session.Set(a)
	}
	return news
}

// retire ends all sessions in the way that the cause asks for.
func (o *owner) retire(cause error) {
	if !errors.Is(cause, ErrRestarting) {
		cause = &Farewell{fmt.Sprintf("Herald stops on %s", o.opt.Node)}
		o.withdraw()
	}
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		o.stop(name, cause)
	}
}

// withdraw gives routers the time to move traffic elsewhere, if any were told of routes. What is asked for meanwhile still counts.
func (o *owner) withdraw() {
	if o.told == nil || o.drain.done || !o.advertises() {
		return
	}
	draining := func(d *Desired) *Desired {
		out := *d
		out.Draining = true
		return &out
	}
	o.apply(draining(o.told))
	for !o.drain.done {
		select {
		case <-o.inbox:
			o.apply(draining(o.desired.Load()))
		case <-o.drain.over:
			o.drain.end()
		case <-o.poked:
		case <-o.seen:
			o.heed()
		}
		o.watch()
		o.publish()
	}
}

// advertises reports whether the peer was told of routes, or is being told: the session's own count may lag behind what has reached the router.
func (s *seat) advertises() bool {
	return len(s.paths) > 0 && s.session.Status().State == Established
}

// wanted returns a seat for each peer. A router takes one session from one address of ours, so of several peers that name the same
// router and source, the first by name gets it.
func (o *owner) wanted(peers []*config.Peer) map[string]seat {
	taken := map[place]string{}
	want := make(map[string]seat, len(peers))
	for _, p := range slices.SortedFunc(slices.Values(peers), func(a, b *config.Peer) int { return strings.Compare(a.Name, b.Name) }) {
		s := seat{neighbor: neighborOf(p, o.identity), bfd: p.BFD}
		e := s.neighbor.router()
		e.source = p.Source
		if first, ok := taken[e]; ok {
			s.blocked = fmt.Sprintf("BGPPeer %s already has a session with %s from this node; let nodeSelectors keep the two apart, "+
				"or give them different sourceAddresses", first, s.neighbor.target())
		} else {
			taken[e] = p.Name
		}
		want[p.Name] = s
	}
	return want
}

// target names the router for people.
func (n Neighbor) target() string {
	if n.Interface != "" {
		return "the router on " + n.Interface
	}
	return n.Address.String()
}

// start begins a session. When one with the same router is still saying goodbye, the new one waits for it; nobody else does.
func (o *owner) start(name string, s *seat) {
	o.seats[name] = s
	if s.blocked != "" {
		o.opt.Log.Warn("no BGP session", "peer", name, "reason", s.blocked)
		return
	}
	s.session = o.opt.Router.Session(s.neighbor, func() { signal(o.poked) })
	if o.opt.Watcher != nil {
		s.sight = o.opt.Watcher.Sights()[name] // what failed before is no reason to drop this one
	}
	ctx, cancel := context.WithCancelCause(o.ctx)
	s.cancel = cancel
	s.gone = make(chan struct{})
	o.accounts[name] = o.accounts[name].next(sitting{s.session, s.gone})
	before := o.leaving[s.neighbor.router()]
	delete(o.leaving, s.neighbor.router())
	o.wg.Go(func() {
		defer close(s.gone)
		if before != nil {
			<-before
		}
		s.session.Run(ctx)
	})
}

// stop ends a session without waiting for it.
func (o *owner) stop(name string, cause error) {
	s := o.seats[name]
	delete(o.seats, name)
	if s.session == nil {
		return
	}
	s.cancel(cause)
	o.leaving[s.neighbor.router()] = s.gone
	maps.DeleteFunc(o.leaving, func(_ place, gone <-chan struct{}) bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
}
