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
	opened int
	began  time.Time
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, open: map[string][]*fakeResponder{}, refuse: map[string]error{}, broken: map[string]map[netip.Addr]bool{}, began: time.Now()}
}

func (n *network) openers() map[Protocol]opener {
	make := func(p Protocol) opener {
		return func(ifi config.Interface, c *frame.Counters, heard frame.Heard, own frame.Own) (responder, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			name := fmt.Sprint(ifi.Name, " ", p)
			if err := n.refuse[name]; err != nil {
				return nil, err
			}
			r := &fakeResponder{n: n, name: name, proto: p, heard: heard, own: own, counters: c, fail: make(chan error, 1)}
			n.open[name] = append(n.open[name], r)
			n.opened++
			return r, nil
		}
	}
	return map[Protocol]opener{ARP: make(ARP), NDP: make(NDP)}
}

// answers prints who answers for what with which MAC.
func (n *network) answers() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for name, rs := range n.open {
		for _, r := range rs {
			for a := range r.set {
				lines = append(lines, fmt.Sprint(name, " ", a, " at ", r.mac))
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
func (n *network) claim(name string, a netip.Addr, mac string) {
	n.mu.Lock()
	rs := slices.Clone(n.open[name])
	n.mu.Unlock()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, r := range rs {
		if !r.own(hw) {
			r.heard(a, hw)
		}
	}
}

type fakeResponder struct {
	n        *network
	name     string
	proto    Protocol
	heard    frame.Heard
	own      frame.Own
	counters *frame.Counters
	fail     chan error

	mac net.HardwareAddr
	set map[netip.Addr]bool
}

func (r *fakeResponder) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case err = <-r.fail:
	}
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.set = nil // a closed socket answers nothing
	return err
}

func (r *fakeResponder) Set(a *frame.Answers) error {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.mac, r.set = a.MAC(), map[netip.Addr]bool{}
	missing := map[netip.Addr]struct{}{}
	for _, addr := range a.Addrs() {
		if addr.Is4() != (r.proto == ARP) {
			r.n.t.Errorf("%s is told to answer for %v", r.name, addr)
		}
		if r.n.broken[r.name][addr] {
			missing[addr] = struct{}{}
			continue
		}
		r.set[addr] = true
	}
	if len(missing) > 0 {
		return &frame.Unanswered{Addrs: missing, Err: errors.New("no room")}
	}
	return nil
}

func (r *fakeResponder) Announce(a netip.Addr) error {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if r.set == nil {
		return errors.New("closed")
	}
	if !r.set[a] {
		r.n.t.Errorf("%s announces %v without answering for it", r.name, a)
	}
	r.n.said = append(r.n.said, fmt.Sprint(time.Since(r.n.began).Round(time.Millisecond), " ", r.name, " ", a, " at ", r.mac))
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

func address(s string, interfaces ...string) decide.L2Address {
	return decide.L2Address{Addr: netip.MustParseAddr(s), Interfaces: interfaces}
}

func up(name string, index int, mac string) config.Interface {
	return config.Interface{Name: name, Index: index, MAC: mac, Up: true}
}

// pass lets time go by in the bubble.
func pass(d time.Duration) { <-time.After(d) }
