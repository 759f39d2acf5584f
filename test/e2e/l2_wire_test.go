package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/probe"
)

// wire sends frames of the LAN client's own making and hears what comes back.
type wire struct {
	*stage
	mac      net.HardwareAddr
	arp, ndp *packet.Conn
}

func (s *stage) wire() *wire {
	s.t.Helper()
	ifi, err := s.Client.Interface("eth0")
	s.must(err)
	w := &wire{stage: s, mac: ifi.HardwareAddr}
	s.must(s.Client.Do(func() (err error) {
		if w.arp, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil); err != nil {
			return err
		}
		w.ndp, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, nil)
		return err
	}))
	s.t.Cleanup(func() { s.must(errors.Join(w.arp.Close(), w.ndp.Close())) })
	return w
}

// answer reads until a frame fits; false when none came in time. A machine that is busy may answer later, so where an answer has to come it
// is asked for again, see insist.
func (w *wire) answer(c *packet.Conn, fits func(*ethernet.Frame) bool) bool {
	w.t.Helper()
	w.must(c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)))
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		w.must(err)
		var f ethernet.Frame
		if f.UnmarshalBinary(buf[:n]) == nil && fits(&f) {
			return true
		}
	}
}

// insist asks until there is an answer where one has to come, and once where none may.
func (w *wire) insist(has bool, ask func() bool) bool {
	w.t.Helper()
	if !has {
		return ask()
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if ask() {
			return true
		}
	}
	return false
}

// settle reads what came before: answers to earlier questions.
func (w *wire) settle() {
	w.t.Helper()
	for _, c := range []*packet.Conn{w.arp, w.ndp} {
		w.must(c.SetReadDeadline(time.Now().Add(20 * time.Millisecond)))
		buf := make([]byte, 2048)
		for {
			if _, _, err := c.ReadFrom(buf); err != nil {
				break
			}
		}
	}
}

func (w *wire) send(c *packet.Conn, to net.HardwareAddr, kind ethernet.EtherType, payload []byte) {
	w.t.Helper()
	frame, err := (&ethernet.Frame{Destination: to, Source: w.mac, EtherType: kind, Payload: payload}).MarshalBinary()
	w.must(err)
	_, err = c.WriteTo(frame, &packet.Addr{HardwareAddr: to})
	w.must(err)
}

// arpCase is one ARP packet.
type arpCase struct {
	op     arp.Operation
	to     net.HardwareAddr // of the frame
	sender netip.Addr       // the answer names it, which tells a late one from that to the next question
	target net.HardwareAddr
}

// arps sends a packet about an address and says whether the owner answered with its own MAC.
func (w *wire) arps(ip netip.Addr, owner net.HardwareAddr, c arpCase) bool {
	w.t.Helper()
	w.settle()
	p, err := arp.NewPacket(c.op, w.mac, c.sender.AsSlice(), c.target, ip.AsSlice())
	w.must(err)
	b, err := p.MarshalBinary()
	w.must(err)
	w.send(w.arp, c.to, ethernet.EtherTypeARP, b)
	return w.answer(w.arp, func(f *ethernet.Frame) bool {
		var got arp.Packet
		return got.UnmarshalBinary(f.Payload) == nil && got.Operation == arp.OperationReply && got.SenderIP.Equal(ip.AsSlice()) &&
			got.TargetIP.Equal(c.sender.AsSlice()) && bytes.Equal(got.SenderHardwareAddr, owner) && bytes.Equal(f.Source, owner) && bytes.Equal(f.Destination, w.mac)
	})
}

// asker is an address of the LAN that no machine has, to ask from.
func asker(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 100, 60 + n}) }

// TestARPFrames asks in every way ARP knows.
func TestARPFrames(t *testing.T) {
	s := on(t)
	ip := s.only("arp-frames")
	w := s.wire()
	ifi, err := s.Node(s.owner(ip)).Host.Interface("eth0")
	s.must(err)
	own, nobody, foreign := ifi.HardwareAddr, make(net.HardwareAddr, 6), net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	for name, tt := range map[string]struct {
		arpCase
		answered bool
	}{
		"broadcast":                 {arpCase{arp.OperationRequest, ethernet.Broadcast, asker(1), nobody}, true},
		"unicast":                   {arpCase{arp.OperationRequest, own, asker(2), nobody}, true},
		"unicast, naming the owner": {arpCase{arp.OperationRequest, own, asker(3), own}, true},
		"probe":                     {arpCase{arp.OperationRequest, ethernet.Broadcast, netip.IPv4Unspecified(), nobody}, true},
		"to another machine":        {arpCase{arp.OperationRequest, foreign, asker(4), nobody}, false},
		"reply":                     {arpCase{arp.OperationReply, ethernet.Broadcast, asker(5), own}, false},
	} {
		if got := w.insist(tt.answered, func() bool { return w.arps(ip, own, tt.arpCase) }); got != tt.answered {
			t.Errorf("%s: answered: %v, want %v", name, got, tt.answered)
		}
	}
}

// solicits sends a neighbour solicitation from a source to a destination and returns the answer that goes to an address and is solicited or
// not; nil when there is none.
func (w *wire) solicits(ip, from, to netip.Addr, mac net.HardwareAddr, option bool, answersTo netip.Addr, solicited bool) (answer *ndp.NeighborAdvertisement) {
	w.t.Helper()
	w.settle()
	m := &ndp.NeighborSolicitation{TargetAddress: ip}
	if option {
		m.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: w.mac}}
	}
	body, err := ndp.MarshalMessageChecksum(m, from, to)
	w.must(err)
	header := make([]byte, 40, 40+len(body))
	header[0], header[5], header[6], header[7] = 6<<4, byte(len(body)), unix.IPPROTO_ICMPV6, 255
	copy(header[8:], from.AsSlice())
	copy(header[24:], to.AsSlice())
	w.send(w.ndp, mac, ethernet.EtherTypeIPv6, append(header, body...))
	w.answer(w.ndp, func(f *ethernet.Frame) bool {
		b := f.Payload
		if len(b) < 64 || b[6] != unix.IPPROTO_ICMPV6 || bytes.Equal(f.Source, w.mac) {
			return false
		}
		message, err := ndp.ParseMessage(b[40 : 40+int(b[4])<<8+int(b[5])])
		na, ok := message.(*ndp.NeighborAdvertisement)
		if err != nil || !ok || na.TargetAddress != ip || na.Solicited != solicited || !bytes.Equal(b[24:40], answersTo.AsSlice()) {
			return false
		}
		answer = na
		return true
	})
	return answer
}

// TestNDPFrames asks as hosts do: at first contact, to see whether the way is still good, and before they take an address themselves.
func TestNDPFrames(t *testing.T) {
	s := on(t)
	s.create("ndp-frames", scene.SingleStack(corev1.IPv6Protocol))
	_, ips := s.announced("ndp-frames")
	ip := ips[0]
	w := s.wire()
	ifi, err := s.Node(s.owner(ip)).Host.Interface("eth0")
	s.must(err)
	time.Sleep(2 * quiet) // what is announced after a takeover looks like the answer to the last question
	group, err := ndp.SolicitedNodeMulticast(ip)
	s.must(err)
	g := group.As16()
	multicast := net.HardwareAddr{0x33, 0x33, g[12], g[13], g[14], g[15]}
	client := netip.MustParseAddr("fd00:100::50")
	for name, tt := range map[string]struct {
		from, to  netip.Addr
		mac       net.HardwareAddr
		option    bool
		answersTo netip.Addr
		solicited bool
	}{
		"first contact":             {client, group, multicast, true, client, true},
		"is it still there":         {client, ip, ifi.HardwareAddr, true, client, true},
		"the same, without options": {client, ip, ifi.HardwareAddr, false, client, true},
		"may I have it":             {netip.IPv6Unspecified(), group, multicast, false, netip.MustParseAddr("ff02::1"), false},
	} {
		var na *ndp.NeighborAdvertisement
		w.insist(true, func() bool {
			na = w.solicits(ip, tt.from, tt.to, tt.mac, tt.option, tt.answersTo, tt.solicited)
			return na != nil
		})
		switch {
		case na == nil:
			t.Errorf("%s: no answer that goes to %s, solicited=%v", name, tt.answersTo, tt.solicited)
		case !na.Override || na.Router:
			t.Errorf("%s: answered with %+v", name, na)
		}
	}
}

// stranger is a machine on the LAN that has an address of ours.
func (s *stage) stranger(ip netip.Addr) *netlab.Host {
	s.t.Helper()
	h, err := s.Network.Host("stranger")
	s.must(err)
	s.t.Cleanup(func() { _ = h.Close() }) // an error means that the test has done so
	_, err = h.Join(s.LAN, "eth0", netip.MustParsePrefix("192.168.100.99/24"))
	s.must(err)
	s.must(h.AddAddr("eth0", netip.PrefixFrom(ip, ip.BitLen())))
	return h
}

// claims lets a machine say that an address is its own, as one does that has just taken it.
func (s *stage) claims(h *netlab.Host, ip netip.Addr) error {
	ifi, err := h.Interface("eth0")
	if err != nil {
		return err
	}
	p, err := arp.NewPacket(arp.OperationReply, ifi.HardwareAddr, ip.AsSlice(), ethernet.Broadcast, ip.AsSlice())
	if err != nil {
		return err
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	frame, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: ifi.HardwareAddr, EtherType: ethernet.EtherTypeARP, Payload: body}).MarshalBinary()
	if err != nil {
		return err
	}
	return h.Do(func() error {
		c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		if err != nil {
			return err
		}
		_, err = c.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast})
		return errors.Join(err, c.Close())
	})
}

// TestAddressConflict lets a stranger claim an address that is announced: users are told by whom, the owner says again that it is his, and goes on
// answering.
func TestAddressConflict(t *testing.T) {
	s := on(t)
	ip := s.only("conflict")
	owner := s.owner(ip)
	own, err := scene.MAC(s.Node(owner))
	s.must(err)
	conflicts := func(ctx context.Context) (int, error) {
		events, err := s.Events(ctx, "conflict")
		return len(scene.WithReason(events, "AddressConflict")), err
	}
	earlier, err := conflicts(t.Context()) // of a Service that had the name before
	s.must(err)
	h := s.stranger(ip)
	ifi, err := h.Interface("eth0")
	s.must(err)
	heard := s.heard(func(*probe.Announcements) {
		s.eventually("the conflict to be told", func(ctx context.Context) error {
			if err := s.claims(h, ip); err != nil { // a machine that goes on using it goes on saying so
				return err
			}
			o, err := s.Services().Get(ctx, "conflict", metav1.GetOptions{})
			if err != nil {
				return err
			}
			c := scene.Condition(o, scene.Announced)
			if c.Reason != "AddressConflict" {
				return fmt.Errorf("%s=%s: %s: %s", c.Type, c.Status, c.Reason, c.Message)
			}
			return says(c, ifi.HardwareAddr.String())
		})
	})
	defended := 0
	for _, a := range heard.Of(ip) {
		if a.MAC.String() == own {
			defended++
		}
	}
	if defended == 0 {
		t.Error("the owner does not answer the claim")
	}
	s.eventually("an event", func(ctx context.Context) error {
		n, err := conflicts(ctx)
		if err == nil && n != earlier+1 {
			err = fmt.Errorf("%d events, %d of them earlier", n, earlier)
		}
		return err
	})
	s.must(h.Close())
	s.staysWith(ip, owner)
}

// TestProbeBeforeUse gives a Service an address that a stranger uses, and another Service had before: it is not answered for while that is so,
// also not by a node that takes it over.
func TestProbeBeforeUse(t *testing.T) {
	s := on(t)
	ip := netip.MustParseAddr("192.168.100.239")
	s.only("not-in-use", scene.Annotate(scene.IPsAnnotation, ip.String()))
	s.must(s.remove(t.Context(), "not-in-use"))
	s.nobody(ip)
	h := s.stranger(ip)
	s.create("in-use", scene.SingleStack(corev1.IPv4Protocol), scene.Annotate(scene.IPsAnnotation, ip.String()))
	s.service("in-use", "told of the conflict", func(o *corev1.Service) error {
		return scene.Has(o, scene.Announced, metav1.ConditionFalse, "AddressConflict")
	})
	stranger, err := h.Interface("eth0")
	s.must(err)
	undisturbed := func() {
		t.Helper()
		var macs []string
		s.eventually("an answer", func(ctx context.Context) error { // a machine that is very busy may miss the stranger's
			answers, err := probe.Resolve(ctx, s.Client, "eth0", ip, 300*time.Millisecond)
			if macs = probe.MACs(answers); err == nil && len(macs) == 0 {
				err = errors.New("nobody is heard")
			}
			return err
		})
		if len(macs) != 1 || macs[0] != stranger.HardwareAddr.String() {
			t.Errorf("%v answer for the stranger's address", macs)
		}
	}
	undisturbed()
	first := s.finder("in-use", "")
	t.Cleanup(func() { s.must(s.Node(first).LAN.Restore()) })
	s.must(s.Node(first).LAN.Cut())
	s.finder("in-use", first)
	undisturbed()
	s.must(s.Node(first).LAN.Restore())
	s.must(h.Close())
	s.service("in-use", "announced once the stranger is gone", scene.IsAnnounced)
	s.owner(ip)
}

// finder waits until a node, another than that, is said to have found a stranger, and returns its name.
func (s *stage) finder(service, not string) string {
	s.t.Helper()
	var name string
	s.service(service, "said to be in use by a node other than "+not, func(o *corev1.Service) error {
		var found bool
		_, after, _ := strings.Cut(scene.Condition(o, scene.Announced).Message, "heard by ")
		if name, _, found = strings.Cut(after, " on "); !found || name == not {
			return fmt.Errorf("heard by %q", name)
		}
		return nil
	})
	return name
}

// heard records what is announced on the LAN while something is done.
func (s *stage) heard(do func(*probe.Announcements)) *probe.Announcements {
	s.t.Helper()
	a, err := probe.NewAnnouncements(s.Client, "eth0")
	s.must(err)
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return a.Run(ctx) })
	do(a)
	stop()
	s.must(group.Wait())
	return a
}

// announcedAt reports whether an address is heard to be announced, with a hardware address unless that is "". A node answers before it announces,
// and the announcements of a takeover come within two seconds.
func announcedAt(heard *probe.Announcements, ip netip.Addr, mac string) bool {
	for end := time.Now().Add(2 * quiet); ; time.Sleep(50 * time.Millisecond) {
		if slices.ContainsFunc(heard.Of(ip), func(a probe.Answer) bool { return mac == "" || a.MAC.String() == mac }) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// TestRefresh counts how often an address is announced again though nothing happens.
func TestRefresh(t *testing.T) {
	s := on(t)
	s.special("refreshInterval: 1s")
	ip := s.only("refreshed", scene.FromPool("special"))
	time.Sleep(5 * time.Second) // what follows a takeover
	var often []probe.Answer
	listen := func(*probe.Announcements) { time.Sleep(5 * time.Second) }
	s.eventually("an announcement every second", func(context.Context) error { // a speaker that was held up is quiet for two
		if often = s.heard(listen).Of(ip); len(often) < 3 {
			return fmt.Errorf("announced %d times in 5 s, want about 5", len(often))
		}
		return nil
	})
	if len(often) > 12 {
		t.Errorf("announced %d times in 5 s, want about 5", len(often))
	}
	s.special("refreshInterval: 0s")
	s.eventually("silence", func(context.Context) error {
		if still := s.heard(listen).Of(ip); len(still) > 0 {
			return fmt.Errorf("announced %d times in 5 s", len(still))
		}
		return nil
	})
}

// TestAddressChanges gives a Service another address: the old one falls silent, the new one is announced unasked.
func TestAddressChanges(t *testing.T) {
	s := on(t)
	old, now := netip.MustParseAddr("192.168.100.236"), netip.MustParseAddr("192.168.100.237")
	if ip := s.only("changing", scene.Annotate(scene.IPsAnnotation, old.String())); ip != old {
		t.Fatalf("it has %s", ip)
	}
	s.heard(func(heard *probe.Announcements) {
		_, err := s.Change(t.Context(), "changing", scene.Annotate(scene.IPsAnnotation, now.String()))
		s.must(err)
		s.nobody(old)
		s.owner(now)
		if !announcedAt(heard, now, "") {
			t.Error("the new address was not announced")
		}
	})
}
