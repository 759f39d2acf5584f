package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/packet"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Answer is one reply to a question.
type Answer struct {
	Claim
	Time time.Time
}

// inquiry is the frame in which a host asks for an address.
type inquiry struct {
	ip    netip.Addr
	frame []byte
}

func newInquiry(h *netlab.Host, ifi *net.Interface, ip netip.Addr) (inquiry, error) {
	from, err := ownAddress(h, ifi.Name, ip)
	if err != nil {
		return inquiry{}, err
	}
	frame, err := question(ifi.HardwareAddr, from, ip)
	return inquiry{ip, frame}, err
}

func (q inquiry) send(conn *packet.Conn) error {
	if _, err := conn.WriteTo(q.frame, &packet.Addr{HardwareAddr: q.frame[:6]}); err != nil {
		return fmt.Errorf("ask for %s: %w", q.ip, err)
	}
	return nil
}

// asker asks for one address over one interface.
type asker struct {
	inquiry
	conn *packet.Conn
}

func openAsker(h *netlab.Host, ifname string, ip netip.Addr) (*asker, error) {
	ifi, err := h.Interface(ifname)
	if err != nil {
		return nil, err
	}
	q, err := newInquiry(h, ifi, ip)
	if err != nil {
		return nil, err
	}
	conn, err := listen(h, ifi, answerProtocol(ip))
	if err != nil {
		return nil, err
	}
	return &asker{q, conn}, nil
}

func listen(h *netlab.Host, ifi *net.Interface, protocol int) (*packet.Conn, error) {
	var conn *packet.Conn
	err := h.Do(func() (err error) {
		conn, err = packet.Listen(ifi, packet.Raw, protocol, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: packet socket on %s: %w", h.Name(), ifi.Name, err)
	}
	return conn, nil
}

// ownAddress picks the address to ask from: one in ip's subnet if there is one, else any of its family; for IPv6 a link-local one at worst.
func ownAddress(h *netlab.Host, ifname string, ip netip.Addr) (netip.Addr, error) {
	addrs, err := h.Addrs(ifname)
	if err != nil {
		return netip.Addr{}, err
	}
	var best netip.Addr
	for _, p := range addrs {
		switch a := p.Addr(); {
		case a.Is4() != ip.Is4():
		case p.Contains(ip):
			return a, nil
		case !best.IsValid() || best.IsLinkLocalUnicast():
			best = a
		}
	}
	if !best.IsValid() {
		return best, fmt.Errorf("%s: %s has no address to ask for %s from", h.Name(), ifname, ip)
	}
	return best, nil
}

func (a *asker) send() error { return a.inquiry.send(a.conn) }

// next waits for the next claim of the address, solicited or not; os.ErrDeadlineExceeded when there was none before the connection's deadline.
func (a *asker) next() (Answer, error) {
	buf := make([]byte, 2048)
	for {
		n, _, err := a.conn.ReadFrom(buf)
		if err != nil {
			return Answer{}, err
		}
		now := time.Now()
		if c, err := parseClaim(buf[:n]); err == nil && c.IP == a.ip {
			return Answer{Claim: clone(c), Time: now}, nil
		}
	}
}

// clone keeps a claim beyond the buffer it was read from.
func clone(c Claim) Claim {
	c.MAC, c.Source = bytes.Clone(c.MAC), bytes.Clone(c.Source)
	return c
}

// Resolve asks once for ip, by ARP or neighbour discovery, and collects every answer within the window: none when nobody answers,
// several when several machines do, or one twice. Announcements made meanwhile are left out.
func Resolve(ctx context.Context, h *netlab.Host, ifname string, ip netip.Addr, window time.Duration) ([]Answer, error) {
	a, err := openAsker(h, ifname, ip)
	if err != nil {
		return nil, err
	}
	defer a.conn.Close()
	if err := a.send(); err != nil {
		return nil, err
	}
	var answers []Answer
	deadline := time.Now().Add(window)
	for {
		answer, err := a.nextWithin(ctx, deadline)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return answers, nil
		case err != nil:
			return answers, err
		case !answer.Unsolicited:
			answers = append(answers, answer)
		}
	}
}

// nextWithin is next with a deadline, that also ends with the context: whose end comes after the deadline is set, or it would be lost.
func (a *asker) nextWithin(ctx context.Context, deadline time.Time) (Answer, error) {
	if err := a.conn.SetReadDeadline(deadline); err != nil {
		return Answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = a.conn.SetReadDeadline(time.Now()) })
	defer stop()
	answer, err := a.next()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer, err
}

// MACs are the different hardware addresses among answers, sorted.
func MACs(answers []Answer) []string {
	var macs []string
	for _, a := range answers {
		macs = append(macs, a.MAC.String())
	}
	slices.Sort(macs)
	return slices.Compact(macs)
}

// FirstAnswer asks for ip at every interval until somebody answers, or the context ends.
func FirstAnswer(ctx context.Context, h *netlab.Host, ifname string, ip netip.Addr, interval time.Duration) (Answer, error) {
	a, err := openAsker(h, ifname, ip)
	if err != nil {
		return Answer{}, err
	}
	defer a.conn.Close()
	for {
		if err := a.send(); err != nil {
			return Answer{}, err
		}
		answer, err := a.nextWithin(ctx, time.Now().Add(interval))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return answer, err
		}
	}
}
