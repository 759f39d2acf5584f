package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Requests asks for many addresses, one after another, as fast as it is told to, and does not listen for answers.
type Requests struct {
	host   *netlab.Host
	ifname string
	frames [][]byte
}

// NewRequests prepares the questions.
func NewRequests(h *netlab.Host, ifname string, ips ...netip.Addr) (*Requests, error) {
	ifi, err := h.Interface(ifname)
	if err != nil {
		return nil, err
	}
	r := &Requests{host: h, ifname: ifname}
	for _, ip := range ips {
		q, err := newInquiry(h, ifi, ip)
		if err != nil {
			return nil, err
		}
		r.frames = append(r.frames, q.frame)
	}
	return r, nil
}

// requestTick is how often a batch of requests is sent.
const requestTick = time.Millisecond

// Send asks rate times per second until the context ends and returns how often it has asked. When it falls behind it catches up, but for no
// more than a tenth of a second: what is sent then would be no rate but a burst.
func (r *Requests) Send(ctx context.Context, rate int) (sent int, err error) {
	fd, err := r.socket()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	tick := time.NewTicker(requestTick)
	defer tick.Stop()
	began := time.Now()
	skipped := 0
	for ctx.Err() == nil {
		due := int(time.Since(began).Seconds()*float64(rate)) - skipped
		if late := due - sent - rate/10; late > 0 {
			skipped += late
			due -= late
		}
		for ; sent < due; sent++ {
			if _, err := unix.Write(fd, r.frames[sent%len(r.frames)]); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return sent, fmt.Errorf("send request: %w", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return sent, nil
}

// socket opens a packet socket that only sends: it is bound to no protocol, so that nothing is queued for it.
func (r *Requests) socket() (fd int, err error) {
	ifi, err := r.host.Interface(r.ifname)
	if err != nil {
		return -1, err
	}
	err = r.host.Do(func() error {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("%s: packet socket on %s: %w", r.host.Name(), r.ifname, err)
	}
	return fd, nil
}
