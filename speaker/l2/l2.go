// Package l2 answers for addresses by ARP and NDP on the node's interfaces. It is told everything it should answer for (Set), opens and
// closes one responder per interface and protocol, and publishes what it really does. Each responder has a goroutine of its own that
// opens it, feeds it and opens it again when it fails, so one interface in trouble does not hold up another.
//
// When Run ends the sockets close and nothing is said to the network: whether that is a restart or a farewell is for others to know.
package l2

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/arp"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/ndp"
	"github.com/heraldlb/herald/speaker/reconcile"
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
	Log *slog.Logger
}

// Reconciler answers for addresses. Make it with New, run it with Run; the other methods may be called from anywhere at any time.
type Reconciler struct {
	log     *slog.Logger
	open    map[Protocol]opener
	inbox   inbox
	actual  atomic.Pointer[[]config.L2Holding]
	clashes atomic.Pointer[[]Conflict]
	counts  atomic.Pointer[[]counted]
	changed chan struct{}
}

// responder answers on one interface by one protocol.
type responder interface {
	Run(context.Context) error // answers until ctx ends or the socket fails
	Set(*frame.Answers) error  // a *frame.Unanswered tells which addresses are not answered after all
	Announce(netip.Addr) error // tells everyone that the address is here
	Close() error              // after Run
}

// opener opens a responder. Without CAP_NET_RAW the error is fs.ErrPermission.
type opener func(config.Interface, *frame.Counters, frame.Heard, frame.Own) (responder, error)

// New returns a Reconciler that does nothing until Run.
func New(opt Options) *Reconciler {
	return newReconciler(opt, map[Protocol]opener{
		ARP: func(ifi config.Interface, c *frame.Counters, heard frame.Heard, own frame.Own) (responder, error) {
			return arp.Open(arp.Options{Interface: ifi, Counters: c, Heard: heard, Own: own})
		},
		NDP: func(ifi config.Interface, c *frame.Counters, heard frame.Heard, own frame.Own) (responder, error) {
			return ndp.Open(ndp.Options{Interface: ifi, Counters: c, Heard: heard, Own: own})
		},
	})
}

func newReconciler(opt Options, open map[Protocol]opener) *Reconciler {
	return &Reconciler{
		log:     opt.Log,
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
// of the neighbours. It never blocks.
func (r *Reconciler) Announce(addr netip.Addr) {
	r.inbox.put(func(m *mail) { m.announce = append(m.announce, addr) })
}

// Actual returns what is answered for now, sorted by address, then interface. The caller must not change the slice.
func (r *Reconciler) Actual() []config.L2Holding { return load(&r.actual) }

// Conflicts returns whom we have lately heard claiming addresses that we answer for, sorted by address, then interface. The caller must
// not change the slice.
func (r *Reconciler) Conflicts() []Conflict { return load(&r.clashes) }

// Changed tells that Actual or Conflicts has something new.
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

// wish is what Set was told.
type wish struct {
	desired []decide.L2Address
	links   []config.Interface
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

// key names a responder. A renamed interface is another one, and so is a new one with the name of an old.
type key struct {
	name     string
	index    int
	protocol Protocol
}

// want is what one responder should do.
type want struct {
	ifi   config.Interface
	mac   net.HardwareAddr
	addrs []netip.Addr // sorted
}

func sameWant(a, b want) bool { return a.ifi.MAC == b.ifi.MAC && slices.Equal(a.addrs, b.addrs) }

// rules take responders away before others are set up: there is one answer for an address.
func rules() reconcile.Rules[key, want] {
	return reconcile.Rules[key, want]{Compare: compareKeys, Equal: sameWant, Order: reconcile.RemoveFirst}
}

// wants sorts a wish by responder.
func (w *wish) wants() map[key]want {
	usable := make(map[string]want, len(w.links))
	for _, l := range w.links {
		if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == 6 && l.Up {
			usable[l.Name] = want{ifi: l, mac: mac}
		}
	}
	out := map[key]want{}
	for _, d := range w.desired {
		p := NDP
		if d.Addr.Is4() {
			p = ARP
		}
		for _, name := range d.Interfaces {
			u, ok := usable[name]
			if !ok {
				continue
			}
			k := key{name: name, index: u.ifi.Index, protocol: p}
			v, ok := out[k]
			if !ok {
				v = u
			}
			v.addrs = append(v.addrs, d.Addr)
			out[k] = v
		}
	}
	for k, v := range out {
		slices.SortFunc(v.addrs, netip.Addr.Compare)
		v.addrs = slices.Compact(v.addrs)
		out[k] = v
	}
	return out
}

// Conflict is a foreign MAC that claims an address we answer for.
type Conflict struct {
	Addr        netip.Addr
	Interface   string    // ours, where it was heard
	MAC         string    // of the last claim
	First, Last time.Time // Last may lag by a second while claims go on
	Count       uint64    // claims since First
}
