package decide

import (
	"net/netip"
	"time"

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

	DrainOnCordon bool // --drain-on-cordon
	Now           time.Time
	// Since says, for each live member, since when it has been seen able to answer without a break. Only failbackDelay asks.
	Since map[string]time.Time

	// Heard names, for an address, a node that is no live member but was heard on the wire to answer for it (gossip cut, segment
	// whole). Of the two the one with the better rank goes on; both sides come to that alone. May be nil.
	Heard map[netip.Addr]string

	// Insists has those addresses of Heard whose rival went on although it must have heard this node, which has the better rank: it is
	// in the majority, and will not give way. A node in the minority does then, whatever the ranks. May be nil.
	Insists map[netip.Addr]bool
}

// State is what a member says of itself.
type State uint8

// States of a member.
const (
	Up State = iota
	Draining
	Restarting
)

// String returns the state as it is printed: "up", "draining", "restarting".
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Draining:
		return "draining"
	case Restarting:
		return "restarting"
	}
	return "unknown"
}

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

	// Provisional says that some speaker was missing when the claim was made. The others of a split are not missed all at once, so a
	// node that ends up alone may see a majority for a moment, and take what is not its to take: if it finds itself in the minority
	// later, its provisional claims lose Majority. Once everybody is there again, what nobody disputed is as good as any.
	Provisional bool

	// To names the node that its maker wants to have the address instead, because it drains or gives it back: that node claims it, and
	// the maker answers until then. "" = nobody.
	To string
}

// Memory is the highest claim counter seen for each address.
type Memory map[netip.Addr]uint64
