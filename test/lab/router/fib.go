package router

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/lab/netlab"
)

// fib carries learned routes into a host's kernel and remembers which it installed.
type fib struct {
	host      *netlab.Host
	log       *slog.Logger
	wake      chan struct{} // one pending signal is enough
	installed map[netip.Prefix][]netip.Addr

	mu         sync.Mutex
	dirty      map[netip.Prefix]bool
	everywhere bool
}

func newFIB(h *netlab.Host, log *slog.Logger) *fib {
	return &fib{host: h, log: log, wake: make(chan struct{}, 1), installed: map[netip.Prefix][]netip.Addr{}, dirty: map[netip.Prefix]bool{}}
}

// look notes prefixes that may have changed.
func (f *fib) look(prefixes []netip.Prefix) {
	f.mu.Lock()
	for _, p := range prefixes {
		f.dirty[p] = true
	}
	f.mu.Unlock()
	f.signal()
}

// lookEverywhere notes that any prefix may have changed.
func (f *fib) lookEverywhere() {
	f.mu.Lock()
	f.everywhere = true
	f.mu.Unlock()
	f.signal()
}

func (f *fib) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what was noted since the last call.
func (f *fib) take() (prefixes []netip.Prefix, everywhere bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.everywhere {
		prefixes = slices.Collect(maps.Keys(f.dirty))
	}
	everywhere = f.everywhere
	clear(f.dirty)
	f.everywhere = false
	return prefixes, everywhere
}

// replaceAll makes the kernel hold exactly what was learned.
func (f *fib) replaceAll(learned map[netip.Prefix][]netip.Addr) {
	prefixes := slices.Collect(maps.Keys(learned))
	for p := range f.installed {
		if _, ok := learned[p]; !ok {
			prefixes = append(prefixes, p)
		}
	}
	f.replace(prefixes, learned)
}

// replace brings the given prefixes up to date; a failure leaves out its prefix only.
func (f *fib) replace(prefixes []netip.Prefix, learned map[netip.Prefix][]netip.Addr) {
	for _, p := range prefixes {
		hops := learned[p]
		if slices.Equal(hops, f.installed[p]) {
			continue
		}
		if err := f.set(p, hops); err != nil {
			f.log.Warn("route not installed", "router", f.host.Name(), "prefix", p, "nextHops", hops, "error", err)
		}
	}
}

// set installs, changes or, without next hops, removes a route.
func (f *fib) set(p netip.Prefix, hops []netip.Addr) error {
	r := &netlink.Route{Dst: prefixNet(p), Protocol: protoBGP, Table: unix.RT_TABLE_MAIN}
	if len(hops) == 0 {
		delete(f.installed, p)
		if err := f.host.Netlink().RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove: %w", err)
		}
		return nil
	}
	setNextHops(r, p, hops)
	if err := f.host.Netlink().RouteReplace(r); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	f.installed[p] = hops
	return nil
}

func setNextHops(r *netlink.Route, p netip.Prefix, hops []netip.Addr) {
	if len(hops) == 1 {
		r.Gw, r.Via = gateway(p, hops[0])
		return
	}
	for _, hop := range hops {
		nh := &netlink.NexthopInfo{}
		nh.Gw, nh.Via = gateway(p, hop)
		r.MultiPath = append(r.MultiPath, nh)
	}
}

// gateway spells a next hop; one of the other family goes into RTA_VIA (RFC 8950 routes).
func gateway(p netip.Prefix, hop netip.Addr) (net.IP, netlink.Destination) {
	if p.Addr().Is4() && hop.Is6() {
		return nil, &netlink.Via{AddrFamily: unix.AF_INET6, Addr: hop.AsSlice()}
	}
	return hop.AsSlice(), nil
}

func prefixNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
