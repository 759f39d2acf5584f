package ndp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

var (
	vip      = netip.MustParseAddr("2001:db8::a:10")
	vip2     = netip.MustParseAddr("2001:db8::a:12")
	between  = netip.MustParseAddr("2001:db8::a:11") // not ours, though in the midst of ours
	alike    = netip.MustParseAddr("2001:db9::a:10") // not ours, though its last 32 bits are: it passes the filter
	sentinel = netip.MustParseAddr("2001:db8::b:99")
	peer     = netip.MustParseAddr("fe80::1:2:3")
	none     = netip.IPv6Unspecified()
	allNodes = netip.IPv6LinkLocalAllNodes()

	peerMAC  = mac("02:00:00:00:00:aa")
	otherMAC = mac("02:00:00:00:00:bb")
	ownOther = mac("02:00:00:00:00:cc") // another interface of the same node
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

// noGroups is for the cable in memory, on which everything arrives.
type noGroups struct{}

func (noGroups) want([]frame.Answer)    {}
func (noGroups) work(int) (int, error)  { return 0, nil }
func (noGroups) joined(netip.Addr) bool { return true }
func (noGroups) close() error           { return nil }

// worlds are where the same tests run: a cable in memory and a real one.
var worlds = map[string]func(t *testing.T, b *bench){
	"memory": func(t *testing.T, b *bench) {
		near, far := nettest.Wires()
		b.mac, b.Client = mac("02:00:00:00:00:01"), nettest.NewClient(t, far)
		b.r = newResponder(near, noGroups{}, b.options(config.Interface{}))
	},
	"veth": func(t *testing.T, b *bench) {
		near, far := nettest.Veth(t, "near0", "far0")
		b.mac, b.Client = mac(near.MAC), nettest.OpenClient(t, far, unix.ETH_P_IPV6)
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
			b := newBench()
			make(t, b)
			ctx, cancel := context.WithCancel(context.Background())
			done := startRun(ctx, b.r)
			t.Cleanup(func() {
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Run ended with %v", err)
				}
				if err := b.r.Close(); err != nil {
					t.Errorf("Close: %v", err)
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

func newBench() *bench { return &bench{heard: make(chan string, 100)} }

func startRun(ctx context.Context, r *Responder) <-chan error {
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return done
}

func (b *bench) set(t *testing.T, addrs ...netip.Addr) {
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
	if left, err := b.r.Settle(1000); left > 0 || err != nil {
		t.Fatalf("%d groups left to settle, %v", left, err)
	}
}

// ns builds a solicitation from src to a group (to nil) or a station; option is the source link-layer address, nil for none.
func ns(t testing.TB, to net.HardwareAddr, from net.HardwareAddr, src, target netip.Addr, option net.HardwareAddr) []byte {
	t.Helper()
	body := &ndp.NeighborSolicitation{TargetAddress: target}
	if option != nil {
		body.Options = append(body.Options, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: option})
	}
	dst := target
	if to == nil {
		dst = groupOf(target)
		to = multicastMAC(dst)
	}
	return build(t, to, from, src, dst, body)
}

func na(t testing.TB, from net.HardwareAddr, src, target netip.Addr, option net.HardwareAddr) []byte {
	t.Helper()
	body := &ndp.NeighborAdvertisement{TargetAddress: target, Override: true}
	if option != nil {
		body.Options = append(body.Options, &ndp.LinkLayerAddress{Direction: ndp.Target, Addr: option})
	}
	return build(t, multicastMAC(allNodes), from, src, allNodes, body)
}

func build(t testing.TB, to, from net.HardwareAddr, src, dst netip.Addr, body ndp.Message) []byte {
	t.Helper()
	b, err := marshal(to, from, src, dst, body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show prints an advertisement as the tests write it, "" for other frames: the kernel on the cable has things to say as well.
func show(b []byte) string {
	m, err := parse(b)
	if err != nil {
		return ""
	}
	body, ok := m.body.(*ndp.NeighborAdvertisement)
	if !ok {
		return ""
	}
	return fmt.Sprintf("to %v %v: %v is at %v router=%v solicited=%v override=%v, from %v %v",
		m.to, m.dst, body.TargetAddress, m.mac, body.Router, body.Solicited, body.Override, m.from, m.src)
}

func (b *bench) answer(to net.HardwareAddr, dst, target netip.Addr, solicited bool) string {
	return fmt.Sprintf("to %v %v: %v is at %v router=false solicited=%v override=true, from %v %v", to, dst, target, b.mac, solicited, b.mac, target)
}

// until asks for the sentinel and returns what came before its answer.
func (b *bench) until(t *testing.T) []string {
	t.Helper()
	b.Send(ns(t, nil, peerMAC, peer, sentinel, peerMAC))
	got, end := []string{}, b.answer(peerMAC, peer, sentinel, true)
	for {
		switch s := show(b.Next()); s {
		case "":
		case end:
			return got
		default:
			got = append(got, s)
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
	const toPeer, toOther, toAll = 1, 2, 3
	for _, tt := range []struct {
		name     string
		send     func(b *bench) []byte
		answer   int
		conflict bool
	}{
		{"multicast solicitation", func(*bench) []byte { return ns(t, nil, peerMAC, peer, vip, peerMAC) }, toPeer, false},
		{"its option says where to answer", func(*bench) []byte { return ns(t, nil, otherMAC, peer, vip, peerMAC) }, toPeer, false},
		{"multicast without option", func(*bench) []byte { return ns(t, nil, otherMAC, peer, vip, nil) }, toOther, false},
		{"unicast, as unreachability detection sends it", func(b *bench) []byte { return ns(t, b.mac, peerMAC, peer, vip, nil) }, toPeer, false},
		{"duplicate address detection", func(*bench) []byte { return ns(t, nil, peerMAC, none, vip, nil) }, toAll, false},
		{"from no address, but unicast", func(b *bench) []byte { return ns(t, b.mac, peerMAC, none, vip, nil) }, 0, false},
		{"from no address, but with option", func(*bench) []byte { return ns(t, nil, peerMAC, none, vip, peerMAC) }, 0, false},
		{"to another station", func(*bench) []byte { return ns(t, otherMAC, peerMAC, peer, vip, nil) }, 0, false},
		{"for a stranger among ours", func(*bench) []byte { return ns(t, nil, peerMAC, peer, between, peerMAC) }, 0, false},
		{"for a stranger with our last 32 bits", func(*bench) []byte { return ns(t, nil, peerMAC, peer, alike, peerMAC) }, 0, false},
		{"forwarded", func(*bench) []byte { return edit(ns(t, nil, peerMAC, peer, vip, peerMAC), 14+7, 254) }, 0, false},
		{"wrong checksum", func(*bench) []byte { return edit(ns(t, nil, peerMAC, peer, vip, peerMAC), 14+40+2, 0x5a) }, 0, false},
		{"unknown code", func(*bench) []byte { return sum(edit(ns(t, nil, peerMAC, peer, vip, peerMAC), 14+40+1, 1)) }, 0, false},
		{"option without length", func(*bench) []byte { return sum(edit(ns(t, nil, peerMAC, peer, vip, peerMAC), 14+40+25, 0)) }, 0, false},
		{"option is a group", func(*bench) []byte { return ns(t, nil, peerMAC, peer, vip, mac("33:33:00:00:00:01")) }, 0, false},
		{"cut short", func(*bench) []byte { return ns(t, nil, peerMAC, peer, vip, peerMAC)[:60] }, 0, false},
		{"another announces our address", func(*bench) []byte { return na(t, otherMAC, peer, vip, otherMAC) }, 0, true},
		{"another announces our address without option", func(*bench) []byte { return na(t, otherMAC, vip, vip, nil) }, 0, true},
		{"another asks from our address", func(*bench) []byte { return ns(t, nil, otherMAC, vip, peer, otherMAC) }, 0, true},
		{"own announcement heard on another interface", func(*bench) []byte { return na(t, ownOther, vip, vip, ownOther) }, 0, false},
		{"announcement of a stranger's address", func(*bench) []byte { return na(t, otherMAC, alike, alike, otherMAC) }, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorlds(t, func(t *testing.T, b *bench) {
				b.Send(tt.send(b))
				got := b.until(t)
				want := map[int][]string{
					0:       {},
					toPeer:  {b.answer(peerMAC, peer, vip, true)},
					toOther: {b.answer(otherMAC, peer, vip, true)},
					toAll:   {b.answer(multicastMAC(allNodes), allNodes, vip, false)},
				}[tt.answer]
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
				if r := b.count.Requests.Load(); r != uint64(len(want)+1) {
					t.Errorf("requests counted %d, want %d", r, len(want)+1)
				}
				if c := b.count.Conflicts.Load(); c != uint64(len(conflicts)) {
					t.Errorf("conflicts counted %d, want %d", c, len(conflicts))
				}
			})
		})
	}
}

func edit(b []byte, at int, v byte) []byte { b[at] = v; return b }

// sum sets the checksum right again.
func sum(b []byte) []byte {
	payload := b[54:]
	if n := int(binary.BigEndian.Uint16(b[18:])); n >= 4 && n < len(payload) {
		payload = payload[:n]
	}
	payload[2], payload[3] = 0, 0
	src, dst := netip.AddrFrom16([16]byte(b[22:38])), netip.AddrFrom16([16]byte(b[38:54]))
	binary.BigEndian.PutUint16(payload[2:], checksum(src, dst, payload))
	return b
}

func TestReplacedSetAndMAC(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		ask := func(a netip.Addr) { b.Send(ns(t, nil, peerMAC, peer, a, peerMAC)) }
		b.set(t, vip2, sentinel)
		ask(vip)
		ask(vip2)
		if diff := cmp.Diff([]string{b.answer(peerMAC, peer, vip2, true)}, b.until(t)); diff != "" {
			t.Errorf("after the address was taken away (-want +got):\n%s", diff)
		}
		b.mac = mac("02:00:00:00:00:02")
		b.set(t, between, sentinel)
		ask(between)
		ask(vip2)
		if diff := cmp.Diff([]string{b.answer(peerMAC, peer, between, true)}, b.until(t)); diff != "" {
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
		if diff := cmp.Diff([]string{b.answer(multicastMAC(allNodes), allNodes, vip, false)}, b.until(t)); diff != "" {
			t.Errorf("frames (-want +got):\n%s", diff)
		}
		if g := b.count.Gratuitous.Load(); g != 1 {
			t.Errorf("gratuitous counted %d, want 1", g)
		}
	})
}

func TestMalformedIsCounted(t *testing.T) {
	b := newBench()
	worlds["memory"](t, b)
	b.set(t, vip)
	good := ns(t, nil, peerMAC, peer, vip, peerMAC)
	for _, bad := range [][]byte{nil, good[:20], good[:60], edit(bytes.Clone(good), 14, 0x40), edit(bytes.Clone(good), 14+7, 1), edit(bytes.Clone(good), 14+41, 7)} {
		b.r.handle(bad)
	}
	if n := b.count.Malformed.Load(); n != 6 {
		t.Errorf("malformed counted %d, want 6", n)
	}
	if f := b.Waiting(); f != nil {
		t.Errorf("answered %s", show(f))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(ns(f, nil, peerMAC, peer, vip, peerMAC))
	f.Add(ns(f, nil, peerMAC, none, vip, nil))
	f.Add(na(f, peerMAC, vip, vip, peerMAC))
	f.Add([]byte{})
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := parse(in); err != nil && len(in) >= 14+40+24 { // let it past the checksum too
			in = bytes.Clone(in)
			in[20], in[21] = protocolICMPv6, ndp.HopLimit
			if _, err := parse(sum(in)); err != nil {
				return
			}
		}
		m, err := parse(in)
		if err != nil {
			return
		}
		again, err := parse(build(t, m.to, m.from, m.src, m.dst, m.body))
		if err != nil {
			t.Fatalf("built from %+v but cannot parse it: %v", m, err)
		}
		if diff := cmp.Diff(fmt.Sprint(m.mac, m.src, m.dst), fmt.Sprint(again.mac, again.src, again.dst)); diff != "" {
			t.Fatalf("rebuilt differs:\n%s", diff)
		}
	})
}
