package member

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/heraldlb/herald/speaker/decide"
)

func TestClaimsSpread(t *testing.T) {
	all := cluster(t, 5)
	for _, n := range []int{1, 50, 3000, 3001, 0} { // a packet, a fuller one, a stream, a delta, and nothing
		claims := manyClaims(n, uint64(n+1))
		began := time.Now()
		all[0].Publish(self(0, claims))
		for _, r := range all[1:] {
			r.waitFor(t, fmt.Sprintf("%d claims of node-00", n), func(v *View) bool { return maps.Equal(claimsOf(v, "node-00"), claims) })
		}
		t.Logf("%d claims known to all 5 after %v", n, time.Since(began).Round(100*time.Microsecond))
	}
	if got := all[1].View().Claims[netip.MustParseAddr("10.0.0.0")]; got != 3002 {
		t.Errorf("remembered counter = %d, want the highest ever claimed, 3002", got)
	}
}

func TestDeathIsNoticed(t *testing.T) {
	all := cluster(t, 5)
	all[2].Publish(self(2, manyClaims(10, 4)))
	for _, r := range all {
		r.waitFor(t, "claims of node-02", func(v *View) bool { return len(claimsOf(v, "node-02")) == 10 })
	}
	all[2].stop()
	for i, r := range all {
		if i == 2 {
			continue
		}
		took := r.waitFor(t, "end of node-02", func(v *View) bool { return v.Alive == 4 && claimsOf(v, "node-02") == nil })
		if i == 0 {
			t.Logf("a death was noticed after %v", took.Round(time.Millisecond))
		}
		v := r.View()
		if v.Known != 5 {
			t.Errorf("Known = %d after a death, want 5", v.Known)
		}
		if v.Claims[netip.MustParseAddr("10.0.0.1")] != 4 {
			t.Error("the counters of the dead are forgotten")
		}
	}
}

func TestLeaveIsNoticedAtOnce(t *testing.T) {
	all := cluster(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := all[1].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*run{all[0], all[2]} {
		t.Logf("a leave was noticed after %v", r.waitFor(t, "end of node-01", func(v *View) bool { return v.Alive == 2 }).Round(time.Millisecond))
	}
	all[1].stop()
	if err := all[1].Leave(ctx); err != nil {
		t.Errorf("leaving after the end: %v", err)
	}
}

// TestRestart restarts a speaker on the same address, at once (nobody noticed) and after its death was noticed.
func TestRestart(t *testing.T) {
	for _, noticed := range []bool{false, true} {
		t.Run(fmt.Sprintf("noticed=%v", noticed), func(t *testing.T) {
			all := cluster(t, 3)
			all[1].Publish(self(1, manyClaims(10, 9)))
			for _, r := range all {
				r.waitFor(t, "claims", func(v *View) bool { return len(claimsOf(v, "node-01")) == 10 })
			}
			all[1].stop()
			if noticed {
				all[0].waitFor(t, "death", func(v *View) bool { return v.Alive == 2 })
				all[2].waitFor(t, "death", func(v *View) bool { return v.Alive == 2 })
			}
			again := start(t, "node-01", all[1].addr.Addr(), key)
			again.SetSeeds([]netip.AddrPort{all[0].addr, all[1].addr, all[2].addr})
			claims := manyClaims(2, 1)
			again.Publish(self(1, claims)) // a start time that is no later
			for _, r := range []*run{all[0], all[2], again} {
				took := r.waitFor(t, "the second run", func(v *View) bool { return v.Alive == 3 && maps.Equal(claimsOf(v, "node-01"), claims) })
				t.Logf("back after %v", took.Round(time.Millisecond))
			}
			again.waitFor(t, "counter of the first run", func(v *View) bool { return v.Claims[netip.MustParseAddr("10.0.0.5")] == 9 })
		})
	}
}

func TestWrongKeyIsNotHeard(t *testing.T) {
	all := cluster(t, 2)
	stranger := start(t, "stranger", loopback(), bytes.Repeat([]byte{8}, KeySize))
	stranger.Publish(self(9, manyClaims(3, 99)))
	stranger.SetSeeds([]netip.AddrPort{all[0].addr})
	all[0].SetSeeds([]netip.AddrPort{all[0].addr, all[1].addr, stranger.addr})
	deadline := time.Now().Add(patience)
	for !strings.Contains(all[0].log.String(), "decrypt") {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said of the wrong key:\n%s", tail(all[0].log.String()))
		}
		<-time.After(10 * time.Millisecond)
	}
	all[0].waitFor(t, "other with the right key", func(v *View) bool { return v.Alive == 2 })
	if v := all[0].View(); v.Alive > 2 || len(v.Claims) != 0 || v.Known != 3 {
		t.Errorf("a stranger with another key is believed: %+v", v)
	}
	if v := stranger.View(); v.Alive != 1 {
		t.Errorf("the stranger believes the others: %+v", v)
	}
}

func TestKeyIsRequired(t *testing.T) {
	for _, k := range [][]byte{nil, []byte("short")} {
		m := New(Options{Node: "a", BindAddress: loopback(), Port: testPort, Key: k, Log: slog.New(slog.DiscardHandler)})
		if err := m.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "gossip key") {
			t.Errorf("key of %d bytes: error %v", len(k), err)
		}
	}
}

func TestPortTaken(t *testing.T) {
	addr := loopback()
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, testPort).String())
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, "a", addr, key)
	r.SetSeeds([]netip.AddrPort{r.addr, netip.AddrPortFrom(loopback(), testPort)})
	r.Publish(self(1, nil))
	r.waitFor(t, "view of its own", func(v *View) bool { return len(v.Members) == 1 && v.Alive == 1 && v.Known == 2 })
	if log := r.log.String(); !strings.Contains(log, "gossip port 17947 is taken") {
		t.Errorf("the port is not named:\n%s", log)
	}
	if v := r.View(); !strings.Contains(v.Trouble, "gossip port 17947 is taken") {
		t.Errorf("the view says %q", v.Trouble)
	}
	l.Close()
	deadline := time.Now().Add(patience)
	for !strings.Contains(r.log.String(), "gossip is open") {
		if time.Now().After(deadline) {
			t.Fatal("the port is free, but was not opened")
		}
		<-time.After(10 * time.Millisecond)
	}
	r.waitFor(t, "view without trouble", func(v *View) bool { return v.Trouble == "" })
}

// wire is memberlist's own transport, with a knife: while cut reports true of a destination, nothing is sent there.
type wire struct {
	*memberlist.NetTransport
	cut func(to string) bool
}

func (w *wire) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if w.cut(a.Addr) {
		return time.Now(), nil
	}
	return w.NetTransport.WriteToAddress(b, a)
}

func (w *wire) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if w.cut(a.Addr) {
		return nil, os.ErrDeadlineExceeded
	}
	return w.NetTransport.DialAddressTimeout(a, d)
}

func TestSplitAndHeal(t *testing.T) {
	var mu sync.Mutex
	sides := map[string]int{} // address -> side, while split
	all := clusterWith(t, 5, func(m *Member) {
		m.adjust = func(c *memberlist.Config) {
			nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{c.BindAddr}, BindPort: c.BindPort, Logger: c.Logger})
			if err != nil {
				t.Errorf("transport: %v", err)
				return
			}
			self := netip.AddrPortFrom(m.opt.BindAddress, testPort).String()
			c.Transport = &wire{nt, func(to string) bool {
				mu.Lock()
				defer mu.Unlock()
				return sides[self] != sides[to]
			}}
		}
	})
	for i, r := range all {
		r.Publish(self(i, map[netip.Addr]decide.Claim{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}): {Counter: 1}}))
	}
	mu.Lock()
	sides[all[0].addr.String()], sides[all[1].addr.String()] = 1, 1
	mu.Unlock()
	all[0].waitFor(t, "split", func(v *View) bool { return v.Alive == 2 && len(v.Members) == 2 && v.Known == 5 })
	all[4].waitFor(t, "split", func(v *View) bool { return v.Alive == 3 && len(v.Members) == 3 && v.Known == 5 })
	want := map[netip.Addr]decide.Claim{netip.AddrFrom4([4]byte{10, 1, 0, 9}): {Counter: 2}}
	all[0].Publish(self(0, want))        // what the others hear after the heal must not be what they knew before
	<-time.After(500 * time.Millisecond) // the survivors' new incarnations travel with the gossip; nothing shows them
	before := make([]int, len(all))
	for i, r := range all {
		before[i] = strings.Count(r.log.String(), "speaker is gone")
	}
	mu.Lock()
	clear(sides)
	mu.Unlock()
	for _, r := range all {
		took := r.waitFor(t, "heal", func(v *View) bool {
			if c := claimsOf(v, "node-00"); c != nil && !maps.Equal(c, want) {
				t.Errorf("%s: old claims after the heal: %v", r.opt.Node, c)
			}
			return v.Alive == 5 && len(v.Members) == 5
		})
		t.Logf("whole again after %v", took.Round(time.Millisecond))
	}
	for i, r := range all { // those who were cut off believed the others dead; nobody must believe them now
		if gone := strings.Count(r.log.String(), "speaker is gone") - before[i]; gone != 0 {
			t.Errorf("%s lost %d live speakers in the heal:\n%s", r.opt.Node, gone, r.log.String())
		}
	}
}

func TestFirstJoinIsFast(t *testing.T) {
	a, b := start(t, "a", loopback(), key), start(t, "b", loopback(), key)
	a.Publish(self(1, nil))
	b.Publish(self(2, nil))
	a.waitFor(t, "view", func(v *View) bool { return true })
	b.waitFor(t, "view", func(v *View) bool { return true })
	a.SetSeeds([]netip.AddrPort{a.addr, b.addr})
	t.Logf("joined %v after the seed appeared", a.waitFor(t, "b", func(v *View) bool { return len(v.Members) == 2 }).Round(100*time.Microsecond))
	t.Logf("and the other %v later", b.waitFor(t, "a", func(v *View) bool { return len(v.Members) == 2 }).Round(100*time.Microsecond))
}

func TestMalformedMessagesAreCounted(t *testing.T) {
	all := cluster(t, 2)
	all[1].mu.Lock()
	ml := all[1].ml
	all[1].mu.Unlock()
	for _, n := range ml.Members() {
		if n.Name == "node-00" {
			if err := ml.SendReliable(n, []byte("nonsense")); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.Now().Add(patience)
	for all[0].Dropped() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("a malformed message was not counted")
		}
		<-time.After(time.Millisecond)
	}
}

func TestTwenty(t *testing.T) {
	const n = 20
	all := cluster(t, n)
	began := time.Now()
	for i, r := range all {
		r.Publish(self(i, map[netip.Addr]decide.Claim{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}): {Counter: 1}}))
	}
	for _, r := range all {
		r.waitFor(t, "claims of all", func(v *View) bool {
			return len(v.Members) == n && !slices.ContainsFunc(v.Members, func(m decide.Member) bool { return len(m.Claims) != 1 })
		})
	}
	t.Logf("20 claims known to all 20 after %v", time.Since(began).Round(time.Millisecond))
	all[7].stop()
	first := all[0].waitFor(t, "death", func(v *View) bool { return v.Alive == n-1 })
	for i, r := range all {
		if i != 7 {
			r.waitFor(t, "death", func(v *View) bool { return v.Alive == n-1 && claimsOf(v, "node-07") == nil })
		}
	}
	t.Logf("a death noticed by one of 20 after %v", first.Round(time.Millisecond))
}

func TestIPv6(t *testing.T) {
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 loopback: %v", err)
	} else {
		l.Close()
	}
	m := New(Options{Node: "six", BindAddress: netip.IPv6Loopback(), Port: testPort, Key: key, Log: slog.New(slog.DiscardHandler)})
	four := start(t, "other", loopback(), key)
	four.Publish(self(1, nil))
	m.Publish(self(2, nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	r := &run{Member: m}
	r.waitFor(t, "view", func(v *View) bool { return v.Alive == 1 })
	m.mu.Lock()
	addr := m.book.addr
	m.mu.Unlock()
	if addr.Addr() != netip.IPv6Loopback() {
		t.Errorf("the others would see it at %v", addr)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLogLevels(t *testing.T) {
	out := &syncBuffer{}
	w := newLogWriter(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	now := time.Unix(0, 0)
	w.now = func() time.Time { return now }
	for i := range 5 {
		fmt.Fprintf(w, "[ERR] memberlist: Failed to send to 10.0.0.%d\n", i)
		fmt.Fprintf(w, "[DEBUG] memberlist: Stream connection from=%d\n", i)
	}
	now = now.Add(time.Minute)
	fmt.Fprint(w, "[ERR] memberlist: Failed to send to 10.0.0.9\n")
	got := out.String()
	if strings.Count(got, "level=WARN") != 2 || !strings.Contains(got, "repeated=4") || strings.Contains(got, "Stream") {
		t.Errorf("log:\n%s", got)
	}
}
