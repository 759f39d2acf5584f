package l2

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/frame"
)

// network is a model of the node's interfaces: it knows who answers for what there, and objects to what must not happen.
type network struct {
	t *testing.T

	mu     sync.Mutex
	open   map[string][]*fakeResponder // by interface and protocol
	refuse map[string]error            // opening fails
	broken map[string]map[netip.Addr]bool
	said   []string // announcements
	probes []string
	users  map[string]map[netip.Addr]string // who answers probes on an interface
	freeze time.Duration                    // so long the next announcement takes
	full   int                              // so many frames find no room
	opened int
	began  time.Time
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, open: map[string][]*fakeResponder{}, refuse: map[string]error{}, broken: map[string]map[netip.Addr]bool{}, users: map[string]map[netip.Addr]string{}, began: time.Now()}
}

func (n *network) openers() map[Protocol]opener {
	of := func(p Protocol) opener {
		return func(ifi config.Interface, c *frame.Counters, heard frame.Heard, own frame.IsOwn) (responder, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			name := fmt.Sprint(ifi.Name, " ", p)
			if err := n.refuse[name]; err != nil {
				return nil, err
			}
			r := newFakeResponder(n, name, p)
			r.heard, r.own, r.counters = heard, own, c
			n.open[name] = append(n.open[name], r)
			n.opened++
			return r, nil
		}
	}
	return map[Protocol]opener{ARP: of(ARP), NDP: of(NDP)}
}

// answers prints who answers for what with which MAC.
func (n *network) answers() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for name, rs := range n.open {
		for _, r := range rs {
			for _, v := range r.set.List() {
				if v.Role != frame.Watched && r.ready(v.Addr) {
					lines = append(lines, fmt.Sprint(name, " ", v.Addr, " at ", r.set.Spoken(v)))
				}
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (n *network) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	said := n.said
	n.said = nil
	return said
}

func (n *network) setRefuse(name string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil {
		delete(n.refuse, name)
	} else {
		n.refuse[name] = err
	}
}

// setBroken makes Set fail for one address on one interface.
func (n *network) setBroken(name string, a netip.Addr, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken[name] == nil {
		n.broken[name] = map[netip.Addr]bool{}
	}
	n.broken[name][a] = on
}

// kill ends the sockets of an interface and protocol as a vanished interface does.
func (n *network) kill(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.open[name] {
		select {
		case r.fail <- errors.New("network is down"):
		default:
		}
	}
}

// claim has a foreign station claim an address.
func (n *network) claim(name string, a netip.Addr, mac string) { n.hear(name, a, mac, false) }

// hear has the responders on an interface hear of a foreign station what real ones would tell of it.
func (n *network) hear(name string, a netip.Addr, mac string, probe bool) {
	n.mu.Lock()
	rs := slices.Clone(n.open[name])
	n.mu.Unlock()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range rs {
		n.mu.Lock()
		v, ok := r.set.Find(a)
		n.mu.Unlock()
		watched := v.Role == frame.Watched
		if ok && !r.own(hw) && (watched || !probe) && r.set.Spoken(v).String() != mac {
			r.heard(frame.Claim{Addr: a, MAC: hw, Watched: watched, Probe: probe})
		}
	}
}

// use has a foreign station use an address on an interface; none with "".
func (n *network) use(name string, a netip.Addr, mac string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users[name] == nil {
		n.users[name] = map[netip.Addr]string{}
	}
	n.users[name][a] = mac
}

func (n *network) takeProbes() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	probes := n.probes
	n.probes = nil
	return probes
}

type fakeResponder struct {
	n        *network
	name     string
	proto    Protocol
	heard    frame.Heard
	own      frame.IsOwn
	counters *frame.Counters
	fail     chan error

	set  *frame.Answers
	at   int                 // how far Settle is in the list
	err  error               // what went wrong there
	done map[netip.Addr]bool // what it was through with
}

func newFakeResponder(n *network, name string, p Protocol) *fakeResponder {
	return &fakeResponder{n: n, name: name, proto: p, fail: make(chan error, 1), set: none(), done: map[netip.Addr]bool{}}
}

func (r *fakeResponder) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-r.fail:
	}
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.set = none() // a closed socket answers nothing
	return err
}

func none() *frame.Answers { return frame.NewAnswers(nil, nil) }

func (r *fakeResponder) Set(a *frame.Answers) error {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	for i, v := range a.List() {
		if v.Addr.Is4() != (r.proto == ARP) {
			r.n.t.Errorf("%s is told to answer for %v", r.name, v.Addr)
		}
		if i > 0 && !a.List()[i-1].Addr.Less(v.Addr) {
			r.n.t.Errorf("%s is told of %v twice or out of order", r.name, v.Addr)
		}
		if r.n.broken[r.name][v.Addr] {
			delete(r.done, v.Addr)
		}
	}
	r.set, r.at, r.err = a, 0, nil
	return nil
}

func (r *fakeResponder) Settle(limit int) (left int, err error) {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	list := r.set.List()
	for ; r.at < len(list) && limit > 0; r.at, limit = r.at+1, limit-1 {
		if a := list[r.at].Addr; r.n.broken[r.name][a] {
			r.err = errors.New("no room")
		} else {
			r.done[a] = true
		}
	}
	if left = len(list) - r.at; left > 0 {
		return left, nil
	}
	return 0, r.err
}

func (r *fakeResponder) ready(a netip.Addr) bool {
	_, ok := r.set.Find(a)
	return ok && r.done[a]
}

func (r *fakeResponder) Ready(a netip.Addr) bool {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	return r.ready(a)
}

func (r *fakeResponder) Announce(a netip.Addr) error {
	r.n.mu.Lock()
	freeze := r.n.freeze
	r.n.freeze = 0
	r.n.mu.Unlock()
	pass(freeze)
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	v, ok := r.set.Find(a)
	switch {
	case len(r.set.List()) == 0:
		return errors.New("closed")
	case !ok || v.Role != frame.Own || r.n.broken[r.name][a]:
		r.n.t.Errorf("%s announces %v without answering for it", r.name, a)
	}
	if r.n.full > 0 {
		r.n.full--
		return fmt.Errorf("send: %w", unix.ENOBUFS)
	}
	r.n.said = append(r.n.said, fmt.Sprint(time.Since(r.n.began).Round(time.Millisecond), " ", r.name, " ", a, " at ", r.set.MAC()))
	return nil
}

func (r *fakeResponder) Probe(a netip.Addr) error {
	r.n.mu.Lock()
	if v, ok := r.set.Find(a); !ok || v.Role != frame.Watched {
		r.n.t.Errorf("%s probes %v without watching it", r.name, a)
	}
	r.n.probes = append(r.n.probes, fmt.Sprint(time.Since(r.n.began).Round(time.Millisecond), " ", r.name, " ", a))
	user := r.n.users[r.name][a]
	r.n.mu.Unlock()
	if user != "" {
		r.n.claim(r.name, a, user)
	}
	return nil
}

func (r *fakeResponder) Close() error {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	i := slices.Index(r.n.open[r.name], r)
	if i < 0 {
		r.n.t.Errorf("%s is closed twice", r.name)
		return nil
	}
	r.n.open[r.name] = slices.Delete(r.n.open[r.name], i, i+1)
	return nil
}

// logbook collects log lines.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(string(b)))
	return len(b), nil
}

func (l *logbook) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

var errDenied = fmt.Errorf("open packet socket: %w", fs.ErrPermission)

func wished(s string, interfaces ...string) decide.L2Address {
	return decide.L2Address{Addr: netip.MustParseAddr(s), Interfaces: interfaces, Taken: decide.Elected}
}

func up(name string, index int, mac string) config.Interface {
	return config.Interface{Name: name, Index: index, MAC: mac, Up: true}
}

// pass lets time go by in the bubble.
func pass(d time.Duration) { <-time.After(d) }
