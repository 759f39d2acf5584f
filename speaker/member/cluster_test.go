package member

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// TestMain looks for goroutines that were left behind. memberlist's prober ends within its interval after the shutdown, not with it.
func TestMain(m *testing.M) {
	code := m.Run()
	var err error
	for range 20 {
		if err = goleak.Find(); err == nil {
			break
		}
	}
	if code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test waits for what should come much sooner.
const patience = 2 * time.Minute

var key = bytes.Repeat([]byte{7}, KeySize)

// nextHost hands out loopback addresses, so that tests share none.
var nextHost atomic.Uint32

func loopback() netip.Addr {
	n := nextHost.Add(1)
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(1 + pid%250), byte(1 + pid/250%250), byte(n)})
}

const testPort = 17947

// run is a running Member.
type run struct {
	*Member
	addr netip.AddrPort
	stop func()
	log  *syncBuffer
}

// start runs a member; key and address may differ between tests.
func start(t testing.TB, node string, addr netip.Addr, key []byte) *run {
	t.Helper()
	return startWith(t, node, addr, key, func(*Member) {})
}

func startWith(t testing.TB, node string, addr netip.Addr, key []byte, prepare func(*Member)) *run {
	t.Helper()
	out := &syncBuffer{}
	m := New(Options{
		Node: node, BindAddress: addr, Port: testPort, Key: key,
		Log: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	prepare(m)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	var once sync.Once
	r := &run{Member: m, addr: netip.AddrPortFrom(addr, testPort), log: out}
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", node, err)
			}
		})
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of %s:\n%s", node, tail(out.String()))
		}
	})
	return r
}

func tail(s string) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// cluster starts n members that know each other's addresses and have published something.
func cluster(t *testing.T, n int) []*run {
	t.Helper()
	return clusterWith(t, n, func(m *Member) {
		if n > 5 { // one process with the race detector cannot keep the pace of so many speakers: this is not about speed
			m.pace = func(int) profile {
				return profile{time.Second, 500 * time.Millisecond, 50 * time.Millisecond, 10 * time.Second}
			}
		}
	})
}

func clusterWith(t testing.TB, n int, prepare func(*Member)) []*run {
	t.Helper()
	var all []*run
	var seeds []netip.AddrPort
	for i := range n {
		r := startWith(t, fmt.Sprintf("node-%02d", i), loopback(), key, prepare)
		all, seeds = append(all, r), append(seeds, r.addr)
	}
	for i, r := range all {
		r.SetSeeds(seeds)
		r.Publish(self(i, nil))
	}
	for _, r := range all {
		r.waitFor(t, fmt.Sprintf("%d members", n), func(v *View) bool { return len(v.Members) == n && v.Alive == n })
		if v := r.View(); v.Known != n {
			t.Fatalf("Known = %d, want %d", v.Known, n)
		}
	}
	return all
}

func self(i int, claims map[netip.Addr]decide.Claim) decide.Member {
	return decide.Member{Started: int64(i + 1), Claims: claims, Interfaces: []config.Interface{{
		Name: "eth0", Index: 2, Up: true,
		MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), Subnets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 24)},
	}}}
}

// waitFor waits until the view fulfils a condition, woken by Changed.
func (r *run) waitFor(t testing.TB, what string, ok func(*View) bool) time.Duration {
	t.Helper()
	began, end := time.Now(), time.After(patience)
	for {
		if v := r.View(); v != nil && ok(v) {
			return time.Since(began)
		}
		select {
		case <-r.Changed():
		case <-end:
			t.Fatalf("%s: no %s within %v; view: %+v", r.opt.Node, what, patience, r.View())
		}
	}
}

// awaitLog waits until the log has a text.
func (r *run) awaitLog(t testing.TB, text string) {
	t.Helper()
	if !by(patience, func() bool { return strings.Contains(r.log.String(), text) }) {
		t.Fatalf("%s does not say %q", r.opt.Node, text)
	}
}

// claims returns what a view says of a node's claims; nil when the node is not there.
func claimsOf(v *View, node string) map[netip.Addr]decide.Claim {
	i := slices.IndexFunc(v.Members, func(m decide.Member) bool { return m.Node == node })
	if i < 0 {
		return nil
	}
	return v.Members[i].Claims
}

func manyClaims(n int, counter uint64) map[netip.Addr]decide.Claim {
	out := map[netip.Addr]decide.Claim{}
	for i := range n {
		out[netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})] = decide.Claim{Counter: counter, Majority: true}
	}
	return out
}

// TestNewsAreLost: who missed what was said hears soon that there is something newer, long before all is compared.
func TestNewsAreLost(t *testing.T) {
	for range 3 { // on a busy machine gossip may go on for longer than the version is repeated
		if heardAgain(t) {
			return
		}
	}
	t.Error("what was missed is not heard again")
}

func heardAgain(t *testing.T) bool {
	t.Helper()
	all := clusterWith(t, 2, func(m *Member) {
		m.pace = func(int) profile {
			return profile{100 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, time.Hour}
		}
	})
	a, b := all[0], all[1]
	before, claims := b.missed(a.opt.Node, nil), manyClaims(1, 1)
	a.Publish(self(0, claims))
	b.waitFor(t, "the claim", func(v *View) bool { return maps.Equal(claimsOf(v, a.opt.Node), claims) })
	if !by(patience, func() bool { return a.queue.NumQueued() == 0 }) {
		t.Fatal("gossip does not end")
	}
	b.missed(a.opt.Node, before)
	return by(10*time.Second, func() bool { return b.missed(a.opt.Node, nil).newer(before.stamp) })
}

// by reports whether something is so within a time.
func by(limit time.Duration, so func() bool) bool {
	for end := time.Now().Add(limit); !so(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// missed has the book forget what a peer said after a record, if one is given. It returns what it knows of the peer.
func (r *run) missed(node string, rec *record) *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.book.peers[node]
	if rec != nil {
		p.rec, p.seen = rec, rec.stamp
		r.book.dirty = true
		r.wake()
	}
	return p.rec
}
