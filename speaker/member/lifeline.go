package member

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// A lifeline is a connection that a speaker holds to another's gossip port, on which nothing is said: when the other process ends, however
// it ends, its kernel closes the connection, and who holds the line knows at once. A node that falls silent closes nothing; that is found
// out by probing.
const (
	lineGreeting = magic // the first byte that is sent; streams of memberlist begin with another
	linesMost    = 8     // lines that a speaker of a large cluster holds; in a small one it has one to each other
	linesHeld    = 512   // and how many it lets others hold

	lineTimeout = time.Second            // for opening one
	lineFirst   = 250 * time.Millisecond // until one that broke or could not be opened is tried again; doubles
	lineLast    = 15 * time.Second
)

// lines are the lifelines that this speaker holds.
type lines struct {
	opened, broken func(ctx context.Context, node string) // called by goroutines of theirs; must end with ctx

	held map[string]*line
}

type line struct {
	addr netip.AddrPort
	end  context.CancelFunc
	done chan struct{}
}

// set opens lines to those of the peers that this speaker is to watch, and ends those to others.
func (l *lines) set(ctx context.Context, self string, peers map[string]netip.AddrPort) {
	wanted := watched(self, peers)
	for node, have := range l.held {
		if addr, ok := wanted[node]; !ok || addr != have.addr {
			have.end()
			<-have.done
			delete(l.held, node)
		}
	}
	for node, addr := range wanted {
		if l.held[node] != nil {
			continue
		}
		one, end := context.WithCancel(ctx)
		next := &line{addr: addr, end: end, done: make(chan struct{})}
		l.held[node] = next
		go func() {
			defer close(next.done)
			l.keep(one, node, addr)
		}()
	}
}

// close ends all lines.
func (l *lines) close() { l.set(context.Background(), "", nil) }

// watched returns the peers that a speaker holds lines to: all, or in a large cluster those that come next by name, so that each is watched by
// the same number.
func watched(self string, peers map[string]netip.AddrPort) map[string]netip.AddrPort {
	if len(peers) < smallCluster {
		return peers
	}
	names := make([]string, 0, len(peers))
	for name := range peers {
		names = append(names, name)
	}
	slices.Sort(names)
	at, _ := slices.BinarySearch(names, self)
	out := make(map[string]netip.AddrPort, linesMost)
	for i := range linesMost {
		name := names[(at+i)%len(names)]
		out[name] = peers[name]
	}
	return out
}

// keep holds a line until ctx ends.
func (l *lines) keep(ctx context.Context, node string, addr netip.AddrPort) {
	for wait := lineFirst; ; wait = min(2*wait, lineLast) {
		began := time.Now()
		if holdLine(ctx, addr, func() { l.opened(ctx, node) }) && ctx.Err() == nil {
			l.broken(ctx, node)
		}
		if time.Since(began) > lineLast {
			wait = lineFirst
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// holdLine opens a line and returns when it has ended; it reports whether it was ever open.
func holdLine(ctx context.Context, addr netip.AddrPort, opened func()) bool {
	d := net.Dialer{Timeout: lineTimeout}
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return false
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := conn.Write([]byte{lineGreeting}); err != nil {
		return false
	}
	opened()
	_, _ = conn.Read(make([]byte, 1)) // returns when the other end has gone: nothing is ever sent
	return true
}

// begun is a stream whose first byte was read.
type begun struct {
	net.Conn
	first []byte // not read by the new owner yet
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 || len(p) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}

// admit finds out what a connection is for: a lifeline is held, a stream handed on, and one that ends without a word was a knock.
func (t *transport) admit(conn net.Conn) {
	if !t.keep(conn) {
		_ = conn.Close()
		return
	}
	first := make([]byte, 1)
	conn.SetReadDeadline(time.Now().Add(streamTimeout))
	_, err := conn.Read(first)
	conn.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
	case first[0] == lineGreeting:
		if t.lines.Add(1) <= linesHeld {
			_, _ = conn.Read(first) // until the other end lets go
		}
		t.lines.Add(-1)
	default:
		t.let(conn)
		t.hand(&begun{conn, first})
		return
	}
	t.let(conn)
	_ = conn.Close()
}

// keep notes a connection that Shutdown has to close; it reports false when that has begun.
func (t *transport) keep(conn net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		return false
	}
	t.conns[conn] = true
	return true
}

// let forgets a connection that is over or somebody else's.
func (t *transport) let(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
}

// hand gives a stream to memberlist.
func (t *transport) hand(conn net.Conn) {
	select {
	case t.streams <- conn:
	case <-t.closing:
		_ = conn.Close()
	}
}
