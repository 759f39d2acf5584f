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
	Peers      []*config.Peer   // sessions to hold, sorted by name
	Routes     [][]decide.Route // prefixes to advertise, sorted, in pages that are never changed
	Addresses  []netip.Addr     // the node's own addresses as Kubernetes knows them, sorted
	Interfaces []config.Interface

	// Draining says that the routes are to go: peers are asked to prefer other paths (RFC 8326), and after Options.DrainWait nothing is
	// advertised any more. Routes should still hold what would be advertised otherwise. The sessions stay.
	Draining bool
}

// Router makes sessions.
type Router interface {
	// Session returns a session with the neighbour that does nothing until Run. changed is called, from any goroutine and without locks
	// held, whenever Status may have changed; it must not block.
	Session(n Neighbor, changed func()) Session
}

// Session is one BGP session. It reconnects by itself for as long as it runs.
type Session interface {
	// Run holds the session until ctx ends, then says goodbye to the peer and returns. Run is called once. The cause of ctx says which
	// goodbye: with ErrRestarting and ErrReopened the peer is to keep our routes, if it agreed to graceful restart; with everything else
	// (ErrRemoved, ErrChanged, a Farewell) it is told to drop them (RFC 4486, RFC 9003).
	Run(ctx context.Context)
	// Set replaces what the peer should be told. It never blocks; only the last value counts.
	Set(Advert)
	// Drop ends the connection to the peer, if there is one, because of what the words say, which it may tell the peer. It does not
	// block. The session reconnects as after any failure.
	Drop(words string)
	// Hasten says that the router is likely to answer now, so that a session that is down is tried at once. It does not block, and is
	// nothing to a session that is up.
	Hasten()
	// Status returns the state of the session as of now.
	Status() Status
}

// Causes of the end of a session, which choose how it ends. A Farewell is another.
var (
	ErrRemoved  = errors.New("the BGPPeer was removed from this node")
	ErrChanged  = errors.New("the BGPPeer was changed")
	ErrReopened = errors.New("the BGPPeer was changed, the router stays the same")

	// ErrRestarting, as the cause of the context of Announcer.Run, says that this process will be back soon: routes stay where the
	// router keeps them (graceful restart). It takes until routers have noticed: some milliseconds, or a second for one that hangs.
	ErrRestarting = errors.New("the speaker restarts")
)

// Farewell is the cause of the end of a session whose node stops announcing for good.
type Farewell struct{ Words string }

// Error returns what the peer is told.
func (f *Farewell) Error() string { return f.Words }

// Neighbor is everything a session depends on: two equal values are the same session. It is comparable on purpose.
type Neighbor struct {
	Name        string     // of the BGPPeer
	Address     netip.Addr // zero: the router at the other end of Interface
	Interface   string
	Port        uint16
	Source      netip.Addr // zero: the kernel chooses
	Device      string     // that the connection is bound to, such as that of a VRF; "" = none
	LocalASN    uint32
	PeerASN     uint32     // zero: any but LocalASN
	RouterID    netip.Addr // IPv4
	Families    Families   // unicast families to offer
	Hold        time.Duration
	Keepalive   time.Duration
	Connect     time.Duration // between two attempts to connect, at most
	MultiHop    bool          // an external peer need not be on a connected subnet
	TTLSecurity bool          // RFC 5082
	Password    config.Password
	Restart     config.GracefulRestart
}

// Internal reports whether the session is iBGP.
func (n Neighbor) Internal() bool { return n.LocalASN == n.PeerASN }

// Over6 reports whether the session is carried by IPv6.
func (n Neighbor) Over6() bool { return n.Interface != "" || n.Address.Is6() }

// place is where a session leads to.
type place struct {
	remote    netip.AddrPort
	iface     string
	device    string
	localASN  uint32
	remoteASN uint32
	source    netip.Addr
}

// router returns where the session leads to, for the router's part.
func (n Neighbor) router() place {
	return place{remote: netip.AddrPortFrom(n.Address, n.Port), iface: n.Interface, device: n.Device}
}

// change returns the cause of the end of a session that is replaced by another. The router does not lose our routes over a change that
// leaves both ends what they are.
func (n Neighbor) change(next Neighbor) error {
	known := func(n Neighbor) place {
		p := n.router()
		p.localASN, p.remoteASN, p.source = n.LocalASN, n.PeerASN, n.Source
		return p
	}
	if known(n) == known(next) && n.Restart.Enabled && next.Restart.Enabled {
		return ErrReopened
	}
	return ErrChanged
}

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
	Remote     netip.Addr // the router's end, with zone if it has one; zero when it is not known yet
	PeerASN    uint32     // the router's; 0 when it is not known yet
	Families   Families   // negotiated; none unless Established
	Hold       time.Duration
	Restart    time.Duration // how long the peer keeps our routes while the speaker restarts; 0: it does not
	Advertised Count         // paths the peer was told
	LastError  string
	Counters
}

// Counters of a session, from 0 when it began to be held with these parameters.
type Counters struct {
	Sent     uint64 // UPDATE messages sent
	Received uint64 // UPDATE messages received
	Refused  uint64 // routes offered by the peer, all of which are dropped
	Ups      uint64 // how often the session was established
	Downs    uint64 // how often it ended after that
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
