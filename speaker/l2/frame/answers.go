// Package frame is what the ARP and NDP responders share: the immutable set of addresses to answer for, the kernel filter that lets only
// frames about them through, the read loop over a packet socket, and counters. It works on whole Ethernet frames.
package frame

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Role is what a responder does about an address.
type Role uint8

// Roles.
const (
	Own     Role = iota // answers for it with the interface's MAC
	StandIn             // answers for it with the MAC of another station, and does not announce it
	Watched             // answers nothing: it looks whether somebody else uses the address
)

// Answer is one address of a set.
type Answer struct {
	Addr netip.Addr
	Role Role
	MAC  [6]byte // of StandIn: what replies carry
}

// Answers is what a responder answers: an immutable set of addresses, and the interface's MAC.
type Answers struct {
	mac  net.HardwareAddr
	list []Answer // sorted by address
}

// NewAnswers returns the set of the given addresses on an interface with the given MAC. The slices must not be changed afterwards. No
// address may be there twice.
func NewAnswers(mac net.HardwareAddr, list []Answer) *Answers {
	if !slices.IsSortedFunc(list, compareAnswers) {
		list = slices.SortedFunc(slices.Values(list), compareAnswers)
	}
	return &Answers{mac: mac, list: list}
}

func compareAnswers(a, b Answer) int { return a.Addr.Compare(b.Addr) }

// Find returns what is done about the address, and whether anything is.
func (a *Answers) Find(addr netip.Addr) (Answer, bool) {
	i, ok := slices.BinarySearchFunc(a.list, addr, func(v Answer, addr netip.Addr) int { return v.Addr.Compare(addr) })
	if !ok {
		return Answer{}, false
	}
	return a.list[i], true
}

// MAC returns the MAC of the interface. The caller must not change it.
func (a *Answers) MAC() net.HardwareAddr { return a.mac }

// Spoken returns the MAC that replies about the address carry. The caller must not change it.
func (a *Answers) Spoken(v Answer) net.HardwareAddr {
	if v.Role == StandIn {
		return v.MAC[:]
	}
	return a.mac
}

// List returns the addresses, sorted. The caller must not change them.
func (a *Answers) List() []Answer { return a.list }

// Counters count what one responder saw and did. They are read while they are being written.
type Counters struct {
	Requests   atomic.Uint64 // requests for an address we answer for
	Replies    atomic.Uint64 // replies sent
	Gratuitous atomic.Uint64 // unasked announcements sent (frames)
	Conflicts  atomic.Uint64 // frames in which a foreign MAC claims an address of ours
	Malformed  atomic.Uint64 // frames that were let through but are not valid
	Errors     atomic.Uint64 // frames that could not be sent
}

// Claim is what a frame says of a foreign station and an address of ours.
type Claim struct {
	Addr    netip.Addr
	MAC     net.HardwareAddr // of the foreign station; valid during the call only
	Watched bool             // the address is not answered for here, but looked for
	Probe   bool             // the station does not use the address (yet): it looks for it as well
}

// Heard is told of each frame in which a foreign MAC claims an address of ours. It is called by the reader: it must not block.
type Heard func(Claim)

// IsOwn reports whether a MAC belongs to this node: what another of its interfaces sends is no conflict.
type IsOwn func(mac net.HardwareAddr) bool

// Unicast reports whether mac is an Ethernet address that one station may have.
func Unicast(mac net.HardwareAddr) bool {
	return len(mac) == 6 && mac[0]&1 == 0 && (mac[0]|mac[1]|mac[2]|mac[3]|mac[4]|mac[5]) != 0
}
