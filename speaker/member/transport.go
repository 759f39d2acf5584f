package member

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"
)

const (
	packetMost = 1 << 16 // bytes of a UDP packet at most
	packetRoom = 2 << 20 // bytes of packets that may wait to be read; the kernel grants what it allows

	socketRest = 50 * time.Millisecond // after an error of a socket, most likely that too many files are open, or that the network is down
)

// transport carries gossip over UDP and TCP. memberlist's own makes a buffer of 64 KiB for each packet, which at some thirty packets per second is
// what a speaker that has nothing to do would mostly be collecting as garbage.
type transport struct {
	bind    netip.AddrPort
	udp     *socket
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	closing chan struct{}
	once    sync.Once
	wg      sync.WaitGroup

	answers *unanswered
	acking  atomic.Bool  // the next packet is an answer
	lines   atomic.Int32 // lifelines that others hold

	mu    sync.Mutex
	conns map[net.Conn]bool // that came, and are not handed on; nil after Shutdown
}

var (
	_ memberlist.NodeAwareTransport = (*transport)(nil)
	_ memberlist.PingDelegate       = (*transport)(nil)
)

// openTransport listens on an address of this node; port 0 takes any that is free for both protocols. It ends with Shutdown. What is sent and
// comes is noted in answers.
func openTransport(bind netip.AddrPort, answers *unanswered) (*transport, error) {
	tcp, err := listenQuietly(bind)
	if err != nil {
		return nil, fmt.Errorf("TCP: %w", err)
	}
	bind = netip.AddrPortFrom(bind.Addr(), uint16(tcp.Addr().(*net.TCPAddr).Port))
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(bind))
	if err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("UDP: %w", err)
	}
	_ = udp.SetReadBuffer(packetRoom) // with less, bursts are lost, and repeated
	packets, err := newSocket(udp)
	if err != nil {
		return nil, fmt.Errorf("UDP: %w", errors.Join(err, tcp.Close(), udp.Close()))
	}
	t := &transport{
		bind: bind, udp: packets, tcp: tcp,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closing: make(chan struct{}),
		answers: answers, conns: map[net.Conn]bool{},
	}
	answers.begin()
	t.wg.Go(t.read)
	t.wg.Go(t.accept)
	return t, nil
}

// listenQuietly listens for streams, all of which begin with something said: knocks are answered by the kernel, and wake nobody.
func listenQuietly(bind netip.AddrPort) (*net.TCPListener, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		closed := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, int(streamTimeout/time.Second))
		})
		return errors.Join(closed, err)
	}}
	l, err := c.Listen(context.Background(), "tcp", bind.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// read hands packets on until Shutdown.
func (t *transport) read() {
	buf := make([]byte, packetMost)
	for {
		n, from, err := t.udp.receive(buf)
		now := time.Now()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil && !t.rest() {
			return
		}
		if err != nil || n == 0 {
			continue
		}
		t.answers.heard(from)
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: now}
		select {
		case t.packets <- p:
		case <-t.closing:
			return
		}
	}
}

// rest waits for a moment; it reports false when Shutdown came first.
func (t *transport) rest() bool {
	select {
	case <-time.After(socketRest):
		return true
	case <-t.closing:
		return false
	}
}

// accept takes connections until Shutdown.
func (t *transport) accept() {
	for {
		conn, err := t.tcp.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !t.rest() {
				return
			}
			continue
		}
		t.wg.Go(func() { t.admit(conn) })
	}
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.bind.Addr().AsSlice(), int(t.bind.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	_, now, err := t.write(b, addr)
	return now, err
}

// WriteToAddress implements memberlist.NodeAwareTransport. A packet to a named node expects an answer, if it is none itself: all that memberlist
// sends by itself has the name, and most of that probes.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	answer := t.acking.CompareAndSwap(true, false)
	to, now, err := t.write(b, addr.Addr)
	if addr.Name != "" && to.IsValid() && !answer { // also one that could not be sent
		t.answers.sent(to, now)
	}
	return now, err
}

// AckPayload implements memberlist.PingDelegate. It is called right before an answer to a probe is sent. Should another goroutine send something
// in between, one answer is missed that nobody owes, and that is found out by a knock; and the next probe takes the place of the other packet.
func (t *transport) AckPayload() []byte {
	t.acking.Store(true)
	return nil
}

// NotifyPingComplete implements memberlist.PingDelegate.
func (t *transport) NotifyPingComplete(*memberlist.Node, time.Duration, []byte) {}

func (t *transport) write(b []byte, addr string) (to netip.AddrPort, now time.Time, err error) {
	to, err = netip.ParseAddrPort(addr)
	if err != nil {
		return to, time.Time{}, fmt.Errorf("address of a speaker: %w", err)
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	err = t.udp.send(b, to)
	return to, time.Now(), err
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.Dial("tcp", addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. It may be called again.
func (t *transport) Shutdown() error {
	var err error
	t.once.Do(func() {
		close(t.closing)
		t.answers.stop()
		err = errors.Join(t.tcp.Close(), t.udp.Close())
		t.mu.Lock()
		defer t.mu.Unlock()
		for conn := range t.conns {
			_ = conn.Close()
		}
		t.conns = nil
	})
	t.wg.Wait()
	return err
}
