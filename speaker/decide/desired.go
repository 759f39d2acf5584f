package decide

import (
	"net/netip"

	"github.com/heraldlb/herald/config"
)

// Desired is everything this node should be doing, whole. Slices are sorted, so equal intents compare equal.
type Desired struct {
	L2       []L2Address
	Claims   map[netip.Addr]Claim // what this node claims: exactly the addresses in L2
	Peers    []*config.Peer       // BGP sessions this node holds
	Routes   []Route
	Verdicts []Verdict
}

// L2Address is an address this node answers for.
type L2Address struct {
	Addr       netip.Addr
	Interfaces []string // names of the node's interfaces that answer, sorted, never empty
	Taken      Reason   // why this node has it
}

// Route is a prefix this node advertises, and the peers (by name, sorted) that are told.
type Route struct {
	Prefix netip.Prefix
	Peers  []string
}

// Protocol is a way of announcing an address.
type Protocol string

// The ways of announcing, as they are printed.
const (
	L2  Protocol = "L2"
	BGP Protocol = "BGP"
)

// Verdict is what was decided for one address of one Service and one protocol, as seen from this node.
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
	NotOwner         Reason = "NotOwner" // another node answers for the address
)
