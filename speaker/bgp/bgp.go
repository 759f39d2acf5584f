// Package bgp advertises routes to BGP neighbours. It is told the whole set of peers and routes, works out what each peer should be told
// (paths, next hops, router identifier), and keeps one session per peer through a small Router interface. What a message looks like and
// how a session comes up is the business of the Router; who is told what is decided here.
package bgp

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// Desired is everything this node should be doing by BGP.
type Desired struct {
	Peers      []*config.Peer // sessions to hold, sorted by name
	Routes     []decide.Route // prefixes to advertise, sorted
	Addresses  []netip.Addr   // the node's own addresses as Kubernetes knows them, sorted
	Interfaces []config.Interface
}

// Router makes sessions.
type Router interface {
	// Session returns a session with the neighbour that does nothing until Run. changed is called, from any goroutine and without locks
	// held, whenever Status may have changed; it must not block.
	Session(n Neighbor, changed func()) Session
}

// Session is one BGP session. It reconnects by itself for as long as it runs.
type Session interface {
	// Run holds the session until ctx ends, then says goodbye to the peer and returns. The cause of ctx (ErrRemoved, ErrChanged or
	// another) says which goodbye. Run is called once.
	Run(ctx context.Context)
	// Set replaces what the peer should be told. It never blocks; only the last value counts.
	Set(Advert)
	// Status returns the state of the session as of now.
	Status() Status
}

// Causes of the end of a session, which choose the subcode of the Cease that the peer is sent (RFC 4486 section 4).
var (
	ErrRemoved = errors.New("the BGPPeer was removed from this node")
	ErrChanged = errors.New("the BGPPeer was changed")
)

// Neighbor is everything a session depends on: two equal values are the same session. It is comparable on purpose.
type Neighbor struct {
	Name      string // of the BGPPeer
	Address   netip.Addr
	Port      uint16
	Source    netip.Addr // zero: the kernel chooses
	LocalASN  uint32
	PeerASN   uint32
	RouterID  netip.Addr // IPv4
	Families  Families   // unicast families to offer
	Hold      time.Duration
	Keepalive time.Duration
	Connect   time.Duration // between two attempts to connect
	MultiHop  bool          // an external peer need not be on a connected subnet
}

// Internal reports whether the session is iBGP.
func (n Neighbor) Internal() bool { return n.LocalASN == n.PeerASN }

// Families is a set of address families.
type Families struct{ IPv4, IPv6 bool }

// FamiliesOf returns the set of the listed families.
func FamiliesOf(list []config.Family) Families {
	var f Families
	for _, x := range list {
		f.IPv4 = f.IPv4 || x == config.IPv4
		f.IPv6 = f.IPv6 || x == config.IPv6
	}
	return f
}

// Has reports whether the family is in the set.
func (f Families) Has(x config.Family) bool {
	if x == config.IPv4 {
		return f.IPv4
	}
	return f.IPv6
}

// And returns the families that are in both sets.
func (f Families) And(o Families) Families {
	return Families{IPv4: f.IPv4 && o.IPv4, IPv6: f.IPv6 && o.IPv6}
}

// List returns the families, sorted.
func (f Families) List() []config.Family {
	var out []config.Family
	if f.IPv4 {
		out = append(out, config.IPv4)
	}
	if f.IPv6 {
		out = append(out, config.IPv6)
	}
	return out
}

// State is a state of RFC 4271 section 8.2.2.
type State string

// The states, spelled as the RFC does.
const (
	Idle        State = "Idle"        // waiting after the peer, or we, ended the session
	Connect     State = "Connect"     // the first attempt to connect is under way
	Active      State = "Active"      // connecting failed; tried again and again
	OpenSent    State = "OpenSent"    // connected, waiting for the peer's OPEN
	OpenConfirm State = "OpenConfirm" // OPENs exchanged, waiting for the peer's KEEPALIVE
	Established State = "Established"
)

// Status is the state of a session as a value. It is never changed after it was returned.
type Status struct {
	State      State
	Since      time.Time  // when State was entered
	Local      netip.Addr // our end of the connection; zero when not connected
	Families   Families   // negotiated; none unless Established
	Hold       time.Duration
	Advertised Count // paths the peer was told
	LastError  string
	Sent       uint64 // UPDATE messages sent since the process started
	Received   uint64 // UPDATE messages received, likewise
	Refused    uint64 // routes offered by the peer, all of which are dropped
}

// Count counts something by family.
type Count struct{ IPv4, IPv6 int }

// Of returns the count of a family.
func (c *Count) Of(f config.Family) *int {
	if f == config.IPv4 {
		return &c.IPv4
	}
	return &c.IPv6
}
