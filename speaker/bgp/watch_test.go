package bgp

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
)

// lookout is a model of what watches paths.
type lookout struct {
	t       *testing.T
	n       *network
	changed chan struct{}

	mu     sync.Mutex
	runs   int
	want   []Watch
	sights map[string]Sight
}

func (l *lookout) Run(ctx context.Context) error {
	l.mu.Lock()
	l.runs++
	l.mu.Unlock()
	<-ctx.Done()
	if left := l.n.String(); left != "" {
		l.t.Errorf("paths are not watched any more while there are sessions:\n%s", left)
	}
	return nil
}

func (l *lookout) Set(w []Watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want = w
}

func (l *lookout) Sights() map[string]Sight {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]Sight{}
	for _, w := range l.want {
		out[w.Peer] = l.sights[w.Peer]
	}
	return out
}

func (l *lookout) Changed() <-chan struct{} { return l.changed }

// see changes what is seen of a path, and lets it be heard.
func (l *lookout) see(name string, s Sight) {
	l.mu.Lock()
	l.sights[name] = s
	l.mu.Unlock()
	l.changed <- struct{}{}
	synctest.Wait()
}

func (l *lookout) watched() []Watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want
}

// watching starts an Announcer with something that watches paths.
func watching(t *testing.T) (*network, *lookout, *Announcer) {
	n := newNetwork(t)
	l := &lookout{t: t, n: n, changed: make(chan struct{}), sights: map[string]Sight{}}
	a := New(Options{Node: "node-1", Router: n, Log: slog.New(slog.DiscardHandler), Watcher: l})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil || l.runs != 1 {
			t.Errorf("Run: %v; the lookout ran %d times", err, l.runs)
		}
	})
	return n, l, a
}

func (n *network) dropped() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.drops
	n.drops = nil
	return out
}

func fast() *config.BFDProfile { return &config.BFDProfile{DetectMultiplier: 3} }

// TestPathFails: a session goes with its path, at once and only once for each failure, and is tried at once when the path is back.
func TestPathFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l, a := watching(t)
		p, q := peer("a", "10.0.0.1", 65001), peer("b", "10.0.0.2", 65001)
		p.BFD = fast()
		d := Desired{Peers: []*config.Peer{p, q}, Addresses: addrs("10.0.0.5")}
		a.Set(d)
		synctest.Wait()
		for _, step := range []struct {
			what  string
			sight Sight
			want  []string
		}{
			{"the router is heard", Sight{State: "Init", ID: 1}, []string{"a: hasten"}},
			{"it comes up", Sight{State: "Up", ID: 1}, []string{"a: hasten"}},
			{"it fails", Sight{State: "Down", ID: 1, Losses: 1}, []string{"a: BFD: the path to 10.0.0.1 failed"}},
			{"nothing new", Sight{State: "Down", ID: 1, Losses: 1}, nil},
			{"up again", Sight{State: "Up", ID: 1, Losses: 1}, []string{"a: hasten"}},
			{"the router gives up watching", Sight{State: "Down", ID: 1, Losses: 1}, nil},
			{"it failed and is up again", Sight{State: "Up", ID: 1, Losses: 2}, []string{"a: BFD: the path to 10.0.0.1 failed", "a: hasten"}},
			{"counted anew", Sight{State: "Up", ID: 2}, nil},
			{"counted anew, and failed", Sight{State: "Up", ID: 3, Losses: 1}, []string{"a: BFD: the path to 10.0.0.1 failed"}},
		} {
			l.see("a", step.sight)
			if diff := cmp.Diff(step.want, n.dropped(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s: dropped (-want +got):\n%s", step.what, diff)
			}
			if got := a.Sessions()[0].BFD; got != step.sight.State {
				t.Errorf("%s: state %q, want %q", step.what, got, step.sight.State)
			}
		}
		slower := *p // a session that is opened anew is not dropped for what was before
		slower.HoldTime *= 2
		d.Peers = []*config.Peer{&slower, q}
		a.Set(d)
		synctest.Wait()
		l.see("a", Sight{State: "Up", ID: 3, Losses: 1})
		if got := n.dropped(); len(got) != 0 || n.started("a") != 2 {
			t.Errorf("after a change: dropped %v, %d starts", got, n.started("a"))
		}
		if got := a.Sessions()[1].BFD; got != "" {
			t.Errorf("peer b is not watched, and its state is %q", got)
		}
	})
}

// TestWatches tells which paths are watched; the profile is no matter to the session.
func TestWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, l, a := watching(t)
		near, far, inside, away, link, off := peer("near", "10.0.0.1", 65001), peer("far", "192.0.2.1", 65001), peer("inside", "10.0.0.2", 64512),
			peer("inside-far", "192.0.2.2", 64512), peer("unnumbered", "10.0.0.9", 65001), peer("off", "10.0.0.3", 65001)
		far.EBGPMultiHop, near.Source, near.VRF = true, netip.MustParseAddr("10.0.0.5"), "blue"
		link.Address, link.Interface = netip.Addr{}, "eth7"
		list := []*config.Peer{near, far, inside, away, link}
		for _, p := range list {
			p.BFD = fast()
		}
		subnets := []config.Interface{{Name: "eth0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}}
		d := Desired{Peers: append(list, off), Addresses: addrs("10.0.0.5"), Interfaces: subnets}
		a.Set(d)
		synctest.Wait()
		profile := *fast()
		want := []Watch{
			{Peer: "far", Router: netip.MustParseAddr("192.0.2.1"), MultiHop: true, Profile: profile},
			{Peer: "inside", Router: netip.MustParseAddr("10.0.0.2"), Profile: profile},
			{Peer: "inside-far", Router: netip.MustParseAddr("192.0.2.2"), MultiHop: true, Profile: profile},
			{Peer: "near", Router: netip.MustParseAddr("10.0.0.1"), Local: netip.MustParseAddr("10.0.0.5"), Device: "blue", Profile: profile},
		}
		same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(want, l.watched(), same); diff != "" {
			t.Errorf("watched (-want +got):\n%s", diff)
		}
		n.find("unnumbered", netip.MustParseAddr("fe80::1%eth7"))
		synctest.Wait()
		want = append(want, Watch{Peer: "unnumbered", Router: netip.MustParseAddr("fe80::1%eth7"), Interface: "eth7", Profile: profile})
		if diff := cmp.Diff(want, l.watched(), same); diff != "" {
			t.Errorf("watched when the router was found (-want +got):\n%s", diff)
		}
		slower := *near
		slower.BFD = &config.BFDProfile{DetectMultiplier: 5}
		d.Peers = []*config.Peer{&slower}
		a.Set(d)
		synctest.Wait()
		if got := l.watched(); len(got) != 1 || got[0].Profile != *slower.BFD || n.started("near") != 1 {
			t.Errorf("with another profile: watched %+v, %d starts", got, n.started("near"))
		}
	})
}

// find makes the session of a peer say who its router is.
func (n *network) find(name string, router netip.Addr) {
	n.mu.Lock()
	var found *fakeSession
	for _, s := range n.running {
		if s.Name == name {
			s.status.Remote, found = router, s
		}
	}
	n.mu.Unlock()
	found.changed()
}
