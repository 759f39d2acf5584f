package bfd

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/heraldlb/herald/config"
)

// The UDP ports that control packets are sent to: RFC 5881 section 4, RFC 5883 section 5.
const (
	singleHopPort = 3784
	multihopPort  = 4784
)

// Network opens sockets. Its methods are called by one goroutine at a time for each Port, and must not block for long.
type Network interface {
	// Listen opens the socket that hears everything sent to a port.
	Listen(Port) (Listener, error)
	// Dial opens the socket that speaks to one neighbour.
	Dial(Endpoint) (Sender, error)
}

// Port is a well-known UDP port on this node.
type Port struct {
	Family   config.Family
	Multihop bool
	VRF      string // device of a VRF; empty: none
}

// Number returns the port's number.
func (p Port) Number() uint16 {
	if p.Multihop {
		return multihopPort
	}
	return singleHopPort
}

// String describes the port.
func (p Port) String() string {
	s := fmt.Sprintf("UDP port %d (%s)", p.Number(), p.Family)
	if p.VRF != "" {
		s += " in VRF " + p.VRF
	}
	return s
}

// Endpoint is a path to watch: there is one session for each. It is comparable on purpose.
type Endpoint struct {
	Peer      netip.Addr // without zone
	Local     netip.Addr // zero: the kernel chooses
	Interface string     // required for a link-local Peer; empty: by the routing table
	VRF       string     // device of a VRF; empty: none
	Multihop  bool
}

// Port returns the port on which the endpoint's packets are heard and to which they are sent.
func (e Endpoint) Port() Port {
	return Port{Family: config.FamilyOf(e.Peer), Multihop: e.Multihop, VRF: e.VRF}
}

// Listener hears what is sent to a Port. One goroutine calls Wait while another may call Receive and Close.
type Listener interface {
	// Wait blocks until Receive may have something to return, or fails when the Listener is closed or broken.
	Wait() error
	// Receive returns the next datagram and true if one has come; it never blocks. The payload is valid until the next call.
	Receive() (Datagram, bool)
	// Close makes Wait return. It may be called again, and by several goroutines: after each call the port is free.
	Close() error
}

// Datagram is what a Listener heard.
type Datagram struct {
	From, To  netip.Addr // without zones
	Interface int        // index of the interface it came in by
	TTL       int        // or hop limit; 0 when it is not known
	Payload   []byte
}

// Sender speaks to one neighbour, with TTL 255 and always from the same port (RFC 5881 section 4).
type Sender interface {
	// Send sends one packet. Its error may be about an earlier one; ErrRefused means that the packet was sent all the same.
	Send(payload []byte) error
	// Local is the address that packets are sent from.
	Local() netip.Addr
	// Interface is the index of the endpoint's interface; 0 when it names none.
	Interface() int
	Close() error
}

// ErrRefused is the answer of a neighbour on which nobody listens.
var ErrRefused = errors.New("nobody listens to BFD there")
