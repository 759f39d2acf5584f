package ndp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
)

// Options of a Responder. All fields are required.
type Options struct {
	Interface config.Interface
	Counters  *frame.Counters
	Heard     frame.Heard
	IsOwn     frame.IsOwn
}

// Responder answers neighbour solicitations on one interface. Run reads and answers; the other methods are for one other goroutine and do
// not wait for Run.
type Responder struct {
	opt     Options
	conn    frame.Conn
	gate    *frame.Gate
	groups  members
	answers atomic.Pointer[frame.Answers]
}

// members is the memberships a responder needs: solicitations are sent to groups.
type members interface {
	want(list []frame.Answer)
	work(limit int) (left int, err error)
	joined(netip.Addr) bool
	close() error
}

// Open opens the socket of a responder that answers for nothing yet. Its caller must Close it. Without CAP_NET_RAW the error is
// fs.ErrPermission.
func Open(opt Options) (*Responder, error) {
	conn, err := frame.Listen(opt.Interface, unix.ETH_P_IPV6)
	if err != nil {
		return nil, err
	}
	return newResponder(conn, newGroups(opt.Interface.Index), opt), nil
}

func newResponder(conn frame.Conn, groups members, opt Options) *Responder {
	r := &Responder{opt: opt, conn: conn, gate: frame.NewGate(conn, filter), groups: groups}
	r.answers.Store(frame.NewAnswers(nil, nil))
	return r
}

// filter takes solicitations and advertisements that no router forwarded and whose target or source lies in a span. It sees all IPv6
// traffic of the interface, so what most packets are refused by comes first.
func filter(spans []frame.Span) []bpf.Instruction {
	const ip, icmp = 14, 14 + ipv6.HeaderLen
	var head []bpf.Instruction
	head = append(head, frame.Require(ip+6, 1, protocolICMPv6)...)
	head = append(head, frame.Require(icmp, 1, uint32(ipv6.ICMPTypeNeighborSolicitation), uint32(ipv6.ICMPTypeNeighborAdvertisement))...)
	head = append(head, frame.Require(ip+7, 1, ndp.HopLimit)...)
	head = append(head, frame.Accept()...)
	return frame.Filter(head, []uint32{icmp + 8 + 12, ip + 8 + 12}, spans)
}

// Run answers until ctx ends (nil) or the socket fails. It closes the packet socket.
func (r *Responder) Run(ctx context.Context) error { return frame.Serve(ctx, r.conn, r.handle) }

// Close closes the sockets and ends the group memberships.
func (r *Responder) Close() error {
	return errors.Join(frame.Close(r.conn), r.groups.close())
}

// Set replaces what is answered. Addresses that are gone are not answered any more, at once and in any case; solicitations for new ones
// are sure to reach us when their groups are joined, which Settle does. On an error no new address is sure to be answered.
func (r *Responder) Set(a *frame.Answers) error {
	err := r.gate.Admit(a.List())
	r.answers.Store(a)
	r.groups.want(a.List())
	return err
}

// Settle joins and leaves groups until limit of them are done, and returns how many are left. When none is, the error says why some could
// not be joined; the next Set tries those again.
func (r *Responder) Settle(limit int) (left int, err error) { return r.groups.work(limit) }

// Ready reports whether solicitations for an address that Set named reach us.
func (r *Responder) Ready(addr netip.Addr) bool { return r.groups.joined(addr) }

// Announce tells everyone on the segment that the address is here, if it is ours (RFC 4861 section 7.2.6).
func (r *Responder) Announce(addr netip.Addr) error {
	a := r.answers.Load()
	v, ok := a.Find(addr)
	if !ok || v.Role != frame.Own {
		return nil
	}
	all := netip.IPv6LinkLocalAllNodes()
	if err := r.advertise(a, v, all, multicastMAC(all), false); err != nil {
		return fmt.Errorf("announce %v: %w", addr, err)
	}
	r.opt.Counters.Gratuitous.Add(1)
	return nil
}

// Probe asks whether anyone uses the address, as duplicate address detection does (RFC 4862 section 5.4.2): Heard is told of those who
// say so.
func (r *Responder) Probe(addr netip.Addr) error {
	group := groupOf(addr)
	body := &ndp.NeighborSolicitation{TargetAddress: addr}
	if err := r.send(multicastMAC(group), r.answers.Load().MAC(), netip.IPv6Unspecified(), group, body); err != nil {
		return fmt.Errorf("probe %v: %w", addr, err)
	}
	return nil
}

func (r *Responder) handle(b []byte) {
	m, err := parse(b)
	if err != nil {
		r.opt.Counters.Malformed.Add(1)
		return
	}
	a := r.answers.Load()
	toUs := m.dst.IsMulticast() || bytes.Equal(m.to, a.MAC())
	if !toUs || r.opt.IsOwn(m.from) || r.opt.IsOwn(m.mac) {
		return
	}
	switch body := m.body.(type) {
	case *ndp.NeighborAdvertisement:
		r.claim(a, body.TargetAddress, m.mac)
	case *ndp.NeighborSolicitation:
		r.claim(a, m.src, m.mac)
		switch v, ok := a.Find(body.TargetAddress); {
		case !ok:
		case v.Role != frame.Watched:
			r.reply(a, v, m)
		case m.src.IsUnspecified():
			r.opt.Heard(frame.Claim{Addr: v.Addr, MAC: m.mac, Watched: true, Probe: true})
		}
	}
}

// claim takes down that a foreign MAC uses the address, if the address is ours.
func (r *Responder) claim(a *frame.Answers, addr netip.Addr, mac net.HardwareAddr) {
	v, ok := a.Find(addr)
	if !ok || bytes.Equal(mac, a.Spoken(v)) {
		return
	}
	r.opt.Counters.Conflicts.Add(1)
	r.opt.Heard(frame.Claim{Addr: addr, MAC: mac, Watched: v.Role == frame.Watched})
}

// reply answers a solicitation (RFC 4861 section 7.2.4): to the one who asked, or, when it asks from no address to see whether the target
// is taken (RFC 4862 section 5.4), to everyone, which defends the address.
func (r *Responder) reply(a *frame.Answers, v frame.Answer, m message) {
	r.opt.Counters.Requests.Add(1)
	dst, to, solicited := m.src, m.mac, true
	if m.src.IsUnspecified() {
		dst, solicited = netip.IPv6LinkLocalAllNodes(), false
		to = multicastMAC(dst)
	}
	if err := r.advertise(a, v, dst, to, solicited); err != nil {
		return // the asker asks again
	}
	r.opt.Counters.Replies.Add(1)
}

// advertise sends an advertisement that overrides what the receiver has cached. The router flag is off: the address is a Service's and no
// host may take it for a default router.
func (r *Responder) advertise(a *frame.Answers, v frame.Answer, dst netip.Addr, to net.HardwareAddr, solicited bool) error {
	return r.send(to, a.MAC(), v.Addr, dst, &ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: v.Addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.Spoken(v)}},
	})
}

// send sends a message and counts failures.
func (r *Responder) send(to, from net.HardwareAddr, src, dst netip.Addr, body ndp.Message) error {
	b, err := marshal(to, from, src, dst, body)
	if err == nil {
		err = frame.Send(r.conn, b)
	}
	if err != nil {
		r.opt.Counters.Errors.Add(1)
	}
	return err
}
