package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// protoBGP marks kernel routes that a BGP daemon installed (RTPROT_BGP). BIRD has a mark of its own.
const protoBGP = unix.RTPROT_BGP

// learned reports whether a kernel route with this mark came by BGP. BIRD is not used for anything else here.
func learned(mark int) bool { return mark == protoBGP || mark == unix.RTPROT_BIRD }

// Route is a prefix learned by BGP, as it stands in the kernel.
type Route struct {
	Prefix   netip.Prefix
	NextHops []netip.Addr // sorted
}

func (r Route) String() string { return fmt.Sprintf("%s via %v", r.Prefix, r.NextHops) }

// Routes lists the routes in the host's kernel that came by BGP, sorted by prefix.
func Routes(h *netlab.Host) ([]Route, error) {
	found := map[netip.Prefix][]netip.Addr{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.Netlink().RouteList(nil, family)
		if err != nil {
			return nil, fmt.Errorf("%s: list routes: %w", h.Name(), err)
		}
		for _, kr := range list {
			if r, ok := fromKernel(kr); ok && learned(int(kr.Protocol)) {
				found[r.Prefix] = append(found[r.Prefix], r.NextHops...)
			}
		}
	}
	routes := make([]Route, 0, len(found))
	for p, hops := range found {
		slices.SortFunc(hops, netip.Addr.Compare)
		routes = append(routes, Route{Prefix: p, NextHops: slices.Compact(hops)})
	}
	slices.SortFunc(routes, func(a, b Route) int { return comparePrefix(a.Prefix, b.Prefix) })
	return routes, nil
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// fromKernel reads a kernel route; false for one without a destination prefix of its own (a default route).
func fromKernel(kr netlink.Route) (Route, bool) {
	if kr.Dst == nil {
		return Route{}, false
	}
	addr, ok := netip.AddrFromSlice(kr.Dst.IP)
	if !ok {
		return Route{}, false
	}
	ones, _ := kr.Dst.Mask.Size()
	r := Route{Prefix: netip.PrefixFrom(addr.Unmap(), ones)}
	r.add(kr.Gw, kr.Via)
	for _, hop := range kr.MultiPath {
		r.add(hop.Gw, hop.Via)
	}
	slices.SortFunc(r.NextHops, netip.Addr.Compare)
	return r, true
}

func (r *Route) add(gw net.IP, via netlink.Destination) {
	if v, ok := via.(*netlink.Via); ok && v != nil {
		gw = v.Addr
	}
	if a, ok := netip.AddrFromSlice(gw); ok {
		r.NextHops = append(r.NextHops, a.Unmap())
	}
}

// Event is one change of a BGP route in a kernel.
type Event struct {
	Time    time.Time // when the kernel's notice was read
	Deleted bool
	Route   Route
}

// Watch reads the kernel's notices of BGP route changes, as they come; nothing is polled.
type Watch struct {
	events chan Event
	done   chan struct{}
	once   sync.Once
	joined sync.WaitGroup

	mu  sync.Mutex
	err error
}

// watchBuffer is the size, in bytes, of the socket buffer: a burst of some ten thousand changes fits.
const watchBuffer = 8 << 20

// NewWatch subscribes before it returns: every change after that is seen. Read [Watch.Events] and call [Watch.Close] in the end.
func NewWatch(h *netlab.Host) (*Watch, error) {
	w := &Watch{events: make(chan Event, 1024), done: make(chan struct{})}
	updates := make(chan netlink.RouteUpdate, 1024)
	ns, err := netns.GetFromPath(h.NSPath())
	if err != nil {
		return nil, fmt.Errorf("watch routes of %s: %w", h.Name(), err)
	}
	defer ns.Close()
	err = netlink.RouteSubscribeWithOptions(updates, w.done, netlink.RouteSubscribeOptions{
		Namespace:              &ns,
		ErrorCallback:          w.fail,
		ReceiveBufferSize:      watchBuffer,
		ReceiveBufferForceSize: !netlab.SingleUser(),
	})
	if err != nil {
		return nil, fmt.Errorf("watch routes of %s: %w", h.Name(), err)
	}
	w.joined.Go(func() { w.translate(updates) })
	return w, nil
}

// Events delivers the changes in the kernel's order; it is closed by [Watch.Close], or when notices were lost.
func (w *Watch) Events() <-chan Event { return w.events }

// Close ends the watch; the error says whether notices were lost.
func (w *Watch) Close() error {
	w.once.Do(func() { close(w.done) })
	w.joined.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *Watch) fail(err error) {
	select {
	case <-w.done: // the error of reading a socket that was closed on purpose
		return
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, fmt.Errorf("watch routes: %w", err))
}

func (w *Watch) translate(updates <-chan netlink.RouteUpdate) {
	defer close(w.events)
	for u := range updates {
		now := time.Now()
		if !learned(int(u.Protocol)) {
			continue
		}
		r, ok := fromKernel(u.Route)
		if !ok {
			continue
		}
		select {
		case w.events <- Event{Time: now, Deleted: u.Type == unix.RTM_DELROUTE, Route: r}:
		case <-w.done:
			// Go on reading, so that the subscription's own goroutine is not left waiting.
		}
	}
}
