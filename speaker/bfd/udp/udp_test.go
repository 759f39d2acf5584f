package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// calm is slow enough for a busy machine.
func calm() config.BFDProfile { return profile(500 * ms) }

func TestTwoRunners(t *testing.T) {
	tests := []struct {
		name string
		a, b bfd.Want
	}{
		{"IPv4", bfd.Want{Peer: addr(far4)}, bfd.Want{Peer: addr(near4)}},
		{"IPv6", bfd.Want{Peer: addr(far6)}, bfd.Want{Peer: addr(near6)}},
		{"both ends named", bfd.Want{Peer: addr(far4), Local: addr(near4), Interface: nearIF}, bfd.Want{Peer: addr(near4), Local: addr(far4), Interface: farIF}},
		{"link-local, by zone", bfd.Want{Peer: addr(farLL + "%" + nearIF)}, bfd.Want{Peer: addr(nearLink + "%" + farIF)}},
		{"link-local, by interface", bfd.Want{Peer: addr(farLL), Local: addr(nearLink), Interface: nearIF}, bfd.Want{Peer: addr(nearLink), Local: addr(farLL), Interface: farIF}},
		{"multihop IPv4", bfd.Want{Peer: addr(far4), Multihop: true}, bfd.Want{Peer: addr(near4), Multihop: true}},
		{"multihop IPv6", bfd.Want{Peer: addr(far6), Local: addr(near6), Multihop: true}, bfd.Want{Peer: addr(near6), Local: addr(far6), Multihop: true}},
		{"bound to a device, as to a VRF's", bfd.Want{Peer: addr(far4), VRF: nearIF}, bfd.Want{Peer: addr(near4), VRF: farIF}},
		{"passive", bfd.Want{Peer: addr(far4), Profile: config.BFDProfile{Passive: true}}, bfd.Want{Peer: addr(near4)}},
	}
	c := newCable(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := start(t, Network{}), start(t, elsewhere{c.do})
			tt.a.Key, tt.b.Key = "b", "a"
			a.Set([]bfd.Want{tt.a})
			b.Set([]bfd.Want{tt.b})
			st := a.up("b")
			b.up("a")
			if st.Local != addr(near4) && st.Local != addr(near6) && st.Local != addr(nearLink) {
				t.Errorf("speaks from %s", st.Local)
			}
			b.stop()
			st = a.until("b", "down", func(s bfd.Status) bool { return s.State == bfd.Down })
			if st.RemoteState != bfd.AdminDown || st.Losses != 0 {
				t.Errorf("the neighbour stopped on purpose: %+v", st)
			}
		})
	}
}

func TestSevered(t *testing.T) {
	c := newCable(t)
	a, b := start(t, Network{}), start(t, elsewhere{c.do})
	a.Set([]bfd.Want{{Key: "4", Peer: addr(far4), Profile: calm()}, {Key: "6", Peer: addr(far6), Profile: calm()}})
	b.Set([]bfd.Want{{Key: "4", Peer: addr(near4), Profile: calm()}, {Key: "6", Peer: addr(near6), Profile: calm()}})
	for _, key := range []string{"4", "6"} {
		a.settled(key, 500*ms, 1500*ms)
		b.settled(key, 500*ms, 1500*ms)
	}
	undo := c.sever()
	for _, r := range []*runner{a, b} {
		for _, key := range []string{"4", "6"} {
			st := r.until(key, "loss", func(s bfd.Status) bool { return s.State != bfd.Up })
			if st.Losses == 0 || st.Diagnostic != bfd.DetectionTimeExpired {
				t.Errorf("%+v", st)
			}
		}
	}
	undo()
	for _, r := range []*runner{a, b} {
		r.up("4")
		r.up("6")
	}
}

// TestThroughRouter: a router between the two takes one from the TTL.
func TestThroughRouter(t *testing.T) {
	c := newCable(t) // its far end is the router
	nettest.Veth(t, "wc", "wd")
	end := nettest.Elsewhere(t, "wd")
	end(func() { setAddresses(t, "wd", "10.8.0.7/24"); route(t, "10.9.0.0/24", "10.8.0.1") })
	into := nsOf(t, c.do)
	must(t, netlink.LinkSetNsFd(nettest.Link(t, "wc"), into))
	c.do(func() { setAddresses(t, "wc", "10.8.0.1/24"); forward(t) })
	route(t, "10.8.0.0/24", far4)

	a, b := start(t, Network{}), start(t, elsewhere{end})
	quick := calm()
	quick.MinimumTTL = 254
	a.Set([]bfd.Want{{Key: "near", Peer: addr("10.8.0.7"), Profile: calm()}, {Key: "far", Peer: addr("10.8.0.7"), Multihop: true, Profile: quick}})
	b.Set([]bfd.Want{{Key: "near", Peer: addr(near4), Profile: calm()}, {Key: "far", Peer: addr(near4), Multihop: true, Profile: quick}})
	a.up("far")
	b.up("far")
	st := a.until("near", "word of the TTL", func(s bfd.Status) bool { return s.LastError != "" })
	if !strings.Contains(st.LastError, "TTL 254") || st.State == bfd.Up {
		t.Errorf("%+v", st)
	}
	if a.Dropped().TTL == 0 {
		t.Error("not counted")
	}
}

func route(t testing.TB, to, via string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(to)
	must(t, err)
	must(t, netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(via)}))
}

// TestOnTheWire looks at a packet as it arrives: RFC 5881 sections 4 and 5.
func TestOnTheWire(t *testing.T) {
	c := newCable(t)
	for _, tt := range []struct {
		near, far string
		family    config.Family
	}{{near4, far4, config.IPv4}, {near6, far6, config.IPv6}} {
		var fd int
		c.do(func() { fd = receiver(t, tt.family) })
		r := start(t, Network{})
		want := []bfd.Want{{Key: "1", Peer: addr(tt.far)}}
		r.Set(want)
		first := receive(t, fd)
		if first.from != addr(tt.near) || first.port < firstSource || first.ttl != 255 || first.class != networkControl {
			t.Errorf("%s: %+v", tt.family, first)
		}
		if p, err := bfd.Parse(first.payload); err != nil || p.State != bfd.Down {
			t.Errorf("%s: %+v, %v", tt.family, p, err)
		}
		if again := receive(t, fd); again.port != first.port {
			t.Errorf("%s: source port %d, then %d", tt.family, first.port, again.port)
		}
		r.stop()
		r = start(t, Network{})
		r.Set(want)
		for { // after the goodbye of the first one
			got := receive(t, fd)
			p, err := bfd.Parse(got.payload)
			must(t, err)
			if p.State == bfd.AdminDown {
				continue
			}
			if got.port != first.port {
				t.Errorf("%s: source port %d, and %d after a restart", tt.family, first.port, got.port)
			}
			break
		}
		r.stop()
		unix.Close(fd)
	}
}

// packet is what arrived.
type packet struct {
	from       netip.Addr
	port       int
	ttl, class int
	payload    []byte
}

// receiver opens a socket of the test's own on port 3784.
func receiver(t testing.TB, f config.Family) int {
	t.Helper()
	domain, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 3784})
	opts := []option{{unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {unix.IPPROTO_IP, unix.IP_RECVTOS, 1}}
	if f == config.IPv6 {
		domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: 3784}
		opts = []option{{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1}}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, set(fd, opts))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 120}))
	must(t, unix.Bind(fd, sa))
	return fd
}

func receive(t testing.TB, fd int) packet {
	t.Helper()
	buf, oob := make([]byte, 1500), make([]byte, 256)
	n, oobn, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
	if err != nil {
		t.Fatalf("no packet came: %v", err)
	}
	p := packet{payload: buf[:n], from: addrOf(from)}
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		p.port = a.Port
	case *unix.SockaddrInet6:
		p.port = a.Port
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(t, err)
	for _, m := range msgs {
		switch [2]int32{m.Header.Level, m.Header.Type} {
		case [2]int32{unix.IPPROTO_IP, unix.IP_TTL}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
			p.ttl = int(binary.NativeEndian.Uint32(m.Data))
		case [2]int32{unix.IPPROTO_IP, unix.IP_TOS}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:
			p.class = int(m.Data[0])
		}
	}
	return p
}

// TestPortTaken: another daemon has the port, and shares it with whoever wants to share.
func TestPortTaken(t *testing.T) {
	c := newCable(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, set(fd, []option{{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}}))
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 3784}))
	a, b := start(t, Network{}), start(t, elsewhere{c.do})
	a.Set([]bfd.Want{{Key: "4", Peer: addr(far4)}, {Key: "6", Peer: addr(far6)}})
	b.Set([]bfd.Want{{Key: "4", Peer: addr(near4)}, {Key: "6", Peer: addr(near6)}})
	a.up("6")
	st := a.until("4", "an error", func(s bfd.Status) bool { return s.LastError != "" })
	if !strings.HasPrefix(st.LastError, "UDP port 3784 (IPv4): another BFD daemon of this node has it") {
		t.Errorf("%+v", st)
	}
	must(t, unix.Close(fd))
	if st := a.up("4"); st.LastError != "" {
		t.Errorf("up, and %q", st.LastError)
	}
}

func TestTroubles(t *testing.T) {
	newCable(t)
	r := start(t, Network{})
	r.Set([]bfd.Want{
		{Key: "refused", Peer: addr(far4)},
		{Key: "source", Peer: addr(far4), Local: addr("10.9.0.77")},
		{Key: "interface", Peer: addr(far4), Interface: "nonesuch"},
		{Key: "route", Peer: addr("203.0.113.1")},
		{Key: "device", Peer: addr(far6), VRF: "nonesuch"},
	})
	for key, want := range map[string]string{
		"refused":   "10.9.0.1 does not run BFD: it refuses UDP port 3784",
		"source":    "10.9.0.77 is not an address of this node",
		"interface": "there is no interface nonesuch on this node",
		"route":     "no way to 203.0.113.1 from this node",
		"device":    "UDP port 3784 (IPv6) in VRF nonesuch: ",
	} {
		st := r.until(key, "an error", func(s bfd.Status) bool { return s.LastError != "" })
		if !strings.HasPrefix(st.LastError, want) {
			t.Errorf("%s: %q, want %q", key, st.LastError, want)
		}
	}
}

// TestSourceGoes: our address goes and comes back, and so does the session.
func TestSourceGoes(t *testing.T) {
	c := newCable(t)
	a, b := start(t, Network{}), start(t, elsewhere{c.do})
	a.Set([]bfd.Want{{Key: "b", Peer: addr(far4), Profile: calm()}})
	b.Set([]bfd.Want{{Key: "a", Peer: addr(near4), Profile: calm()}})
	a.settled("b", 500*ms, 1500*ms)
	ip, err := netlink.ParseAddr(near4 + "/24")
	must(t, err)
	must(t, netlink.AddrDel(nettest.Link(t, nearIF), ip))
	a.until("b", "an error", func(s bfd.Status) bool { return s.LastError != "" })
	b.until("a", "loss", func(s bfd.Status) bool { return s.Losses > 0 })
	must(t, netlink.AddrReplace(nettest.Link(t, nearIF), ip))
	b.up("a")
	a.until("b", "up without an error", func(s bfd.Status) bool { return s.State == bfd.Up && s.LastError == "" })
}

// TestSamePort: two endpoints whose wish for a source port is the same get two.
func TestSamePort(t *testing.T) {
	newCable(t)
	e := bfd.Endpoint{Peer: addr(far4)}
	var n Network
	first, err := n.Dial(e)
	must(t, err)
	defer first.Close()
	second, err := n.Dial(e)
	must(t, err)
	defer second.Close()
	port := func(s bfd.Sender) int { return s.(*sender).conn.LocalAddr().(*net.UDPAddr).Port }
	if p, q := port(first), port(second); q != p+1 && q != firstSource {
		t.Errorf("ports %d and %d", p, q)
	}
	if first.Interface() != 0 || first.Local() != addr(near4) {
		t.Errorf("local %s, interface %d", first.Local(), first.Interface())
	}
}

// TestWaitAfterReceive: what came in before Wait was called wakes it, and Close does.
func TestWaitAfterReceive(t *testing.T) {
	newCable(t)
	l, err := Network{}.Listen(bfd.Port{Family: config.IPv4})
	must(t, err)
	s, err := Network{}.Dial(bfd.Endpoint{Peer: addr(near4)})
	must(t, err)
	defer s.Close()
	for range 3 {
		must(t, s.Send([]byte("hello")))
		must(t, s.Send([]byte("again")))
		for n := 0; n < 2; {
			must(t, l.Wait())
			for d, ok := l.Receive(); ok; d, ok = l.Receive() {
				n++
				if d.TTL != 255 || d.From != addr(near4) || d.To != addr(near4) || d.Interface == 0 || len(d.Payload) != 5 {
					t.Errorf("%+v", d)
				}
			}
		}
	}
	done := make(chan error)
	go func() { done <- l.Wait() }()
	must(t, l.Close())
	select {
	case err := <-done:
		if err == nil {
			t.Error("Wait succeeded on a closed listener")
		}
	case <-time.After(patience):
		t.Fatal("Wait goes on")
	}
	if _, ok := l.Receive(); ok {
		t.Error("a closed listener has received something")
	}
}
