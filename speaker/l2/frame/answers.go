// Package frame is what the ARP and NDP responders share: the immutable set of addresses to answer for, the kernel filter that lets only
// frames about them through, the read loop over a packet socket, and counters. It works on whole Ethernet frames.
package frame

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Answers is what a responder answers: an immutable set of addresses and the MAC that the replies carry.
type Answers struct {
	mac   net.HardwareAddr
	addrs map[netip.Addr]struct{}
}

// NewAnswers returns the set of the given addresses, answered with mac.
func NewAnswers(mac net.HardwareAddr, addrs []netip.Addr) *Answers {
	set := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		set[a] = struct{}{}
	}
	return &Answers{mac: slices.Clone(mac), addrs: set}
}

// Has reports whether the address is answered for.
func (a *Answers) Has(addr netip.Addr) bool {
	_, ok := a.addrs[addr]
	return ok
}

// MAC returns the MAC that replies carry. The caller must not change it.
func (a *Answers) MAC() net.HardwareAddr { return a.mac }

// Addrs returns the addresses, sorted.
func (a *Answers) Addrs() []netip.Addr {
	return slices.SortedFunc(maps.Keys(a.addrs), netip.Addr.Compare)
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
