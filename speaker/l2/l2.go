// Package l2 answers for addresses by ARP and NDP on the node's interfaces. It is told everything it should answer for (Set), opens and
// closes one responder per interface and protocol, and publishes what it really does. Each responder has a goroutine of its own that
// opens it, feeds it and opens it again when it fails, so one interface in trouble does not hold up another.
//
// When Run ends the sockets close and nothing is said to the network: whether that is a restart or a farewell is for others to know.
package l2

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/arp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/ndp"
)

// Protocol is how an address is answered for.
type Protocol string

// The protocols: IPv4 addresses are answered for by ARP, IPv6 ones by NDP.
const (
	ARP Protocol = "ARP"
	NDP Protocol = "NDP"
)

// Options of a Reconciler.
type Options struct {
	Log   *slog.Logger
	Probe bool // look for a foreign user of an address before the first use, where decide asks for it (RFC 5227 section 2.1)
}

// Reconciler answers for addresses. Make it with New, run it with Run; the other methods may be called from anywhere at any time.
type Reconciler struct {
	log     *slog.Logger
	probe   bool
	open    map[Protocol]opener
	inbox   inbox
	actual  atomic.Pointer[[]config.L2Holding]
	clashes atomic.Pointer[[]Conflict]
	counts  atomic.Pointer[[]counted]
	denied  atomic.Bool
	changed chan struct{}
}

// responder answers on one interface by one protocol.
type responder interface {
	Run(context.Context) error              // answers until ctx ends or the socket fails
	Set(*frame.Answers) error               // on an error no new address is sure to be answered
	Settle(limit int) (left int, err error) // goes on with what Set left to do; what it could not do the next Set tries again
	Ready(netip.Addr) bool                  // whether requests for the address are sure to reach us
	Announce(netip.Addr) error              // tells everyone that the address is here
	Probe(netip.Addr) error                 // asks whether anyone uses the address
	Close() error                           // after Run
}

// opener opens a responder. Without CAP_NET_RAW the error is fs.ErrPermission.
type opener func(config.Interface, *frame.Counters, frame.Heard, frame.IsOwn) (responder, error)

// New returns a Reconciler that does nothing until Run.
func New(opt Options) *Reconciler {
	return newReconciler(opt, map[Protocol]opener{
		ARP: func(ifi config.Interface, c *frame.Counters, heard frame.Heard, own frame.IsOwn) (responder, error) {
			return arp.Open(arp.Options{Interface: ifi, Counters: c, Heard: heard, IsOwn: own})
		},
		NDP: func(ifi config.Interface, c *frame.Counters, heard frame.Heard, own frame.IsOwn) (responder, error) {
			return ndp.Open(ndp.Options{Interface: ifi, Counters: c, Heard: heard, IsOwn: own})
		},
	})
}

func newReconciler(opt Options, open map[Protocol]opener) *Reconciler {
	return &Reconciler{
		log:     opt.Log,
		probe:   opt.Probe,
		open:    open,
		inbox:   inbox{poke: make(chan struct{}, 1)},
		changed: make(chan struct{}, 1),
	}
}

// Set says what to answer for, whole, and which interfaces there are. It never blocks; the latest call wins. The slices must not be
// changed afterwards. Interfaces that are down or not in links are left alone until they are up.
func (r *Reconciler) Set(desired []decide.L2Address, links []config.Interface) {
	r.inbox.put(func(m *mail) { m.wish = &wish{desired: desired, links: links} })
}

// Announce repeats the announcement of an address wherever it is answered for: for the one that won a conflict, to correct the caches
// of the neighbours. An address that is not answered for, or that this node only stands in for, is not announced. It never blocks.
func (r *Reconciler) Announce(addr netip.Addr) {
	r.inbox.put(func(m *mail) { m.announce = append(m.announce, addr) })
}

// Actual returns what is answered for now in the node's own name, sorted by address, then interface: what it stands in for is another's,
// and not listed. The caller must not change the slice.
func (r *Reconciler) Actual() []config.L2Holding { return load(&r.actual) }

// Conflicts returns whom we have lately heard claiming addresses that we answer for, or would but for them, sorted by address, then
// interface. The caller must not change the slice.
func (r *Reconciler) Conflicts() []Conflict { return load(&r.clashes) }

// Denied reports whether something cannot be answered for because packet sockets are not permitted (CAP_NET_RAW).
func (r *Reconciler) Denied() bool { return r.denied.Load() }

// Changed tells that Actual, Conflicts or Denied has something new.
func (r *Reconciler) Changed() <-chan struct{} { return r.changed }

func load[T any](p *atomic.Pointer[[]T]) []T {
	if s := p.Load(); s != nil {
		return *s
	}
	return nil
}

// Count is what one responder saw and did since its interface came: see frame.Counters.
type Count struct {
	Interface                                                       string
	Protocol                                                        Protocol
	Requests, Replies, Gratuitous, Conflicts, Malformed, SendErrors uint64
}

type counted struct {
	name     string
	protocol Protocol
	c        *frame.Counters
}

// Counts returns the counts of all responders of the interfaces there are, sorted by interface, then protocol.
func (r *Reconciler) Counts() []Count {
	var out []Count
	for _, c := range load(&r.counts) {
		out = append(out, Count{
			Interface: c.name, Protocol: c.protocol,
			Requests: c.c.Requests.Load(), Replies: c.c.Replies.Load(), Gratuitous: c.c.Gratuitous.Load(),
			Conflicts: c.c.Conflicts.Load(), Malformed: c.c.Malformed.Load(), SendErrors: c.c.Errors.Load(),
		})
	}
	return out
}

// mail is what waits for the owner.
type mail struct {
	wish     *wish // nil: no new one
	announce []netip.Addr
}

// inbox is a mailbox that never blocks: mail that was not taken yet is merged with what comes.
type inbox struct {
	mu   sync.Mutex
	mail mail
	poke chan struct{}
}

func (b *inbox) put(change func(*mail)) {
	b.mu.Lock()
	change(&b.mail)
	b.mu.Unlock()
	signal(b.poke)
}

func (b *inbox) take() mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.mail
	b.mail = mail{}
	return m
}

// signal leaves a coalesced signal in a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Conflict is a foreign MAC that claims an address we answer for, or would.
type Conflict struct {
	Addr        netip.Addr
	Interface   string    // ours, where it was heard
	MAC         string    // of the last claim
	First, Last time.Time // Last may lag by a second while claims go on
	Count       uint64    // claims since First
	Unanswered  bool      // it was in use when we looked, so it is not answered for until it is free
}
