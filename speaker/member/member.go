// Package member knows which speakers are alive and what each says of itself: interfaces, state, and the addresses it claims to answer
// for. It finds failures by gossip (memberlist, tuned far below its defaults), and sooner by asking the kernels of nodes (see watch), and
// carries claims to all others at once.
package member

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/speaker/decide"
)

// View is an immutable picture of the speakers.
type View struct {
	Members []decide.Member // live ones, and those that are waited for as they restart, whose own word was heard, this one included once it published; sorted by node
	Claims  decide.Memory   // highest counter ever heard for each address, also of the dead
	Known   int             // speakers that should be there, live or not, this one included
	Alive   int             // speakers that the failure detector sees, this one included
	Awaited int             // speakers that are gone and waited for, as they restart
	Missing []string        // nodes whose speakers were seen alive once and neither are nor are waited for, sorted
	Trouble string          // why gossip does not run, for the operator; empty when it does

	Heard  time.Time                   // when the whole state of another speaker was heard last; zero: never
	Former map[netip.Addr]decide.Claim // what an earlier run of this speaker claimed and the others have not given up; nil when they know of none
}

// KeySize is the length of the gossip key in bytes (AES-256).
const KeySize = 32

// Options of a Member.
type Options struct {
	Node        string     // unique name of this speaker's node
	BindAddress netip.Addr // address of the node that gossip uses, for listening and as seen by the others
	Port        uint16     // UDP and TCP, the same on all nodes; 0 takes any (for tests)
	Key         []byte     // KeySize bytes, the same for all speakers; without it nothing is sent or believed
	Log         *slog.Logger
}

// Member takes part in the gossip. Make it with New, run it with Run.
type Member struct {
	opt     Options
	changed chan struct{}
	urgent  chan struct{} // a speaker came or went, or changed its state
	seeded  chan struct{} // wakes the joiner
	unsent  chan struct{} // wakes the sender
	bereft  chan struct{} // a member was lost
	waiting chan struct{} // a member restarts
	resync  chan struct{} // see Resync
	peered  chan struct{} // peers came or went
	words   chan word     // what others say of nodes that may have died
	overdue chan netip.AddrPort
	answers *unanswered
	pace    func(speakers int) profile
	adjust  func(*memberlist.Config) // for tests
	knock   func(to netip.AddrPort, times int, every time.Duration) sign
	late    lateness
	dropped atomic.Uint64
	ring    *memberlist.Keyring
	rekeyed chan struct{}        // SetKey was called
	pic     atomic.Pointer[View] // nil until gossip was tried

	switchAfter, forgetAfter time.Duration // see SetKey

	mu     sync.Mutex // guards what follows, up to newest; held briefly, never while sending
	book   *book
	ml     *memberlist.Memberlist
	open   bool            // gossip was tried: there is a view
	asks   map[string]bool // who asked for the own record
	told   stamp           // version of the own record that was told last
	newest []byte          // key

	closing sync.RWMutex // held for reading while leaving, for writing while shutting down
	queue   memberlist.TransmitLimitedQueue
}

// New returns a Member that does nothing until Run.
func New(opt Options) *Member {
	var run [8]byte
	_, _ = rand.Read(run[:]) // never fails since Go 1.24
	m := &Member{
		opt:     opt,
		changed: make(chan struct{}, 1),
		urgent:  make(chan struct{}, 1),
		seeded:  make(chan struct{}, 1),
		unsent:  make(chan struct{}, 1),
		bereft:  make(chan struct{}, 1),
		waiting: make(chan struct{}, 1),
		resync:  make(chan struct{}, 1),
		peered:  make(chan struct{}, 1),
		words:   make(chan word, wordsMost),
		overdue: make(chan netip.AddrPort, overdueMost),
		knock:   knock,
		book:    newBook(opt.Node, netip.AddrPortFrom(opt.BindAddress.Unmap(), opt.Port), binary.BigEndian.Uint64(run[:])),
		asks:    map[string]bool{},
		pace:    profileFor,
		rekeyed: make(chan struct{}, 1),
		newest:  opt.Key,

		switchAfter: keySwitch,
		forgetAfter: keyExpiry,
	}
	m.answers = newUnanswered(func(addr netip.AddrPort) {
		select {
		case m.overdue <- addr:
		default: // there is enough to look at
		}
	}, m.revive)
	m.ring, _ = memberlist.NewKeyring(nil, opt.Key) // nil for a key of a wrong length, which ends Run
	m.queue.RetransmitMult = 4
	m.queue.NumNodes = m.alive
	return m
}

// Changed tells, coalesced, that View may have changed.
func (m *Member) Changed() <-chan struct{} { return m.changed }

// Urgent tells that a speaker came or went, or says that it is in another state. Changed tells of that, too.
func (m *Member) Urgent() <-chan struct{} { return m.urgent }

// View returns the present picture; nil until Run has opened gossip, or found that it cannot for now. The result must not be changed.
func (m *Member) View() *View {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		return nil
	}
	if m.book.dirty || m.pic.Load() == nil {
		m.book.dirty = false
		m.pic.Store(m.book.view())
	}
	return m.pic.Load()
}

// Dropped returns how many malformed messages were dropped.
func (m *Member) Dropped() uint64 { return m.dropped.Load() }

// Publish replaces what this speaker says of itself and tells the others at once. It never blocks. The member's Node is that of the Options.
func (m *Member) Publish(self decide.Member) {
	m.mu.Lock()
	news := m.book.publish(self)
	m.mu.Unlock()
	if news {
		poke(m.unsent)
	}
}

// SetSeeds replaces the addresses where speakers should run, this one's own may be among them. Those that are no members are called on
// again and again.
func (m *Member) SetSeeds(seeds []netip.AddrPort) {
	m.mu.Lock()
	changed := m.book.seed(seeds)
	m.mu.Unlock()
	if changed {
		poke(m.seeded)
		poke(m.changed)
	}
}

// Leave tells the others that this speaker stops for good, so that they need not find out. It waits until one was told, or for ctx. What
// was published should be withdrawn before. Without Leave, the end of Run looks like a failure to the others.
func (m *Member) Leave(ctx context.Context) error {
	m.closing.RLock()
	defer m.closing.RUnlock()
	m.mu.Lock()
	ml := m.ml
	if m.book.said() { // else one that said it would be back would be waited for
		last := m.book.self.member
		last.State, last.Claims = decide.Draining, nil
		m.book.publish(last)
		poke(m.unsent)
	}
	m.mu.Unlock()
	if ml == nil {
		return nil
	}
	wait := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Until(deadline), time.Millisecond)
	}
	if err := ml.Leave(wait); err != nil {
		return fmt.Errorf("telling the other speakers that this one leaves: %w", err)
	}
	return nil
}

// Run takes part in the gossip until ctx ends. A port that is taken is reported and tried again; only a wrong key ends Run with an error.
func (m *Member) Run(ctx context.Context) error {
	if len(m.opt.Key) != KeySize {
		return fmt.Errorf("the gossip key must have %d bytes, got %d: is the Secret of the gossip key there, and whole?",
			KeySize, len(m.opt.Key))
	}
	ml := m.create(ctx)
	if ml == nil {
		return nil // ctx ended
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { m.join(ctx, ml); return nil })
	g.Go(func() error { m.send(ctx, ml); return nil })
	g.Go(func() error { m.outlive(ctx, ml); return nil })
	g.Go(func() error { m.rekey(ctx); return nil })
	g.Go(func() error { m.attend(ctx); return nil })
	g.Go(func() error { m.catchUp(ctx, ml); return nil })
	g.Go(func() error { m.watch(ctx, ml); return nil })
	<-ctx.Done()
	err := g.Wait()
	m.closing.Lock()
	defer m.closing.Unlock()
	m.mu.Lock()
	m.ml = nil
	m.mu.Unlock()
	if e := ml.Shutdown(); e != nil {
		err = errors.Join(err, fmt.Errorf("shutting gossip down: %w", e))
	}
	return err
}

// How long to wait before a port that is taken is tried again.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// create opens gossip, and tries until it succeeds; nil when ctx ended first.
func (m *Member) create(ctx context.Context) *memberlist.Memberlist {
	m.awaitSeeds(ctx)
	said := ""
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		ml, err := m.openGossip()
		if err == nil {
			m.mu.Lock()
			m.ml, m.open = ml, true
			m.book.trouble, m.book.dirty = "", true
			m.mu.Unlock()
			m.opt.Log.Info("gossip is open", "address", ml.LocalNode().Address())
			poke(m.changed)
			return ml
		}
		if text := m.explain(err); text != said {
			said = text
			m.opt.Log.Error("gossip is not open", "why", text, "error", err)
			m.mu.Lock()
			m.open = true // alone, but there is a view: the rest can work
			m.book.trouble, m.book.dirty = text, true
			m.mu.Unlock()
			poke(m.changed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// openGossip opens the sockets and takes part. An address that stands for all is left to memberlist, which knows how to find one to be reached at.
func (m *Member) openGossip() (*memberlist.Memberlist, error) {
	c := m.config()
	if c.Transport != nil || !m.opt.BindAddress.IsValid() || m.opt.BindAddress.IsUnspecified() {
		return memberlist.Create(c)
	}
	t, err := openTransport(netip.AddrPortFrom(m.opt.BindAddress, m.opt.Port), m.answers)
	if err != nil {
		return nil, err
	}
	c.Transport, c.Ping = t, t
	c.BindPort, c.AdvertisePort = int(t.bind.Port()), int(t.bind.Port())
	ml, err := memberlist.Create(c)
	if err != nil {
		_ = t.Shutdown() // the first error says it
	}
	return ml, err
}

// seedsMost bounds how long gossip waits to know of other speakers before it opens.
const seedsMost = 500 * time.Millisecond

// awaitSeeds waits until it is known how many speakers there are, which the profile depends on, but not long.
func (m *Member) awaitSeeds(ctx context.Context) {
	end := time.After(seedsMost)
	for {
		m.mu.Lock()
		known := len(m.book.seeds) > 0
		m.mu.Unlock()
		if known {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-m.seeded:
		}
	}
}

// explain says what an operator can do about a failure to open gossip.
func (m *Member) explain(err error) string {
	where := netip.AddrPortFrom(m.opt.BindAddress, m.opt.Port)
	switch text := err.Error(); {
	case strings.Contains(text, "address already in use"):
		return fmt.Sprintf("gossip port %d is taken on %s (TCP and UDP): end what uses it or choose another with --gossip-port; trying again",
			m.opt.Port, m.opt.BindAddress)
	case strings.Contains(text, "cannot assign requested address"):
		return fmt.Sprintf("%s is not an address of this node: check --gossip-bind-address; trying again", m.opt.BindAddress)
	}
	return fmt.Sprintf("gossip cannot listen on %s; trying again", where)
}

// config returns memberlist's configuration.
func (m *Member) config() *memberlist.Config {
	m.mu.Lock()
	speakers := m.book.view().Known
	m.mu.Unlock()
	p := m.pace(speakers)
	c := memberlist.DefaultLANConfig()
	c.Name = m.opt.Node
	if m.opt.BindAddress.IsValid() {
		c.BindAddr = m.opt.BindAddress.String()
		if !m.opt.BindAddress.IsUnspecified() {
			c.AdvertiseAddr = c.BindAddr
		}
	}
	c.BindPort, c.AdvertisePort = int(m.opt.Port), int(m.opt.Port)
	c.Label = "herald"
	c.Keyring = m.ring
	c.ProbeInterval, c.ProbeTimeout = p.probeInterval, p.probeTimeout
	c.GossipInterval, c.PushPullInterval = p.gossipInterval, p.pushPull
	m.late.set(p.gossipInterval)
	c.SuspicionMult, c.IndirectChecks, c.TCPTimeout = suspicionMult, indirectChecks, streamTimeout
	c.DeadNodeReclaimTime = time.Millisecond // a node that died may come back with another address at once
	c.EnableCompression = false              // it costs more than it saves on a LAN
	d := &delegate{m}
	c.Delegate, c.Events, c.Conflict = d, d, d
	c.Logger = log.New(newLogWriter(m.opt.Log), "", 0)
	if m.adjust != nil {
		m.adjust(c)
	}
	return c
}

// alive counts the speakers the failure detector sees.
func (m *Member) alive() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return 1 + len(m.book.livePeers())
}

// poke signals without blocking; signals not yet seen are one.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
