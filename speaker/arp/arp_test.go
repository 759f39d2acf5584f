package arp

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

var (
	vip      = netip.MustParseAddr("192.0.2.10")
	vip2     = netip.MustParseAddr("192.0.2.12")
	between  = netip.MustParseAddr("192.0.2.11") // not ours, though in the midst of ours
	sentinel = netip.MustParseAddr("192.0.2.200")
	peer     = netip.MustParseAddr("192.0.2.1")
	zero     = netip.IPv4Unspecified()

	peerMAC  = mac("02:00:00:00:00:aa")
	otherMAC = mac("02:00:00:00:00:bb")
	ownOther = mac("02:00:00:00:00:cc") // another interface of the same node
	noMAC    = make(net.HardwareAddr, 6)
)

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// bench is a responder under test and a client on the same segment.
type bench struct {
	*nettest.Client
	r     *Responder
	mac   net.HardwareAddr
	count frame.Counters
	heard chan string
}

// worlds are where the same tests run: a cable in memory and a real one.
var worlds = map[string]func(t *testing.T, b *bench){
	"memory": func(t *testing.T, b *bench) {
		near, far := nettest.Wires()
		b.mac, b.Client = mac("02:00:00:00:00:01"), nettest.NewClient(t, far)
		b.r = newResponder(near, b.options(config.Interface{}))
	},
	"veth": func(t *testing.T, b *bench) {
		near, far := nettest.Veth(t, "near0", "far0")
		b.mac, b.Client = mac(near.MAC), nettest.OpenClient(t, far, unix.ETH_P_ARP)
		r, err := Open(b.options(near))
		if err != nil {
			t.Fatal(err)
		}
		b.r = r
	},
}

func (b *bench) options(ifi config.Interface) Options {
	return Options{
		Interface: ifi,
		Counters:  &b.count,
		Heard:     func(c frame.Claim) { b.heard <- told(c) },
		IsOwn:     func(m net.HardwareAddr) bool { return bytes.Equal(m, ownOther) },
	}
}

func inWorlds(t *testing.T, test func(t *testing.T, b *bench)) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			b := &bench{heard: newHeard()}
			make(t, b)
			ctx, cancel := context.WithCancel(context.Background())
			done := startRun(ctx, b.r)
			t.Cleanup(func() {
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run ended with %v", err)
				}
			})
			b.set(t, vip, vip2, sentinel)
			test(t, b)
		})
	}
}

// told prints a claim.
func told(c frame.Claim) string {
	s := fmt.Sprint(c.Addr, " by ", c.MAC)
	if c.Watched {
		s += " watched"
	}
	if c.Probe {
		s += " probed"
	}
	return s
}

func newHeard() chan string { return make(chan string, 100) }

func startRun(ctx context.Context, r *Responder) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return done
}

func (b *bench) set(t testing.TB, addrs ...netip.Addr) {
	t.Helper()
	list := make([]frame.Answer, len(addrs))
	for i, a := range addrs {
		list[i].Addr = a
	}
	b.setRoles(t, list...)
}

func (b *bench) setRoles(t testing.TB, list ...frame.Answer) {
	t.Helper()
	if err := b.r.Set(frame.NewAnswers(b.mac, list)); err != nil {
		t.Fatal(err)
	}
}

func packetOf(t testing.TB, to net.HardwareAddr, op arp.Operation, sha net.HardwareAddr, spa netip.Addr, tpa netip.Addr) []byte {
	t.Helper()
	b, err := marshal(to, sha, op, station{sha, spa}, station{noMAC, tpa})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show prints a frame as the tests write it.
func show(b []byte) string {
	m, err := parse(b)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("to %v op %d: %v is at %v, for %v", m.to, m.op, m.sender, m.senderMAC, m.target)
}

// until asks for the sentinel and returns what came before its answer.
func (b *bench) until(t *testing.T) []string {
	t.Helper()
	b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, sentinel))
	end := fmt.Sprintf("to %v op 2: %v is at %v, for %v", peerMAC, sentinel, b.mac, peer)
	got := []string{}
	for {
		if s := show(b.Next()); s != end {
			got = append(got, s)
		} else {
			return got
		}
	}
}

func (b *bench) conflicts() []string {
	got := []string{}
	for len(b.heard) > 0 {
		got = append(got, <-b.heard)
	}
	return got
}

func TestAnswers(t *testing.T) {
	request, reply := arp.OperationRequest, arp.OperationReply
	for _, tt := range []struct {
		name     string
		send     func(b *bench) []byte
		answer   bool
		conflict bool
	}{
		{"broadcast request", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, peerMAC, peer, vip) }, true, false},
		{"unicast request to us", func(b *bench) []byte { return packetOf(t, b.mac, request, peerMAC, peer, vip) }, true, false},
		{"request to another station", func(b *bench) []byte { return packetOf(t, otherMAC, request, peerMAC, peer, vip) }, false, false},
		{"request for an address that is not ours", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, peerMAC, peer, between) }, false, false},
		{"probe", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, peerMAC, zero, vip) }, true, false},
		{"reply to us", func(b *bench) []byte { return packetOf(t, b.mac, reply, peerMAC, peer, vip) }, false, false},
		{"announcement as request", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, otherMAC, vip, vip) }, false, true},
		{"announcement as reply", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, reply, otherMAC, vip, vip) }, false, true},
		{"another uses our address to ask for a stranger", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, otherMAC, vip, peer) }, false, true},
		{"own announcement heard on another interface", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, ownOther, vip, vip) }, false, false},
		{"own request from another interface", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, ownOther, peer, vip) }, false, false},
		{"announcement of a stranger's address", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, otherMAC, between, between) }, false, false},
		{"unknown operation", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, 9, peerMAC, peer, vip) }, false, false},
		{"sender without a MAC", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, noMAC, peer, vip) }, false, false},
		{"cut short", func(b *bench) []byte { return packetOf(t, ethernet.Broadcast, request, peerMAC, peer, vip)[:40] }, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(t *testing.T, b *bench) {
				sent := tt.send(b)
				b.Send(sent)
				got := b.until(t)
				want, replies := []string{}, uint64(1)
				if tt.answer {
					m, err := parse(sent)
					if err != nil {
						t.Fatal(err)
					}
					want, replies = []string{fmt.Sprintf("to %v op 2: %v is at %v, for %v", m.senderMAC, vip, b.mac, m.sender)}, 2
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("frames (-want +got):\n%s", diff)
				}
				conflicts := []string{}
				if tt.conflict {
					conflicts = []string{fmt.Sprint(vip, " by ", otherMAC)}
				}
				if diff := cmp.Diff(conflicts, b.conflicts()); diff != "" {
					t.Errorf("conflicts (-want +got):\n%s", diff)
				}
				if r := b.count.Requests.Load(); r != replies {
					t.Errorf("requests counted %d, want %d", r, replies)
				}
				if c := b.count.Conflicts.Load(); c != uint64(len(conflicts)) {
					t.Errorf("conflicts counted %d, want %d", c, len(conflicts))
				}
			})
		})
	}
}

func TestReplacedSetAndMAC(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		ask := func(a netip.Addr) { b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, a)) }
		b.set(t, vip2, sentinel)
		ask(vip)
		ask(vip2)
		want := []string{fmt.Sprintf("to %v op 2: %v is at %v, for %v", peerMAC, vip2, b.mac, peer)}
		if diff := cmp.Diff(want, b.until(t)); diff != "" {
			t.Errorf("after the address was taken away (-want +got):\n%s", diff)
		}
		b.mac = mac("02:00:00:00:00:02")
		b.set(t, between, sentinel)
		ask(between)
		ask(vip2)
		want = []string{fmt.Sprintf("to %v op 2: %v is at %v, for %v", peerMAC, between, b.mac, peer)}
		if diff := cmp.Diff(want, b.until(t)); diff != "" {
			t.Errorf("with another set and MAC (-want +got):\n%s", diff)
		}
	})
}

func TestAnnounce(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		for _, a := range []netip.Addr{vip, between} { // the second is not answered for, so it must not be announced
			if err := b.r.Announce(a); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{
			fmt.Sprintf("to ff:ff:ff:ff:ff:ff op 1: %v is at %v, for %v", vip, b.mac, vip),
			fmt.Sprintf("to ff:ff:ff:ff:ff:ff op 2: %v is at %v, for %v", vip, b.mac, vip),
		}
		if diff := cmp.Diff(want, b.until(t)); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		if g := b.count.Gratuitous.Load(); g != 2 {
			t.Errorf("gratuitous counted %d, want 2", g)
		}
	})
}

func TestMalformedIsCounted(t *testing.T) {
	b := &bench{heard: newHeard()}
	worlds["memory"](t, b)
	b.set(t, vip)
	good := packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip)
	for i := range 4 { // hardware type, protocol type, lengths
		bad := bytes.Clone(good)
		bad[14+i+1] ^= 0x40
		b.r.handle(bad)
	}
	b.r.handle(good[:20])
	b.r.handle(nil)
	if n := b.count.Malformed.Load(); n != 6 {
		t.Errorf("malformed counted %d, want 6", n)
	}
	if f := b.Waiting(); f != nil {
		t.Errorf("answered %s", show(f))
	}
}

// A responder that has lost its interface says so, for its owner to open another.
func TestRunEndsWithItsInterface(t *testing.T) {
	near, _ := nettest.Veth(t, "near0", "far0")
	b := &bench{heard: newHeard(), mac: mac(near.MAC)}
	r, err := Open(b.options(near))
	if err != nil {
		t.Fatal(err)
	}
	done := startRun(context.Background(), r)
	nettest.Remove(t, "near0")
	if err := <-done; err == nil {
		t.Error("Run ended without an error though its interface is gone")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(packetOf(f, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip))
	f.Add(packetOf(f, peerMAC, arp.OperationReply, peerMAC, vip, vip))
	f.Add([]byte{})
	f.Add(make([]byte, 60))
	long := packetOf(f, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip)
	long[18], long[19] = 255, 255 // lengths that lie
	f.Add(long)
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := parse(in)
		if err != nil {
			return
		}
		out, err := marshal(m.to, m.senderMAC, m.op, station{m.senderMAC, m.sender}, station{noMAC, m.target})
		if err != nil {
			t.Fatalf("parsed %+v but cannot build it: %v", m, err)
		}
		again, err := parse(out)
		if err != nil {
			t.Fatalf("built from %+v but cannot parse it: %v", m, err)
		}
		if fmt.Sprint(m) != fmt.Sprint(again) {
			t.Fatalf("parsed %+v, rebuilt %+v", m, again)
		}
	})
}
