// Package adjacent finds the router at the other end of a link, and lets the router find this node, so that a BGP session needs no
// configured address (an unnumbered peer). Both ends send router advertisements (RFC 4861 section 4.2) and take the source of those they
// hear for their neighbour. Ours have a router lifetime of 0: nobody takes this node for a default router. A router that sends none is
// found in the kernel's neighbour table, if it is the only neighbour there.
package adjacent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// Conn sends and receives NDP messages on one interface, from its link-local address.
type Conn interface {
	ReadFrom() (ndp.Message, *ipv6.ControlMessage, netip.Addr, error)
	WriteTo(ndp.Message, *ipv6.ControlMessage, netip.Addr) error
	Close() error
}

// Host is what is asked of the node.
type Host interface {
	// Listen opens a Conn on the interface and returns the interface's hardware address.
	Listen(iface string) (Conn, net.HardwareAddr, error)
	// Neighbors returns the link-local addresses, without zone, in the neighbour table of the interface.
	Neighbors(iface string) ([]netip.Addr, error)
}

// Finder looks for the router on one interface. Make it with New, run it with Run.
type Finder struct {
	iface   string
	host    Host
	log     *slog.Logger
	changed chan struct{} // capacity 1

	mu    sync.Mutex
	heard map[netip.Addr]advert // by sender, without zone
	err   error                 // why the interface cannot be listened on
}

// advert is the last advertisement of a router.
type advert struct {
	at       time.Time
	isRouter bool // it offers to be a default router
}

// New returns a Finder for an interface of this process's network namespace. It does nothing until Run.
func New(iface string, log *slog.Logger) *Finder { return On(Kernel{}, iface, log) }

// On returns a Finder for an interface of the given host.
func On(host Host, iface string, log *slog.Logger) *Finder {
	return &Finder{
		iface:   iface,
		host:    host,
		log:     log.With("interface", iface),
		changed: make(chan struct{}, 1),
		heard:   map[netip.Addr]advert{},
	}
}

const (
	every   = 10 * time.Second // between two advertisements
	first   = 3                // advertisements in a row at the beginning, quickly after each other
	least   = time.Second      // between those, between two attempts to listen, and between answers to solicitations
	forget  = 30 * time.Minute // when a router was not heard of for that long, it is gone (RFC 4861 section 6.2.1 allows it 30 minutes of silence)
	mostOf  = 64               // routers remembered; a link with more is no link to one router
	onlyHop = 255              // RFC 4861 section 6.1: a message that came over a router has a smaller hop limit
)

// Changed tells that Router may have something new to say.
func (f *Finder) Changed() <-chan struct{} { return f.changed }

// Router returns the link-local address of the router, with zone. Of several, one that offers to be a default router goes first, then the
// one heard last. The error says for an operator why there is none.
func (f *Finder) Router() (netip.Addr, error) {
	f.mu.Lock()
	var best netip.Addr
	for a, ad := range f.heard {
		if time.Since(ad.at) <= forget && (!best.IsValid() || ad.better(f.heard[best])) {
			best = a
		}
	}
	err := f.err
	f.mu.Unlock()
	switch {
	case best.IsValid():
		return best.WithZone(f.iface), nil
	case err != nil:
		return netip.Addr{}, err
	}
	return f.onlyNeighbor()
}

func (a advert) better(b advert) bool {
	if a.isRouter != b.isRouter {
		return a.isRouter
	}
	return a.at.After(b.at)
}

func (f *Finder) onlyNeighbor() (netip.Addr, error) {
	list, err := f.host.Neighbors(f.iface)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("no router was heard on %s, and its neighbour table cannot be read: %w", f.iface, err)
	case len(list) == 1:
		return list[0].WithZone(f.iface), nil
	case len(list) > 1:
		return netip.Addr{}, fmt.Errorf("no router was heard on %s, and it has %d neighbours: the router must send router advertisements", f.iface, len(list))
	}
	return netip.Addr{}, fmt.Errorf("no router was heard on %s: is it up, and does the router send router advertisements?", f.iface)
}

// Run looks for the router until ctx ends.
func (f *Finder) Run(ctx context.Context) {
	for {
		conn, mac, err := f.host.Listen(f.iface)
		f.note(err)
		if err == nil {
			err = f.serve(ctx, conn, mac)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(least):
			f.log.Debug("listening for a router again", "reason", err)
		}
	}
}

func (f *Finder) note(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
	f.signal()
}

func (f *Finder) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// serve sends advertisements and listens until ctx ends or the connection is of no use any more.
func (f *Finder) serve(ctx context.Context, conn Conn, mac net.HardwareAddr) error {
	asked := make(chan struct{}, 1)
	failed := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	wg.Go(func() { failed <- f.listen(conn, asked) })
	var last time.Time
	next := time.NewTimer(0)
	defer next.Stop()
	for sent := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case <-asked:
			if wait := least - time.Since(last); wait > 0 {
				next.Reset(wait)
				continue
			}
		case <-next.C:
		}
		if err := f.advertise(conn, mac); err != nil {
			return err
		}
		last = time.Now()
		sent++
		if sent < first {
			next.Reset(least)
		} else {
			next.Reset(every)
		}
	}
}

// advertise tells all nodes on the link that we are here, and asks routers to do the same while none is known.
func (f *Finder) advertise(conn Conn, mac net.HardwareAddr) error {
	source := []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}
	if err := conn.WriteTo(&ndp.RouterAdvertisement{Options: source}, nil, netip.IPv6LinkLocalAllNodes()); err != nil {
		return err
	}
	f.mu.Lock()
	known := len(f.heard) > 0
	f.mu.Unlock()
	if known {
		return nil
	}
	return conn.WriteTo(&ndp.RouterSolicitation{Options: source}, nil, netip.IPv6LinkLocalAllRouters())
}

// listen reads until the connection ends.
func (f *Finder) listen(conn Conn, asked chan<- struct{}) error {
	for {
		m, cm, from, err := conn.ReadFrom()
		if err != nil {
			return err
		}
		if cm == nil || cm.HopLimit != onlyHop || !from.IsLinkLocalUnicast() {
			continue
		}
		switch m := m.(type) {
		case *ndp.RouterAdvertisement:
			f.hear(from.WithZone(""), advert{at: time.Now(), isRouter: m.RouterLifetime > 0})
		case *ndp.RouterSolicitation:
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	}
}

func (f *Finder) hear(from netip.Addr, a advert) {
	f.mu.Lock()
	_, known := f.heard[from]
	if known || len(f.heard) < mostOf {
		f.heard[from] = a
	}
	f.mu.Unlock()
	if !known {
		f.log.Info("router heard", "router", from)
		f.signal()
	}
}
