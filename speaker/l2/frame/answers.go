// Package frame is what the ARP and NDP responders share: the immutable set of addresses to answer for, the kernel filter that lets only
// frames about them through, the read loop over a packet socket, and counters. It works on whole Ethernet frames.
package frame

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// Answers is what a responder answers: an immutable set of addresses and the MAC that the replies carry.
type Answers struct {
	mac   net.HardwareAddr
	addrs []netip.Addr
	set   map[netip.Addr]struct{}
}

// NewAnswers returns the set of the given addresses, answered with mac. The slices must not be changed afterwards.
func NewAnswers(mac net.HardwareAddr, addrs []netip.Addr) *Answers {
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		set[a] = struct{}{}
	}
	return &Answers{mac: mac, addrs: addrs, set: set}
}

// Has reports whether the address is answered for.
func (a *Answers) Has(addr netip.Addr) bool {
	_, ok := a.set[addr]
	return ok
}

// MAC returns the MAC that replies carry. The caller must not change it.
func (a *Answers) MAC() net.HardwareAddr { return a.mac }

// Addrs returns the addresses in the order they were given. The caller must not change them.
func (a *Answers) Addrs() []netip.Addr { return a.addrs }

// Unanswered is the error of a responder that could take up some addresses but not these.
type Unanswered struct {
	Addrs map[netip.Addr]struct{}
	Err   error
}

// Error says why, and for how many addresses.
func (u *Unanswered) Error() string { return fmt.Sprintf("%d addresses: %v", len(u.Addrs), u.Err) }

// Unwrap returns the cause.
func (u *Unanswered) Unwrap() error { return u.Err }

// Has reports whether the address is one of them.
func (u *Unanswered) Has(a netip.Addr) bool {
	_, ok := u.Addrs[a]
	return ok
}

// Counters count what one responder saw and did. They are read while they are being written.
type Counters struct {
	Requests   atomic.Uint64 // requests for an address we answer for
	Replies    atomic.Uint64 // replies sent
	Gratuitous atomic.Uint64 // unasked announcements sent (frames)
	Conflicts  atomic.Uint64 // frames in which a foreign MAC claims an address of ours
	Malformed  atomic.Uint64 // frames that were let through but are not valid
	Errors     atomic.Uint64 // frames that could not be sent
}

// Heard is told of each frame in which a foreign MAC claims an address we answer for. It is called by the reader: it must not block.
type Heard func(addr netip.Addr, mac net.HardwareAddr)

// Own reports whether a MAC belongs to this node: what another of its interfaces sends is no conflict.
type Own func(mac net.HardwareAddr) bool

// Unicast reports whether mac is an Ethernet address that one station may have.
func Unicast(mac net.HardwareAddr) bool {
	return len(mac) == 6 && mac[0]&1 == 0 && (mac[0]|mac[1]|mac[2]|mac[3]|mac[4]|mac[5]) != 0
}
