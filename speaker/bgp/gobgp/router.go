// Package gobgp holds BGP sessions with messages made and read by GoBGP's packet library. It is the only room that knows GoBGP.
//
// GoBGP's server is not used. Measured on v3.37.0: with one server per peer, which per-peer routes need, StartBgp writes package
// variables that every other server reads (the race detector reports it); a hold time of 0 is turned into 90 s; a NOTIFICATION received
// before Established is thrown away, so that a refusal cannot be explained; a peer that accepts and says nothing is waited for 240 s; the
// first dial waits 1 to 2 s and a dropped session 5 s more; Serve never returns. Herald needs little of a server: it dials, never
// listens, takes no routes and has no routing table. That is the state machine in this package (RFC 4271 section 8 without the parts for
// incoming connections), with one goroutine per session and no state outside of it.
//
// What it does: IPv4 and IPv6 unicast (RFC 4760) over either transport, IPv4 routes with IPv6 next hops (RFC 8950), four-octet AS numbers
// with two-octet peers (RFC 6793), route refresh (RFC 2918), shutdown messages (RFC 9003), communities of all sorts (RFC 1997, RFC 4360,
// RFC 8092), graceful restart as the side that restarts (RFC 4724, RFC 9494), TCP MD5 (RFC 2385), GTSM (RFC 5082), unnumbered peers.
// Received routes are counted and dropped.
package gobgp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"

	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/bgp/adjacent"
)

// Options of a Router.
type Options struct {
	Log *slog.Logger
	// Dial connects to a neighbour; nil: TCP from this process's network namespace.
	Dial func(context.Context, bgp.Neighbor) (net.Conn, error)
	// NICs lists the node's interfaces with their addresses; nil: those of this process's network namespace.
	NICs func() ([]bgp.NIC, error)
	// Find returns what finds the router on an interface; nil: adjacent.New, in this process's network namespace.
	Find func(iface string) Finder
}

// Finder finds the router at the other end of a link, and lets the router find this node.
type Finder interface {
	Run(context.Context)
	// Router returns the router's link-local address, with zone; or why there is none.
	Router() (netip.Addr, error)
	// Changed tells that Router may have something new to say.
	Changed() <-chan struct{}
}

// Router makes sessions. It holds no state.
type Router struct{ opt Options }

// New returns a Router.
func New(opt Options) *Router {
	if opt.Dial == nil {
		opt.Dial = DialTCP
	}
	if opt.NICs == nil {
		opt.NICs = HostNICs
	}
	if opt.Find == nil {
		opt.Find = func(iface string) Finder { return adjacent.New(iface, opt.Log) }
	}
	return &Router{opt: opt}
}

// Session implements bgp.Router.
func (r *Router) Session(n bgp.Neighbor, changed func()) bgp.Session {
	log := r.opt.Log.With("peer", n.Name, "address", n.Address)
	if n.Interface != "" {
		log = r.opt.Log.With("peer", n.Name, "interface", n.Interface)
	}
	return &session{
		Neighbor: n,
		dial:     r.opt.Dial,
		nics:     r.opt.NICs,
		find:     r.opt.Find,
		log:      log,
		wake:     make(chan struct{}, 1),
		hurry:    make(chan struct{}, 1),
		board:    newBoard(changed),
	}
}
