// Package config is what the cluster asks for, as immutable values: addresses are netip values, durations are durations, and a
// selector is already the set of names it selects. Nothing here knows Kubernetes types; config/parse makes these values and
// every other room trusts them.
package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Snapshot is one consistent view of everything Herald was told. It is never changed after it was published; slices are sorted by
// name (Services by namespace, then name), so equal inputs compare and print equal.
type Snapshot struct {
	Services          []*Service // Services this installation handles: type LoadBalancer of our class
	Pools             []*Pool
	Reservations      []*Reservation // well-formed ones, expired or not; filled for the controller only
	ServiceCIDRs      []netip.Prefix // what the cluster keeps for ClusterIPs, sorted; filled for the controller only
	L2Advertisements  []*L2Advertisement
	Peers             []*Peer
	BGPAdvertisements []*BGPAdvertisement
	Nodes             []*Node
	Speakers          []*Speaker // what speakers last wrote of themselves (SpeakerStatus); filled for the controller only
	Released          []Released // Services that carry our status but are not ours any more: to be cleared; filled for the controller only
	Foreign           []Foreign  // addresses of pools that somebody else than nodes has; sorted; filled for the controller only
	Objects           []Object   // every config object seen, good or not, with the Ready condition it carries now
	Problems          []Problem  // what is wrong, by object; sorted
	Synced            bool       // every source has been listed once: only then does absence mean anything
}

// Key names a namespaced object.
type Key struct{ Namespace, Name string }

// String returns namespace/name.
func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Family is an IP address family.
type Family uint8

// The two address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String returns "IPv4" or "IPv6", as Kubernetes spells them.
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// FamilyOf returns the family of an address. IPv4-mapped IPv6 addresses do not occur after config/parse.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// FamilyPolicy is a Service's spec.ipFamilyPolicy.
type FamilyPolicy uint8

// How many families a Service wants.
const (
	SingleStack FamilyPolicy = iota
	PreferDualStack
	RequireDualStack
)

// TrafficPolicy is a Service's spec.externalTrafficPolicy.
type TrafficPolicy uint8

// Where traffic from outside may be delivered.
const (
	Cluster TrafficPolicy = iota // any ready endpoint
	Local                        // endpoints on the node that received it only
)

// Port is one port of a Service. Protocol is "TCP", "UDP" or "SCTP".
type Port struct {
	Protocol string
	Port     uint16
}

// Service is a Service of type LoadBalancer that is ours to serve.
type Service struct {
	Key
	UID           string
	Version       string // of the object as it was read, opaque: a write made from this value is refused if the object has changed since
	Created       time.Time
	Deleting      bool // has a deletion timestamp: gets nothing new, keeps what it has until it is gone
	Families      []Family
	FamilyPolicy  FamilyPolicy
	TrafficPolicy TrafficPolicy
	Ports         []Port // sorted
	SharingKey    string
	Backend       string // canonical selector with its namespace; "" without a selector (such Services have no comparable backends)
	Request       Request
	Move          Move         // what is asked of the node that answers for its addresses by ARP and NDP; zero: nothing
	Admitted      []string     // pools with a serviceAllocation that admits the Service, in the order to try them; shared, never write to it; for the controller only
	Waiting       bool         // its namespace is not known yet, so Admitted may lack pools: it keeps what it has and gets nothing new
	Ingress       []netip.Addr // status.loadBalancer.ingress[].ip in order: the ledger of what it holds
	ForeignStatus bool         // status.loadBalancer holds something that Herald never writes (a hostname, an unparsable IP)
	Allocated     Condition    // heraldlb.io/Allocated as it stands in the status; zero when absent
	Announced     Condition    // heraldlb.io/Announced, likewise
	Endpoints     Endpoints
}

// Move asks the node From to hand those of a Service's addresses that it answers for by ARP and NDP to the node To. It is asked of that one
// node only and for a while, so that it is carried out once: wherever an address goes afterwards, nobody is asked any more.
type Move struct {
	From, To string
	Until    time.Time // from then on nothing is asked
}

// Released is a Service that Herald served and that is not ours any more: its type or its class changed. What Herald wrote into its status
// is still there and is to be cleared.
type Released struct {
	Key
	UID     string
	Ingress []netip.Addr // addresses still in its status
}

// Foreign is an address that somebody else has: a default gateway of nodes, or a Service of type LoadBalancer which is not ours to serve.
type Foreign struct {
	Addr  netip.Addr
	Owner string // for people, after "held by"
}

// Request is what a Service asks for in annotations and spec.loadBalancerIP.
type Request struct {
	Pools     []string     // at most one per family
	Addresses []netip.Addr // at most one per family
	Invalid   string       // not empty: the request contradicts itself; why, for the user. Then the other fields are empty.
}

// Endpoints counts a Service's endpoints per node name ("" for endpoints that name no node). An endpoint that stands in several slices
// counts in each; only zero or not, and proportions, matter. The maps are shared between snapshots: never write to them.
type Endpoints struct {
	Ready   map[string]int // ready
	Serving map[string]int // not ready but serving while terminating: they count where nothing is ready (L2: anywhere; BGP: on that node)
}

// Pool is a set of addresses that Services may be given.
type Pool struct {
	Name       string
	UID        string
	Created    time.Time
	Ranges     []Range // sorted, disjoint, both families
	Excluded   []Range // parts of Ranges that are never given out; sorted, disjoint, each within one of Ranges. Who holds one keeps it.
	AutoAssign bool
	AvoidBuggy bool // never give out an IPv4 address that ends in .0 or .255; who holds one keeps it
	Paused     bool // nothing new is given out; who holds an address keeps it
	Gone       bool // it was deleted a moment ago: as if it were paused; for the controller only

	// Only the Services that list a scoped pool as Admitted may have its addresses, also on request.
	Scoped   bool
	Priority int    // of a scoped pool: lower first, 0 last
	Admits   string // of a scoped pool, for people, after "admits only": "namespaces matching team=infra"

	NamespaceQuota int           // most addresses of each family that the Services of one namespace may hold; 0 = no limit
	RetainFor      time.Duration // how long addresses of a Service that goes are kept for one of the same name; 0 = not at all
	Status         PoolStatus    // as it stands in the API
}

// Reservation keeps addresses for one Service.
type Reservation struct {
	Name      string
	UID       string
	Created   time.Time
	Addresses []netip.Addr // one of each family at most, IPv4 first; in no other reservation in force
	Service   Key
	ExpiresAt time.Time // zero: never
	Expired   bool      // when the snapshot was made; then it reserves nothing. The snapshot is made anew when one expires.
	Retained  bool      // made by Herald for a pool's retainFor: Herald deletes it when it has expired or is not needed any more
}

// PoolStatus is the usage of a pool by family. Counts saturate at math.MaxInt64.
type PoolStatus struct{ IPv4, IPv6 PoolCounts }

// PoolCounts counts addresses of one family in a pool.
type PoolCounts struct{ Total, Assigned, Available, Reserved int64 }

// Contains reports whether the address is in one of the pool's ranges.
func (p *Pool) Contains(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(p.Ranges, a, func(r Range, a netip.Addr) int { return r.From.Compare(a) })
	if found {
		return true
	}
	return i > 0 && p.Ranges[i-1].Contains(a)
}

// Range is an inclusive range of addresses of one family.
type Range struct{ From, To netip.Addr }

// Contains reports whether the address lies in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.From.BitLen() && r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0
}

// String prints the range as a-b, or the one address.
func (r Range) String() string {
	if r.From == r.To {
		return r.From.String()
	}
	return r.From.String() + "-" + r.To.String()
}

// L2Advertisement says which addresses are announced by ARP and NDP, by which nodes, on which interfaces.
type L2Advertisement struct {
	Name       string
	Pools      Selection[string]
	Services   Selection[Key]
	Nodes      Selection[string]
	Interfaces []string // exact names or globs (path.Match); empty = all allowed interfaces
	Preferred  []Preference

	RefreshInterval time.Duration  // addresses are announced again this often, jittered; 0 = only on change
	FailbackDelay   *time.Duration // after its first choice has been up this long an address goes back to it; nil = it stays
}

// Preference makes nodes more welcome as owners: the weights of those that select a node add up.
type Preference struct {
	Weight int // 1..100
	Nodes  Selection[string]
}

// BGPAdvertisement says which addresses are announced by BGP, by which nodes, to which peers.
type BGPAdvertisement struct {
	Name     string
	Pools    Selection[string]
	Services Selection[Key]
	Nodes    Selection[string]
	Peers    Selection[string]

	// Attributes of the routes, and how long their prefixes are. A length of 0 stands for that of one address.
	Attributes        RouteAttributes // Weight is 0: it follows from WeightByEndpoints
	AggregationLength int             // IPv4
	AggregationV6     int             // IPv6
	WeightByEndpoints bool
}

// Peer is a BGP neighbour.
type Peer struct {
	Name          string
	MyASN         uint32
	PeerASN       uint32     // zero: any AS but ours (dynamicASN: external)
	LocalASN      uint32     // zero: MyASN; else what the peer sees in place of it (local-as no-prepend replace-as)
	Address       netip.Addr // zero: the router at the other end of Interface
	Interface     string     // of an unnumbered peer
	Port          uint16
	Source        netip.Addr // zero: the kernel chooses
	Families      []Family   // unicast families to negotiate, sorted, never empty
	HoldTime      time.Duration
	KeepaliveTime time.Duration
	ConnectTime   time.Duration
	RouterID      netip.Addr // zero: derived from the node
	EBGPMultiHop  bool
	TTLSecurity   bool     // GTSM (RFC 5082)
	VRF           string   // device that the session is bound to; "" = none
	Password      Password // TCP MD5 (RFC 2385); "" = none
	Restart       GracefulRestart
	BFD           *BFDProfile // how the path is watched; nil = it is not
	Nodes         Selection[string]
}

// BFDProfile is how a path is watched by BFD (RFC 5880). It is comparable on purpose.
type BFDProfile struct {
	ReceiveInterval  time.Duration // the neighbour is asked to send no faster than this
	TransmitInterval time.Duration // we send no faster than this
	DetectMultiplier uint8         // packets in a row that the neighbour may miss before it takes the session down
	Passive          bool          // wait for the neighbour to speak first
	MinimumTTL       uint8         // multihop only: packets that arrive with a smaller TTL are not believed
}

// Node is a cluster node as far as announcing is concerned.
type Node struct {
	Name               string
	UID                string
	Addresses          []netip.Addr // status.addresses of kind InternalIP and ExternalIP, sorted
	Ready              bool         // condition Ready is True
	NetworkUnavailable bool         // condition NetworkUnavailable is True
	ExcludeLB          bool         // labelled node.kubernetes.io/exclude-from-external-load-balancers
	Drain              bool         // tainted heraldlb.io/drain
	OutOfService       bool         // tainted node.kubernetes.io/out-of-service
	Unschedulable      bool         // cordoned
}

// Speaker is what one speaker wrote into its SpeakerStatus.
type Speaker struct {
	Node       string
	Version    string
	Stopped    bool     // by its own word, it does not run any more
	Alive      int      // speakers that it sees alive, itself included; 0 = it does not hear others
	Missing    []string // nodes whose speakers it saw alive once and misses
	Interfaces []Interface
	Gateways   []netip.Addr // next hops of the node's default routes, without link-local ones; sorted
	L2         []L2Holding
	Conflicts  []L2Conflict
	Sessions   []Session
}

// Interface is a network interface of a node that Herald may use.
type Interface struct {
	Name    string
	Index   int
	MAC     string // lower-case, colon-separated; "" when it has none
	Up      bool   // administratively up with carrier
	Subnets []netip.Prefix

	// Stirred grows, as the node itself sees it, whenever the neighbours may have lost track of the interface though it is up: its carrier
	// was gone for a moment, or the kernel asks to tell them anew (a virtual machine has moved, a bond has changed over).
	Stirred uint64
}

// L2Holding is an address that a speaker answers for.
type L2Holding struct {
	Address   netip.Addr
	Interface string
	Since     time.Time
}

// L2Conflict is a foreign user of an address that a speaker answers for, or would.
type L2Conflict struct {
	Address   netip.Addr
	Interface string
	MAC       string // of the foreign user; lower-case, colon-separated
	Since     time.Time
}

// Session is the state of one BGP session.
type Session struct {
	Peer         string // name of the BGPPeer
	Address      string
	LocalAddress string
	State        string // Idle, Connect, Active, OpenSent, OpenConfirm, Established (RFC 4271 section 8.2.2)
	Since        time.Time
	LocalASN     uint32
	PeerASN      uint32
	Families     []Family
	HoldTime     time.Duration
	Advertised   map[Family]int
	Restart      time.Duration // how long the peer keeps our routes while the speaker restarts; 0: it does not
	BFD          string        // state of the path (RFC 5880): AdminDown, Down, Init, Up; "" = it is not watched
	LastError    string
}

// Condition is a status condition as a value.
type Condition struct {
	Status             string // True, False, Unknown; "" when the condition is absent
	Reason             string
	Message            string
	ObservedGeneration int64
}

// Ref names a config object.
type Ref struct{ Kind, Name string }

// String returns Kind name.
func (r Ref) String() string { return r.Kind + " " + r.Name }

// Compare orders refs by kind, then name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(strings.Compare(r.Kind, o.Kind), strings.Compare(r.Name, o.Name))
}

// Object is a config object that exists, with the Ready condition it carries now.
type Object struct {
	Ref
	Generation int64
	Ready      Condition
}

// Problem is something wrong with one object. That object alone is left out, or its last good version stays in force.
type Problem struct {
	Ref
	Field    string // path within the object, such as spec.addresses[1]
	Reason   string // CamelCase, becomes the reason of Ready=False
	Message  string // names the other object where one is involved, and says what to do
	LastGood bool   // an earlier good version of the object stays in force
	Warning  bool   // the object is in force all the same (a name it mentions does not exist yet, say)
}
