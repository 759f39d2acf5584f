package decide

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config"
)

// Desired is everything this node should be doing, whole. Slices are sorted, so equal intents compare equal. Routes and Verdicts, of which there
// may be thousands, come in pages, none of them empty: all pages one after the other are the list, and where it is cut means nothing. A Decider
// gives the same page again, in the same memory, when nothing in it has changed.
type Desired struct {
	// Incomplete says that some source has not been listed yet: absence means nothing, so the caller must go on with what it does.
	// The other fields are empty then.
	Incomplete bool

	L2       []L2Address
	Claims   map[netip.Addr]Claim // what this node claims: exactly the addresses in L2, without those it stands in for
	Peers    []*config.Peer       // BGP sessions this node holds
	Routes   [][]Route            // by prefix
	Draining bool                 // Routes is what this node would advertise; they are to go, after the routers were asked to prefer others (RFC 8326)
	Verdicts [][]Verdict          // by Service, address, protocol
	Again    time.Time            // when the outcome may change though no other fact does; zero = never
}

// L2Address is an address this node answers for.
type L2Address struct {
	Addr       netip.Addr
	Interfaces []string // names of the node's interfaces that answer, sorted, never empty
	Taken      Reason   // why this node has it

	Refresh time.Duration // announce it again this often, jittered; 0 = only on change

	// Probe asks to look for another user before the first use (RFC 5227): nobody is known to have had the address, or nobody claims it and its
	// Service is not said to be announced, so that whoever had it may have had it for another Service long ago; or as many speakers are out of
	// hearing as are not, and one of those may; or its Service says that somebody else uses it. It is set in the decision that takes the address, and,
	// but for the last reason, no more once it is Kept.
	Probe bool

	// For names the restarting node that this one stands in for: it answers with MACs, which belong to that node, one for each of
	// Interfaces, and announces nothing. "" = for itself, with the interface's own.
	For  string
	MACs []string
}

// Route is a prefix this node advertises, and the peers (by name, sorted) that are told. Several routes may share a prefix: what they
// say of it adds up for each peer (config.RouteAttributes.Merge), so an aggregate is one Route for each Service and address in it.
type Route struct {
	Prefix     netip.Prefix
	Peers      []string
	Attributes config.RouteAttributes
}

// Protocol is a way of announcing an address.
type Protocol string

// The ways of announcing, as they are printed.
const (
	L2  Protocol = "L2"
	BGP Protocol = "BGP"
)

// Verdict is what was decided for one address of one Service and one protocol, as seen from this node. There is one for each protocol
// that some advertisement asks for; an address that no advertisement covers has a single one with an empty Protocol.
type Verdict struct {
	Service  config.Key
	Addr     netip.Addr
	Protocol Protocol
	Announce bool   // this node announces it
	Owner    string // L2: the node that answers for it; "" when nobody does. Always "" for BGP
	Reason   Reason
	Message  string // for a person: why not, naming nodes
}

// Reason is a CamelCase word for a decision; those that end in a Service's Announced condition are fixed by the public contract.
type Reason string

// Reasons of verdicts.
const (
	Announced        Reason = "Announced"
	NoAdvertisement  Reason = "NoAdvertisement"
	NoReadyEndpoints Reason = "NoReadyEndpoints"
	NoEligibleNode   Reason = "NoEligibleNode"
	AddressConflict  Reason = "AddressConflict"
	PeersDown        Reason = "PeersDown"
	NotOwner         Reason = "NotOwner"    // another node answers for the address
	NotEligible      Reason = "NotEligible" // BGP: other nodes announce the address, this one may not
)

// Reasons why a node has an L2 address (L2Address.Taken).
const (
	Kept     Reason = "Kept"     // it has claimed the address before, and nobody disputes it
	Elected  Reason = "Elected"  // nobody ever claimed the address
	TookOver Reason = "TookOver" // it was claimed before, by a node that is gone or no longer eligible
	Won      Reason = "Won"      // other live nodes claim it too, and this node's claim is the best: announce again
	HandedOn Reason = "HandedOn" // it is another node's to take, and this one answers until that one does: not to be defended
	Returned Reason = "Returned" // its owner gave it to this node: it drains, or this is the first choice and failbackDelay is over
	Moved    Reason = "Moved"    // its owner gave it to this node because a Service asks for that
	StandIn  Reason = "StandIn"  // its owner restarts: this node answers with the owner's MAC
)
