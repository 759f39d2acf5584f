package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/heraldlb/herald/config"
)

// Options of an Announcer. All fields are required.
type Options struct {
	Node   string // name of the node
	Router Router
	Log    *slog.Logger
}

// Announcer holds the BGP sessions of this node. Make it with New, run it with Run, tell it what to do with Set.
type Announcer struct {
	opt      Options
	desired  atomic.Pointer[Desired]
	inbox    chan struct{} // capacity 1: desired was replaced
	poked    chan struct{} // capacity 1: a session's status changed
	changed  chan struct{} // capacity 1: sessions was replaced
	sessions atomic.Pointer[[]config.Session]
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

// Changed tells that Sessions has something new to say. Several changes may be told once.
func (a *Announcer) Changed() <-chan struct{} { return a.changed }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run holds the sessions until ctx ends, then says goodbye to every peer, which withdraws the routes, and returns nil.
func (a *Announcer) Run(ctx context.Context) error {
	o := owner{Announcer: a, seats: map[string]*seat{}, leaving: map[netip.AddrPort]<-chan struct{}{}}
	defer o.wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.inbox:
			o.apply(ctx, a.desired.Load())
			o.publish()
		case <-a.poked:
			o.publish()
		}
	}
}

// owner is the state of Run's goroutine.
type owner struct {
	*Announcer
	seats    map[string]*seat                   // by name of the peer
	leaving  map[netip.AddrPort]<-chan struct{} // by router: closed when the last session with it has said goodbye
	wg       sync.WaitGroup
	identity netip.Addr // default router identifier; kept once chosen, so that a change of node addresses resets no session
}

// seat is a wanted session.
type seat struct {
	neighbor Neighbor
	session  Session // nil when another peer has the same router
	blocked  string  // why there is no session
	cancel   context.CancelCauseFunc
	gone     chan struct{}
}

func (s *seat) router() netip.AddrPort {
	return netip.AddrPortFrom(s.neighbor.Address, s.neighbor.Port)
}

// apply starts, replaces and ends sessions so that they are the wanted ones, and tells each its part. Sessions that stay are not
// touched.
func (o *owner) apply(ctx context.Context, d *Desired) {
	if !o.identity.IsValid() && len(d.Peers) > 0 {
		o.identity = RouterID(o.opt.Node, d.Addresses)
	}
	want := o.wanted(d.Peers)
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		if _, ok := want[name]; !ok {
			o.stop(name, ErrRemoved)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		w := want[name]
		if have, ok := o.seats[name]; ok && (have.neighbor != w.neighbor || have.blocked != w.blocked) {
			o.stop(name, ErrChanged)
		}
		s, ok := o.seats[name]
		if !ok {
			s = &w
			o.start(ctx, name, s)
		}
		if s.session != nil {
			s.session.Set(Advert{Paths: pathsFor(name, d.Routes), Addresses: d.Addresses, Interfaces: d.Interfaces})
		}
	}
}

// wanted returns a seat for each peer. A router takes one session from one address of ours, so of several peers that name the same
// router and source, the first by name gets it.
func (o *owner) wanted(peers []*config.Peer) map[string]seat {
	type endpoint struct {
		remote netip.AddrPort
		source netip.Addr
	}
	taken := map[endpoint]string{}
	want := make(map[string]seat, len(peers))
	for _, p := range slices.SortedFunc(slices.Values(peers), func(a, b *config.Peer) int { return strings.Compare(a.Name, b.Name) }) {
		s := seat{neighbor: neighborOf(p, o.identity)}
		e := endpoint{netip.AddrPortFrom(p.Address, p.Port), p.Source}
		if first, ok := taken[e]; ok {
			s.blocked = fmt.Sprintf("BGPPeer %s already has a session with %s from this node; let nodeSelectors keep the two apart, "+
				"or give them different sourceAddresses", first, p.Address)
		} else {
			taken[e] = p.Name
		}
		want[p.Name] = s
	}
	return want
}

// start begins a session. When one with the same router is still saying goodbye, the new one waits for it; nobody else does.
func (o *owner) start(ctx context.Context, name string, s *seat) {
	o.seats[name] = s
	if s.blocked != "" {
		o.opt.Log.Warn("no BGP session", "peer", name, "reason", s.blocked)
		return
	}
	s.session = o.opt.Router.Session(s.neighbor, func() { signal(o.poked) })
	ctx, s.cancel = context.WithCancelCause(ctx)
	s.gone = make(chan struct{})
	before := o.leaving[s.router()]
	delete(o.leaving, s.router())
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
	o.leaving[s.router()] = s.gone
	maps.DeleteFunc(o.leaving, func(_ netip.AddrPort, gone <-chan struct{}) bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
}

// publish makes the state of the sessions known, when it changed.
func (o *owner) publish() {
	next := make([]config.Session, 0, len(o.seats))
	for _, name := range slices.Sorted(maps.Keys(o.seats)) {
		next = append(next, o.seats[name].report(name))
	}
	if last := o.Announcer.sessions.Load(); last != nil && slices.EqualFunc(*last, next, sameSession) {
		return
	}
	o.Announcer.sessions.Store(&next)
	signal(o.changed)
}

func (s *seat) report(name string) config.Session {
	n := s.neighbor
	out := config.Session{
		Peer:       name,
		Address:    n.Address.String(),
		State:      string(Idle),
		LocalASN:   n.LocalASN,
		PeerASN:    n.PeerASN,
		Advertised: map[config.Family]int{},
		LastError:  s.blocked,
	}
	if n.Source.IsValid() {
		out.LocalAddress = n.Source.String()
	}
	if s.session == nil {
		return out
	}
	st := s.session.Status()
	out.State, out.Since, out.LastError, out.HoldTime = string(st.State), st.Since, st.LastError, st.Hold
	if st.Local.IsValid() {
		out.LocalAddress = st.Local.String()
	}
	out.Families = st.Families.List()
	for _, f := range out.Families {
		out.Advertised[f] = *st.Advertised.Of(f)
	}
	return out
}

func sameSession(a, b config.Session) bool {
	return a.Peer == b.Peer && a.Address == b.Address && a.LocalAddress == b.LocalAddress && a.State == b.State && a.Since.Equal(b.Since) &&
		a.LocalASN == b.LocalASN && a.PeerASN == b.PeerASN && slices.Equal(a.Families, b.Families) && a.HoldTime == b.HoldTime &&
		maps.Equal(a.Advertised, b.Advertised) && a.LastError == b.LastError
}
