package arp

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
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

// Responder answers ARP on one interface. Run reads and answers; the other methods are for one other goroutine and do not wait for Run.
type Responder struct {
	opt     Options
	conn    frame.Conn
	gate    *frame.Gate
	answers atomic.Pointer[frame.Answers]
}

// Open opens the socket of a responder that answers for nothing yet. Its caller must Close it. Without CAP_NET_RAW the error is
// fs.ErrPermission.
func Open(opt Options) (*Responder, error) {
	conn, err := frame.Listen(opt.Interface, unix.ETH_P_ARP)
	if err != nil {
		return nil, err
	}
	return newResponder(conn, opt), nil
}

func newResponder(conn frame.Conn, opt Options) *Responder {
	r := &Responder{opt: opt, conn: conn, gate: frame.NewGate(conn, filter)}
	r.answers.Store(frame.NewAnswers(nil, nil))
	return r
}

// filter takes frames whose sender or target address lies in a span: requests for our addresses, and claims of them by others.
func filter(spans []frame.Span) []bpf.Instruction {
	const sender, target = 14 + 14, 14 + 24 // offsets behind the Ethernet header, RFC 826
	return frame.Filter(frame.Accept(), []uint32{target, sender}, spans)
}

// Run answers until ctx ends (nil) or the socket fails. It closes the socket.
func (r *Responder) Run(ctx context.Context) error { return frame.Serve(ctx, r.conn, r.handle) }

// Close closes the socket.
func (r *Responder) Close() error { return frame.Close(r.conn) }

// Set replaces what is answered, at once: the kernel lets frames about new addresses through before, so the first is not lost.
// On an error no new address is sure to be answered; those that are gone are not answered any more in any case.
func (r *Responder) Set(a *frame.Answers) error {
	err := r.gate.Admit(a.List())
	r.answers.Store(a)
	return err
}

// Settle has nothing to do: requests are broadcast, and what Set said is in force.
func (r *Responder) Settle(int) (left int, err error) { return 0, nil }

// Ready reports whether requests for an address that Set named reach us.
func (r *Responder) Ready(netip.Addr) bool { return true }

// Announce tells everyone on the segment that the address is here, if it is ours. RFC 5227 section 3 has a request do that, and
// so do most systems, but some update their caches from replies only (RFC 5944 section 4.6 allows either): both are sent. In the reply
// the target MAC is our own too, for Linux takes no other for gratuitous.
func (r *Responder) Announce(addr netip.Addr) error {
	a := r.answers.Load()
	if v, ok := a.Find(addr); !ok || v.Role != frame.Own {
		return nil
	}
	us := station{a.MAC(), addr}
	for _, m := range []struct {
		op     arp.Operation
		target station
	}{
		{arp.OperationRequest, station{make(net.HardwareAddr, 6), addr}},
		{arp.OperationReply, us},
	} {
		if err := r.send(ethernet.Broadcast, m.op, us, m.target); err != nil {
			return fmt.Errorf("announce %v: %w", addr, err)
		}
		r.opt.Counters.Gratuitous.Add(1)
	}
	return nil
}

// Probe asks whether anyone uses the address (RFC 5227 section 2.1.1): Heard is told of those who say so.
func (r *Responder) Probe(addr netip.Addr) error {
	us, nobody := r.answers.Load().MAC(), make(net.HardwareAddr, 6)
	if err := r.send(ethernet.Broadcast, arp.OperationRequest, station{us, netip.IPv4Unspecified()}, station{nobody, addr}); err != nil {
		return fmt.Errorf("probe %v: %w", addr, err)
	}
	return nil
}

// send sends from the interface's MAC, whatever sender's is, and counts failures.
func (r *Responder) send(to net.HardwareAddr, op arp.Operation, sender, target station) error {
	b, err := marshal(to, r.answers.Load().MAC(), op, sender, target)
	if err == nil {
		err = frame.Send(r.conn, b)
	}
	if err != nil {
		r.opt.Counters.Errors.Add(1)
	}
	return err
}

func (r *Responder) handle(b []byte) {
	m, err := parse(b)
	if err != nil {
		r.opt.Counters.Malformed.Add(1)
		return
	}
	a := r.answers.Load()
	if !bytes.Equal(m.to, ethernet.Broadcast) && !bytes.Equal(m.to, a.MAC()) || r.opt.IsOwn(m.senderMAC) {
		return
	}
	if v, ok := a.Find(m.sender); ok && !bytes.Equal(m.senderMAC, a.Spoken(v)) {
		r.opt.Counters.Conflicts.Add(1)
		r.opt.Heard(frame.Claim{Addr: m.sender, MAC: m.senderMAC, Watched: v.Role == frame.Watched})
	}
	if m.op != arp.OperationRequest || m.target == m.sender {
		return
	}
	switch v, ok := a.Find(m.target); {
	case !ok:
	case v.Role != frame.Watched:
		r.reply(a.Spoken(v), m)
	case m.sender.IsUnspecified():
		r.opt.Heard(frame.Claim{Addr: m.target, MAC: m.senderMAC, Watched: true, Probe: true})
	}
}

// reply answers the one who asked, alone. A probe (sender 0.0.0.0) is answered likewise: that defends the address (RFC 5227 section 2.1.1).
func (r *Responder) reply(mac net.HardwareAddr, m message) {
	r.opt.Counters.Requests.Add(1)
	if err := r.send(m.senderMAC, arp.OperationReply, station{mac, m.target}, station{m.senderMAC, m.sender}); err != nil {
		return // the asker asks again
	}
	r.opt.Counters.Replies.Add(1)
}
