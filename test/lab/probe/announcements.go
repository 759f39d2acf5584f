package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// Announcements records what is said on a segment without being asked: gratuitous ARP (RFC 5227 section 3) and unsolicited
// neighbour advertisements (RFC 4861 section 7.2.6), as a host on the segment hears it.
type Announcements struct {
	conns []*packet.Conn

	mu    sync.Mutex
	heard []Answer
}

// NewAnnouncements opens the sockets: what is said from now on is recorded, once [Announcements.Run] runs.
func NewAnnouncements(h *netlab.Host, ifname string) (*Announcements, error) {
	ifi, err := h.Interface(ifname)
	if err != nil {
		return nil, err
	}
	a := &Announcements{}
	for _, proto := range []int{unix.ETH_P_ARP, unix.ETH_P_IPV6} {
		conn, err := listen(h, ifi, proto)
		if err != nil {
			a.close()
			return nil, err
		}
		a.conns = append(a.conns, conn)
	}
	return a, nil
}

func (a *Announcements) close() {
	for _, c := range a.conns {
		c.Close()
	}
}

// Run records until the context ends.
func (a *Announcements) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		for _, c := range a.conns {
			_ = c.SetReadDeadline(time.Now())
		}
	})
	defer stop()
	defer a.close()
	for _, c := range a.conns {
		group.Go(func() error { return a.record(ctx, c) })
	}
	return group.Wait()
}

func (a *Announcements) record(ctx context.Context, conn *packet.Conn) error {
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("hear announcements: %w", err)
		}
		c, err := parseClaim(buf[:n])
		if err != nil || !c.Unsolicited {
			continue
		}
		a.mu.Lock()
		a.heard = append(a.heard, Answer{Claim: clone(c), Time: now})
		a.mu.Unlock()
	}
}

// Of lists what was announced for ip so far, in the order of time.
func (a *Announcements) Of(ip netip.Addr) []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Answer
	for _, h := range a.heard {
		if h.IP == ip {
			list = append(list, h)
		}
	}
	return list
}

// All lists everything that was announced so far, in the order in which it was heard.
func (a *Announcements) All() []Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.heard)
}
