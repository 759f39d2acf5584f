package bfd

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
)

// Want is a path that somebody wants to be watched.
type Want struct {
	Key       string            // names the want in Sessions; unique
	Peer      netip.Addr        // a zone is taken for the Interface
	Local     netip.Addr        // our address; zero: the kernel chooses. Over several hops it is better given (RFC 5883 section 4).
	Interface string            // where the neighbour is; empty: by the routing table
	VRF       string            // device of the VRF the neighbour is in; empty: none
	Multihop  bool              // it may be more than one hop away
	Profile   config.BFDProfile // zero fields are 300 ms, 3 times and, as TTL, 254
}

// Status is the state of one wanted session. It is comparable.
type Status struct {
	Key                 string
	Peer                netip.Addr
	Local               netip.Addr // the address we speak from; zero until we speak
	Multihop            bool
	State               State
	Since               time.Time  // when State was entered
	Diagnostic          Diagnostic // why State was entered last
	RemoteState         State
	RemoteDiagnostic    Diagnostic
	Discriminator       uint32 // 0 until there is a session
	RemoteDiscriminator uint32 // 0 while the neighbour is not known
	TransmitInterval    time.Duration
	DetectionTime       time.Duration // 0 while the neighbour is not known
	Ups                 uint64        // times it came up
	// Losses counts the times it was up and the path, or the neighbour, failed. A neighbour that took the session down on purpose
	// (AdminDown) has not failed and is not counted: RFC 5882 section 3.2 asks to draw no conclusion from that.
	Losses    uint64
	Earlier   Tally  // of the sessions before, since somebody wants the key without a break
	LastError string // what keeps the session from working, for the operator; empty when nothing is known to
}

// Tally counts for one key like Status does for one session.
type Tally struct{ Ups, Losses uint64 }

// Dropped counts packets that were not believed.
type Dropped struct {
	Malformed uint64 // not a BFD control packet that RFC 5880 section 6.8.6 lets through
	NoSession uint64 // from somebody who is no configured neighbour, or meant for an earlier session
	TTL       uint64 // came from further away than allowed (RFC 5881 section 5, RFC 5883 section 5)
	Refused   uint64 // authenticated, which we are not
}

// Options of a Runner. All fields are required.
type Options struct {
	Network Network
	Log     *slog.Logger
}

// Runner runs the BFD sessions of this node. Make it with New, run it with Run, tell it what to watch with Set.
type Runner struct {
	opt      Options
	wants    atomic.Pointer[[]Want]
	inbox    chan struct{} // capacity 1: wants was replaced
	changed  chan struct{} // capacity 1: sessions was replaced
	sessions atomic.Pointer[[]Status]
	dropped  struct{ malformed, noSession, ttl, refused atomic.Uint64 }
}

// New returns a Runner that does nothing until Run.
func New(opt Options) *Runner {
	return &Runner{opt: opt, inbox: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

// Set replaces everything that should be watched. It never blocks; only the last value counts, and it must not be changed afterwards.
// Sessions that stay are not touched; a changed profile is negotiated without a break.
func (r *Runner) Set(wants []Want) {
	r.wants.Store(&wants)
	signal(r.inbox)
}

// Sessions returns the state of every wanted session, sorted by key. The slice must not be changed.
func (r *Runner) Sessions() []Status {
	if s := r.sessions.Load(); s != nil {
		return *s
	}
	return nil
}

// Changed tells that Sessions has something new to say. Several changes may be told once: Ups and Losses tell what came in between.
func (r *Runner) Changed() <-chan struct{} { return r.changed }

// Dropped returns how many packets were not believed since the process started.
func (r *Runner) Dropped() Dropped {
	d := &r.dropped
	return Dropped{Malformed: d.malformed.Load(), NoSession: d.noSession.Load(), TTL: d.ttl.Load(), Refused: d.refused.Load()}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// linger bounds how long an ended session goes on telling the neighbour. RFC 5880 section 6.8.16 asks for a detection time, lest the
// neighbour should take the silence for a failure; a neighbour usually confirms at once, and nobody waits minutes for a slow one.
const linger = 3 * time.Second

// Run watches until ctx ends, then takes the sessions down administratively, which tells the neighbours that nothing has failed, and
// returns nil when they have confirmed it or some seconds later.
func (r *Runner) Run(ctx context.Context) error {
	o := newOwner(ctx, r)
	defer o.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	done := ctx.Done()
	for {
		next := o.turn()
		if done == nil && len(o.seats) == 0 {
			return nil
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-done:
			done = nil
			o.leaveAll()
		case <-r.inbox:
			if done != nil {
				o.apply(*r.wants.Load())
			}
		case e := <-o.events:
			o.heed(e)
		case <-timer.C:
		}
	}
}
