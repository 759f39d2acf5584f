package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Latency takes the time between an ARP request that leaves an interface and its answer that comes in there, by the kernel's clock: how
// busy the process is that asks plays no part.
type Latency struct {
	host   *netlab.Host
	ifname string
	fd     int
	open   map[netip.Addr]time.Time // when it was last asked for, without an answer yet
	took   []time.Duration
	lost   int
}

// latencyBuffer is what waits in the socket at most, in bytes.
const latencyBuffer = 8 << 20

// NewLatency opens the socket: from now on requests are seen, and read once [Latency.Run] runs.
func NewLatency(h *netlab.Host, ifname string) (*Latency, error) {
	ifi, err := h.Interface(ifname)
	if err != nil {
		return nil, err
	}
	l := &Latency{host: h, ifname: ifname, open: map[netip.Addr]time.Time{}}
	err = h.Do(func() (err error) {
		if l.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := l.configure(ifi.Index); err != nil {
			return errors.Join(err, unix.Close(l.fd))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: packet socket on %s: %w", h.Name(), ifname, err)
	}
	return l, nil
}

func (l *Latency) configure(ifindex int) error {
	size := unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, latencyBuffer)
	if size != nil { // no privilege over the whole machine: what there is has to do
		size = unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, latencyBuffer)
	}
	// All protocols: a socket for one of them does not see what goes out. The filter leaves ARP.
	all := uint16(unix.ETH_P_ALL)
	return errors.Join(size,
		unix.SetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptTimeval(l.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		attachARP(l.fd),
		unix.Bind(l.fd, &unix.SockaddrLinklayer{Ifindex: ifindex, Protocol: all<<8 | all>>8}),
	)
}

// attachARP lets only ARP through.
func attachARP(fd int) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12}, // EtherType
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.ETH_P_ARP},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// Run reads until the context ends, and what has come by then. It can be used once.
func (l *Latency) Run(ctx context.Context) error {
	defer unix.Close(l.fd)
	frame, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, oobn, _, from, err := unix.Recvmsg(l.fd, frame, control, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if ctx.Err() != nil {
				return nil
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("hear requests and answers: %w", err)
		}
		at, err := stamp(control[:oobn])
		if err != nil {
			return err
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		l.take(frame[:n], at, ok && link.Pkttype == unix.PACKET_OUTGOING)
	}
}

// stamp reads the kernel's time stamp.
func stamp(control []byte) (time.Time, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, fmt.Errorf("read a time stamp: %w", err)
	}
	for _, m := range messages {
		// Seconds and nanoseconds, as machines of 64 bits have them.
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) == 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), nil
		}
	}
	return time.Time{}, errors.New("a packet came without a time stamp")
}

func (l *Latency) take(frame []byte, at time.Time, outgoing bool) {
	var eth ethernet.Frame
	var p arp.Packet
	if eth.UnmarshalBinary(frame) != nil || p.UnmarshalBinary(eth.Payload) != nil {
		return
	}
	target, _ := netip.AddrFromSlice(p.TargetIP)
	sender, _ := netip.AddrFromSlice(p.SenderIP)
	switch {
	case outgoing && p.Operation == arp.OperationRequest:
		if !l.open[target].IsZero() {
			l.lost++
		}
		l.open[target] = at
	case !outgoing && p.Operation == arp.OperationReply && !l.open[sender].IsZero():
		l.took = append(l.took, at.Sub(l.open[sender]))
		l.open[sender] = time.Time{}
	}
}

// Took is how long each answer took, in the order in which they came. Call it after Run.
func (l *Latency) Took() []time.Duration { return l.took }

// Unanswered counts the requests that had no answer by the time of the next one for the same address, or of the end.
func (l *Latency) Unanswered() int {
	n := l.lost
	for _, at := range l.open {
		if !at.IsZero() {
			n++
		}
	}
	return n
}
