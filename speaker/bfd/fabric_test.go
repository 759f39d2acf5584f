package bfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fabric is a network in memory: nodes with addresses, sockets on them, and what is wrong with it.
type fabric struct {
	mu      sync.Mutex
	latency time.Duration
	ports   map[socket]*fakeListener
	taken   map[socket]bool // ports that somebody else has
	cut     map[[2]netip.Addr]bool
	ttl     int
	open    int // sockets
}

// socket is a port of one node.
type socket struct {
	node string
	port Port
}

func newFabric() *fabric {
	return &fabric{latency: ms, ports: map[socket]*fakeListener{}, taken: map[socket]bool{}, cut: map[[2]netip.Addr]bool{}, ttl: 255}
}

// change changes the fabric.
func (f *fabric) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
}

// setCut cuts, or mends, the path between two addresses.
func (f *fabric) setCut(a, b string, cut bool) {
	f.change(func() {
		f.cut[[2]netip.Addr{addr(a), addr(b)}], f.cut[[2]netip.Addr{addr(b), addr(a)}] = cut, cut
	})
}

// node is the view that one node has of a fabric.
type node struct {
	*fabric
	name       string
	addrs      []netip.Addr
	neighbours map[netip.Addr]string // which node has an address
	failDial   error
}

func (n *node) Listen(p Port) (Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := socket{n.name, p}
	if n.taken[key] || n.ports[key] != nil {
		return nil, errors.New("somebody else has it")
	}
	l := &fakeListener{fabric: n.fabric, key: key, readable: make(chan struct{}, 1), closed: make(chan struct{}), broken: make(chan struct{}, 1)}
	n.ports[key] = l
	n.open++
	return l, nil
}

func (n *node) Dial(e Endpoint) (Sender, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failDial != nil {
		return nil, n.failDial
	}
	local := e.Local
	if !local.IsValid() {
		i := slices.IndexFunc(n.addrs, func(a netip.Addr) bool { return a.Is4() == e.Peer.Is4() })
		local = n.addrs[i]
	}
	if !slices.Contains(n.addrs, local) {
		return nil, fmt.Errorf("%s is not an address of this node", local)
	}
	n.open++
	return &fakeSender{node: n, e: e, local: local}, nil
}

type fakeListener struct {
	*fabric
	key      socket
	queue    []arrival
	starved  bool // the reader gets no turn
	readable chan struct{}
	closed   chan struct{}
	broken   chan struct{}
	once     sync.Once
}

func (l *fakeListener) Wait() error {
	for {
		l.mu.Lock()
		ready := l.arrived() && !l.starved
		l.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-l.readable:
		case <-l.broken:
			return errors.New("broken")
		case <-l.closed:
			return errors.New("closed")
		}
	}
}

func (l *fakeListener) Receive() (Datagram, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.arrived() {
		return Datagram{}, false
	}
	d := l.queue[0].Datagram
	l.queue = l.queue[1:]
	return d, true
}

func (l *fakeListener) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.ports, l.key)
		l.open--
		close(l.closed)
	})
	return nil
}

type fakeSender struct {
	*node
	e      Endpoint
	local  netip.Addr
	closed bool
}

// Send delivers after the latency, unless nobody listens there.
func (s *fakeSender) Send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		panic("send on a closed socket")
	}
	if s.failDial != nil {
		return s.failDial
	}
	if s.cut[[2]netip.Addr{s.local, s.e.Peer}] {
		return nil
	}
	d := Datagram{From: s.local, To: s.e.Peer, Interface: 1, TTL: s.ttl, Payload: slices.Clone(b)}
	l := s.ports[socket{s.neighbours[s.e.Peer], s.e.Port()}]
	if l == nil {
		return ErrRefused
	}
	l.deliver(d)
	return nil
}

// arrival is a datagram that is under way until some time.
type arrival struct {
	Datagram
	at time.Time
}

// deliver queues a datagram, which arrives after the latency. The fabric must be locked.
func (l *fakeListener) deliver(d Datagram) {
	l.queue = append(l.queue, arrival{d, time.Now().Add(l.latency)})
	time.AfterFunc(l.latency, func() { signal(l.readable) })
}

// arrived reports whether there is something to receive. The fabric must be locked.
func (l *fakeListener) arrived() bool { return len(l.queue) > 0 && !l.queue[0].at.After(time.Now()) }

func (s *fakeSender) Local() netip.Addr { return s.local }

func (s *fakeSender) Interface() int {
	if s.e.Interface == "" {
		return 0
	}
	return 1
}

func (s *fakeSender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		panic("closed twice")
	}
	s.closed = true
	s.open--
	return nil
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// The nodes of the scene: node a has 10.0.0.1 and fd00::1, node b 10.0.0.2 and fd00::2.
type scene struct {
	t *testing.T
	*fabric
	a, b *runner
}

// runner is a Runner that runs.
type runner struct {
	*Runner
	node *node
	stop func() // ends it and waits
}

// newScene must be called in a synctest bubble.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, fabric: newFabric()}
	where := map[netip.Addr]string{}
	start := func(name string, addrs ...netip.Addr) *runner {
		for _, a := range addrs {
			where[a] = name
		}
		n := &node{fabric: s.fabric, name: name, addrs: addrs, neighbours: where}
		r := &runner{Runner: New(Options{Network: n, Log: slog.New(slog.DiscardHandler)}), node: n}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		r.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
		return r
	}
	s.a = start("a", addr("10.0.0.1"), addr("10.0.0.11"), addr("fd00::1"))
	s.b = start("b", addr("10.0.0.2"), addr("10.0.0.22"), addr("fd00::2"))
	return s
}

// end stops both ends and looks for what was left open.
func (s *scene) end() {
	s.t.Helper()
	s.a.stop()
	s.b.stop()
	if s.open != 0 {
		s.t.Errorf("%d sockets were left open", s.open)
	}
}

// bubble runs a test in fake time with a scene.
func bubble(t *testing.T, f func(*testing.T, *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		f(t, s)
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// of returns the status of a session, a zero one if there is none.
func (r *runner) of(key string) Status {
	for _, s := range r.Sessions() {
		if s.Key == key {
			return s
		}
	}
	return Status{}
}

// both has each node watch the other at the given quickness.
func (s *scene) both(interval time.Duration) {
	p := profile(interval, interval, 3)
	s.a.Set([]Want{{Key: "b", Peer: addr("10.0.0.2"), Profile: p}})
	s.b.Set([]Want{{Key: "a", Peer: addr("10.0.0.1"), Profile: p}})
}

// expectUp fails the test unless both ends are up.
func (s *scene) expectUp() {
	s.t.Helper()
	if a, b := s.a.of("b"), s.b.of("a"); a.State != Up || b.State != Up {
		s.t.Fatalf("not up:\n%+v\n%+v", a, b)
	}
}

// brief prints what a table of sessions says, without times and numbers.
func brief(list []Status) string {
	var b strings.Builder
	for _, s := range list {
		fmt.Fprintf(&b, "%s %s %s", s.Key, s.Peer, s.State)
		if s.LastError != "" {
			fmt.Fprintf(&b, " (%s)", s.LastError)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
