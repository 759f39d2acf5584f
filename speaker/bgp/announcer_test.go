package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// network is a model of the routers of a network: it knows which sessions run and what they were told, and fails the test when a
// session is used in a way it must not be.
type network struct {
	t        *testing.T
	mu       sync.Mutex
	running  map[place]*fakeSession
	starts   map[string]int
	ends     []string                 // name and cause
	drops    []string                 // name and words
	farewell map[string]time.Duration // how long saying goodbye takes, by name
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, running: map[place]*fakeSession{}, starts: map[string]int{}, farewell: map[string]time.Duration{}}
}

func (n *network) Session(nb Neighbor, changed func()) Session {
	return &fakeSession{network: n, Neighbor: nb, changed: changed, status: Status{State: Idle}}
}

type fakeSession struct {
	*network
	Neighbor
	changed func()
	ran     bool
	advert  Advert
	sets    int
	status  Status
}

func (s *fakeSession) Run(ctx context.Context) {
	router := s.router()
	s.mu.Lock()
	if s.ran {
		s.t.Errorf("session %s run twice", s.Name)
	}
	if other := s.running[router]; other != nil {
		s.t.Errorf("session %s begins while %s still has one with %v", s.Name, other.Name, router)
	}
	s.ran = true
	s.running[router] = s
	s.starts[s.Name]++
	s.status.State = Established
	s.status.Ups++
	s.mu.Unlock()
	s.changed()
	<-ctx.Done()
	time.Sleep(s.wait()) // fake time
	s.mu.Lock()
	delete(s.running, router)
	s.status.Downs++
	s.ends = append(s.ends, s.Name+": "+context.Cause(ctx).Error())
	s.mu.Unlock()
}

func (s *fakeSession) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.farewell[s.Name]
}

func (s *fakeSession) Set(a Advert) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advert = a
	s.sets++
}

func (s *fakeSession) Drop(words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[s.router()] != s {
		s.t.Errorf("session %s dropped while it does not run", s.Name)
	}
	s.drops = append(s.drops, s.Name+": "+words)
}

func (s *fakeSession) Hasten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops = append(s.drops, s.Name+": hasten")
}

func (s *fakeSession) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (n *network) started(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.starts[name]
}

func (n *network) ended() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.ends)
}

// String prints who is told what.
func (n *network) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var lines []string
	for _, s := range n.running {
		line := fmt.Sprintf("%s as %d to %s as %d id %s:", s.Name, s.LocalASN, s.Address, s.PeerASN, s.RouterID)
		for _, p := range slices.Concat(s.advert.Paths...) {
			line += " " + p.Prefix.String()
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func start(t *testing.T, n *network) *Announcer {
	a := New(Options{Node: "node-1", Router: n, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if left := n.String(); left != "" {
			t.Errorf("sessions left after Run:\n%s", left)
		}
	})
	return a
}

func peer(name, address string, asn uint32) *config.Peer {
	return &config.Peer{
		Name: name, MyASN: 64512, PeerASN: asn, Address: netip.MustParseAddr(address), Port: 179, Families: []config.Family{config.IPv4},
		HoldTime: 90 * time.Second, KeepaliveTime: 30 * time.Second, ConnectTime: 10 * time.Second, Nodes: config.All[string](),
	}
}

func route(prefix string, peers ...string) decide.Route {
	return decide.Route{Prefix: netip.MustParsePrefix(prefix), Peers: peers}
}

// steps are desired states and what the network looks like in each.
var steps = []struct {
	desired Desired
	want    string
}{
	{Desired{}, ""},
	{
		Desired{Peers: []*config.Peer{peer("a", "10.0.0.1", 65001)}, Addresses: addrs("10.0.0.5")},
		"a as 64512 to 10.0.0.1 as 65001 id 10.0.0.5:",
	},
	{
		Desired{
			Peers:     []*config.Peer{peer("a", "10.0.0.1", 65001), peer("b", "10.0.0.2", 65001)},
			Routes:    [][]decide.Route{{route("192.0.2.1/32", "a", "b"), route("192.0.2.2/32", "b")}},
			Addresses: addrs("10.0.0.5"),
		},
		"a as 64512 to 10.0.0.1 as 65001 id 10.0.0.5: 192.0.2.1/32\nb as 64512 to 10.0.0.2 as 65001 id 10.0.0.5: 192.0.2.1/32 192.0.2.2/32",
	},
	{
		Desired{ // a became another AS, its router is the same
			Peers:     []*config.Peer{peer("a", "10.0.0.1", 65009), peer("b", "10.0.0.2", 65001)},
			Routes:    [][]decide.Route{{route("192.0.2.2/32", "a", "b")}},
			Addresses: addrs("10.0.0.4", "10.0.0.5"), // no reason for another identifier
		},
		"a as 64512 to 10.0.0.1 as 65009 id 10.0.0.5: 192.0.2.2/32\nb as 64512 to 10.0.0.2 as 65001 id 10.0.0.5: 192.0.2.2/32",
	},
	{
		Desired{ // a is called c now, and d wants a router that b has
			Peers:     []*config.Peer{peer("b", "10.0.0.2", 65001), peer("c", "10.0.0.1", 65001), peer("d", "10.0.0.2", 65001)},
			Routes:    [][]decide.Route{{route("192.0.2.2/32", "c", "d")}},
			Addresses: addrs("10.0.0.5"),
		},
		"b as 64512 to 10.0.0.2 as 65001 id 10.0.0.5:\nc as 64512 to 10.0.0.1 as 65001 id 10.0.0.5: 192.0.2.2/32",
	},
}

// TestJourneys goes from every desired state to every other at random; each must be reached whatever was before.
func TestJourneys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.farewell["a"], n.farewell["b"] = 700*time.Millisecond, time.Millisecond
		a := start(t, n)
		a.Set(steps[1].desired) // the identifier is chosen here
		r := rand.New(rand.NewPCG(3, 4))
		for range 200 {
			i := r.IntN(len(steps))
			a.Set(steps[i].desired)
			if r.IntN(3) == 0 {
				synctest.Wait()
				continue // on to the next before goodbyes were said
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if diff := cmp.Diff(steps[i].want, n.String()); diff != "" {
				t.Fatalf("state %d (-want +got):\n%s", i, diff)
			}
		}
	})
}

func TestRoutesNeverTouchASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a := start(t, n)
		d := Desired{Peers: []*config.Peer{peer("a", "10.0.0.1", 65001), peer("b", "10.0.0.2", 65001)}}
		for i := range 20 {
			p := peer("a", "10.0.0.1", 65001)
			p.Nodes = config.Only("node-1", fmt.Sprint(i)) // no matter to the session
			d.Peers = []*config.Peer{p, d.Peers[1]}
			d.Routes = [][]decide.Route{{route(fmt.Sprintf("192.0.2.%d/32", i), "a", "b")}}
			d.Addresses = addrs(fmt.Sprintf("10.0.0.%d", i+1))
			a.Set(d)
			synctest.Wait()
		}
		if n.started("a") != 1 || n.started("b") != 1 || len(n.ended()) != 0 {
			t.Errorf("a %d, b %d starts, ends %v; want one start each", n.started("a"), n.started("b"), n.ended())
		}
		d.Peers[0] = peer("a", "10.0.0.1", 65002)
		a.Set(d)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a: " + ErrChanged.Error()}, n.ended()); diff != "" || n.started("a") != 2 || n.started("b") != 1 {
			t.Errorf("after a change of a: starts of a %d, of b %d; ends (-want +got):\n%s", n.started("a"), n.started("b"), diff)
		}
		d.Peers = d.Peers[:1]
		a.Set(d)
		synctest.Wait()
		if want := "b: " + ErrRemoved.Error(); !slices.Contains(n.ended(), want) {
			t.Errorf("ends %v, want %q among them", n.ended(), want)
		}
	})
}

func TestSlowGoodbyeDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.farewell["a"] = time.Hour
		a := start(t, n)
		a.Set(Desired{Peers: []*config.Peer{peer("a", "10.0.0.1", 65001), peer("b", "10.0.0.2", 65001)}})
		synctest.Wait()
		a.Set(Desired{Peers: []*config.Peer{peer("a", "10.0.0.1", 65002), peer("b", "10.0.0.2", 65002)}})
		synctest.Wait()
		if n.started("b") != 2 || n.started("a") != 1 {
			t.Errorf("a %d, b %d starts; b must be back at once, a after its goodbye", n.started("a"), n.started("b"))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n.started("a") != 2 {
			t.Errorf("a %d starts; it must be back after its goodbye", n.started("a"))
		}
		n.mu.Lock()
		clear(n.farewell)
		n.mu.Unlock()
	})
}

func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		a := start(t, n)
		if a.Sessions() != nil {
			t.Errorf("sessions before anything was asked for: %v", a.Sessions())
		}
		b := peer("b", "10.0.0.1", 65001)
		withSource := peer("c", "10.0.0.1", 65001)
		withSource.Source = netip.MustParseAddr("10.0.0.6")
		withSource.Port = 1179
		a.Set(Desired{Peers: []*config.Peer{peer("a", "10.0.0.1", 65001), b, withSource}})
		synctest.Wait()
		<-a.Changed()
		got := a.Sessions()
		if len(got) != 3 || got[0].State != "Established" || got[1].State != "Idle" || got[2].State != "Established" {
			t.Fatalf("sessions = %+v", got)
		}
		if !strings.Contains(got[1].LastError, "BGPPeer a") {
			t.Errorf("error of b = %q, want it to name a", got[1].LastError)
		}
		if got[2].LocalAddress != "10.0.0.6" {
			t.Errorf("local address of c = %q", got[2].LocalAddress)
		}
		a.Set(Desired{Peers: []*config.Peer{peer("a", "10.0.0.1", 65001), b, withSource}})
		synctest.Wait()
		select {
		case <-a.Changed():
			t.Error("Changed though nothing did")
		default:
		}
		a.Set(Desired{})
		synctest.Wait()
		<-a.Changed()
		if got := a.Sessions(); len(got) != 0 {
			t.Errorf("sessions = %+v after all were removed", got)
		}
	})
}
