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
	Own       frame.Own
}

// Responder answers neighbour solicitations on one interface. Run reads and answers; Set, Announce and Close are for one other goroutine
// and do not wait for Run.
type Responder struct {
	opt     Options
	conn    frame.Conn
	gate    *frame.Gate
	groups  members
	answers atomic.Pointer[frame.Answers]
}

// members is the memberships a responder needs: solicitations are sent to groups.
type members interface {
	set(addrs []netip.Addr) error
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
// reach us when their groups are joined, which is done before Set returns. A *frame.Unanswered names those for which it failed; with any
// other error no new address is sure to be answered.
func (r *Responder) Set(a *frame.Answers) error {
	err := r.gate.Admit(a.Addrs())
	r.answers.Store(a)
	if err != nil {
		return err
	}
	return r.groups.set(a.Addrs())
}

// Announce tells everyone on the segment that the address is here, if it is answered for (RFC 4861 section 7.2.6).
func (r *Responder) Announce(addr netip.Addr) error {
	a := r.answers.Load()
	if !a.Has(addr) {
		return nil
	}
	if err := r.advertise(a, addr, netip.IPv6LinkLocalAllNodes(), multicastMAC(netip.IPv6LinkLocalAllNodes()), false); err != nil {
		r.opt.Counters.Errors.Add(1)
		return fmt.Errorf("announce %v: %w", addr, err)
	}
	r.opt.Counters.Gratuitous.Add(1)
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
	if !toUs || r.opt.Own(m.from) || r.opt.Own(m.mac) {
		return
	}
	switch body := m.body.(type) {
	case *ndp.NeighborAdvertisement:
		r.claim(a, body.TargetAddress, m.mac)
	case *ndp.NeighborSolicitation:
		r.claim(a, m.src, m.mac)
		if a.Has(body.TargetAddress) {
			r.reply(a, m, body.TargetAddress)
		}
	}
}

// claim takes down that a foreign MAC uses the address, if the address is ours.
func (r *Responder) claim(a *frame.Answers, addr netip.Addr, mac net.HardwareAddr) {
	if a.Has(addr) {
		r.opt.Counters.Conflicts.Add(1)
		r.opt.Heard(addr, mac)
	}
}

// reply answers a solicitation (RFC 4861 section 7.2.4): to the one who asked, or, when it asks from no address to see whether the target
// is taken (RFC 4862 section 5.4), to everyone, which defends the address.
func (r *Responder) reply(a *frame.Answers, m message, target netip.Addr) {
	r.opt.Counters.Requests.Add(1)
	dst, to, solicited := m.src, m.mac, true
	if m.src.IsUnspecified() {
		dst, solicited = netip.IPv6LinkLocalAllNodes(), false
		to = multicastMAC(dst)
	}
	if err := r.advertise(a, target, dst, to, solicited); err != nil { // the asker asks again
		r.opt.Counters.Errors.Add(1)
		return
	}
	r.opt.Counters.Replies.Add(1)
}

// advertise sends an advertisement that overrides what the receiver has cached. The router flag is off: the address is a Service's and no
// host may take it for a default router.
func (r *Responder) advertise(a *frame.Answers, addr, dst netip.Addr, to net.HardwareAddr, solicited bool) error {
	body := &ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.MAC()}},
	}
	b, err := marshal(to, a.MAC(), addr, dst, body)
	if err != nil {
		return err
	}
	return frame.Send(r.conn, b)
}
