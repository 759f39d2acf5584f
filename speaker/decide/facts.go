// Package decide turns facts into what this node should announce, and says why. It is pure: no clock, no log, no map order, no I/O;
// every speaker that has the same facts comes to the same choice of owner (election included), and the same functions explain it.
package decide

import (
	"net/netip"

	"github.com/heraldlb/herald/config"
)

// Facts is everything a decision may depend on.
type Facts struct {
	Node            string // the node we decide for
	Config          *config.Snapshot
	Members         []Member // live members of the gossip, this node included, sorted by Node
	Claims          Memory   // highest claim counters ever seen, also of the dead
	Expected        int      // how many speakers there should be (live or not), for "majority"; at least len(Members)
	IgnoreExcludeLB bool     // --ignore-exclude-lb
}

// State is what a member says of itself.
type State uint8

// States of a member.
const (
	Up State = iota
	Draining
	Restarting
)

// Member is a live speaker as gossip knows it.
type Member struct {
	Node       string
	State      State
	Started    int64 // Unix nanoseconds
	Interfaces []config.Interface
	Claims     map[netip.Addr]Claim
}

// Claim says that its maker answers for an address. Of two claims the one taken in the majority wins, then the higher counter, then the
// better rank of the node for the address.
type Claim struct {
	Counter  uint64 // one more than any claim for the address the maker had seen
	Majority bool   // the maker saw more than half of the speakers it knows of when it took the address
}

// Memory is the highest claim counter seen for each address.
type Memory map[netip.Addr]uint64
