package parse

// Types of the conditions that Herald writes.
const (
	AllocatedType = "heraldlb.io/Allocated" // on Services
	AnnouncedType = "heraldlb.io/Announced" // on Services
	ReadyType     = "Ready"                 // on config objects
)

// RetainedLabel with the value "true" marks the IPReservations that Herald made for a pool's retainFor. They are Herald's to delete.
const RetainedLabel = "heraldlb.io/retained"

// Kinds of config objects, as they stand in config.Ref.
const (
	KindPool             = "IPAddressPool"
	KindReservation      = "IPReservation"
	KindL2Advertisement  = "L2Advertisement"
	KindPeer             = "BGPPeer"
	KindBGPAdvertisement = "BGPAdvertisement"
	KindBFDProfile       = "BFDProfile"
	KindCommunity        = "Community"
)

// Reasons of problems; each becomes the reason of Ready=False.
const (
	InvalidAddress   = "InvalidAddress"   // pool, peer: what is written is no usable address
	DuplicateAddress = "DuplicateAddress" // pool: an address stands in it twice (it is in force all the same)
	OverlappingPool  = "OverlappingPool"  // pool: an older pool has the address
	NodeAddress      = "NodeAddress"      // pool, reservation: a node has the address, so it is never given to a Service
	GatewayAddress   = "GatewayAddress"   // pool: the default gateway of a node has the address, so it is never given to a Service
	ServiceCIDR      = "ServiceCIDR"      // pool: the cluster takes ClusterIPs from there
	PodCIDR          = "PodCIDR"          // pool: a node's pods have addresses from there
	NothingExcluded  = "NothingExcluded"  // pool: an exclusion touches none of its addresses
	InvalidDuration  = "InvalidDuration"  // pool, L2Advertisement
	InvalidWeight    = "InvalidWeight"    // L2Advertisement
	InvalidService   = "InvalidService"   // reservation: names no Service
	AddressReserved  = "AddressReserved"  // reservation: an older one has the address
	AddressNotInPool = "AddressNotInPool" // reservation: no pool could give the address
	AddressExcluded  = "AddressExcluded"  // reservation: its pool excludes the address
	Expired          = "Expired"          // reservation
	InvalidASN       = "InvalidASN"       // peer
	InvalidPort      = "InvalidPort"      // peer
	InvalidFamily    = "InvalidFamily"    // peer
	InvalidTimer     = "InvalidTimer"     // peer
	InvalidRouterID  = "InvalidRouterID"  // peer
	InvalidMultiHop  = "InvalidMultiHop"  // peer
	ConflictingPeer  = "ConflictingPeer"  // peer: an older one holds the same session on the same node
	InvalidSelector  = "InvalidSelector"  // any
	InvalidInterface = "InvalidInterface" // L2Advertisement: not a glob
	InvalidSecret    = "InvalidSecret"    // peer: its Secret holds no password that could be used
	UnknownSecret    = "UnknownSecret"    // peer: its Secret does not exist
	InvalidNumber    = "InvalidNumber"    // BGPAdvertisement, BFDProfile
	InvalidCommunity = "InvalidCommunity" // BGPAdvertisement, Community
	DuplicateName    = "DuplicateName"    // Community: an older one gives the name another value
	UnknownCommunity = "UnknownCommunity" // BGPAdvertisement: no Community gives the name
	NoEffect         = "NoEffect"         // any: something is said in vain
	UnknownPool      = "UnknownPool"      // advertisement: names a pool that does not exist
	UnknownPeer      = "UnknownPeer"      // BGPAdvertisement: names a peer that does not exist
	UnusablePool     = "UnusablePool"     // advertisement: names a pool that is not in force
	UnusablePeer     = "UnusablePeer"     // BGPAdvertisement: names a peer that is not in force

	ConflictingAttributes = "ConflictingAttributes" // BGPAdvertisement: an older one says otherwise of the same routes
	UnknownBFDProfile     = "UnknownBFDProfile"     // peer: names a profile that does not exist
	UnusableBFDProfile    = "UnusableBFDProfile"    // peer: names a profile that is not in force
)

// Annotations on Services. The first domain that has an annotation wins, also with an empty value; the others let published charts work as
// they are.
const (
	poolAnnotation      = "/address-pool"
	addressesAnnotation = "/loadBalancerIPs"
	sharingAnnotation   = "/allow-shared-ip"
)

// MoveAnnotation on a Service asks the node that answers for its addresses by ARP and NDP to hand them to another: the names of the two nodes
// and the time until which it is asked (RFC 3339), separated by slashes, as FormatMove writes them.
const MoveAnnotation = "heraldlb.io/move"

func annotationDomains() [3]string {
	return [3]string{"heraldlb.io", "metallb.io", "metallb.universe.tf"}
}

func annotation(all map[string]string, name string) string {
	if len(all) == 0 {
		return ""
	}
	for _, domain := range annotationDomains() {
		if v, ok := all[domain+name]; ok {
			return v
		}
	}
	return ""
}

// DrainTaint is the taint that drains a node: it announces nothing any more, and hands over what it announced.
const DrainTaint = "heraldlb.io/drain"
