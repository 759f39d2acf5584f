package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SpeakerStatus is what the speaker of one node reports: it has the node's name and is owned by the Node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=speakerstatuses,categories=herald
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,description="Version of the speaker."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the speaker can announce."
// +kubebuilder:printcolumn:name="Alive",type=integer,JSONPath=`.status.gossip.alive`,description="Speakers that this one sees alive, itself included."
// +kubebuilder:printcolumn:name="Members",type=integer,JSONPath=`.status.gossip.members`,description="Speakers that this one knows of, itself included."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="What keeps the speaker from announcing."
// +kubebuilder:printcolumn:name="Started",type=date,JSONPath=`.status.startedAt`,description="Since when the speaker runs."
type SpeakerStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The report. The speaker writes it when something changed.
	//
	// +optional
	Status SpeakerStatusStatus `json:"status,omitempty"`
}

// SpeakerStatusStatus is the report.
type SpeakerStatusStatus struct {
	// Version of the speaker.
	//
	// +optional
	Version string `json:"version,omitempty"`

	// When the speaker's process started.
	//
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`

	// What the speaker says of itself.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// Network interfaces of the node that may announce.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Interfaces []SpeakerInterface `json:"interfaces,omitempty"`

	// Next hops of the node's default routes, which no Service can have; link-local ones are left out.
	//
	// +optional
	// +listType=atomic
	Gateways []string `json:"gateways,omitempty"`

	// What the speaker knows of the other speakers.
	//
	// +optional
	Gossip *SpeakerGossip `json:"gossip,omitempty"`

	// What the speaker answers for by ARP and NDP.
	//
	// +optional
	L2 *SpeakerL2 `json:"l2,omitempty"`

	// The BGP sessions of the speaker.
	//
	// +optional
	BGP *SpeakerBGP `json:"bgp,omitempty"`
}

// SpeakerStopped is the reason of Ready=False in the last word of a speaker that was told to end and is not coming back.
const SpeakerStopped = "Stopped"

// SpeakerInterface is a network interface that may announce.
type SpeakerInterface struct {
	// Name of the interface.
	Name string `json:"name"`

	// MAC address, lower-case and separated by colons.
	//
	// +optional
	MAC string `json:"mac,omitempty"`

	// Whether it is up and has a carrier.
	Up bool `json:"up"`

	// Subnets that the node has an address in on this interface.
	//
	// +optional
	// +listType=atomic
	Subnets []string `json:"subnets,omitempty"`
}

// SpeakerGossip counts the speakers this one knows of, and those it sees alive, itself included.
type SpeakerGossip struct {
	// Speakers known, alive or not.
	Members int32 `json:"members"`

	// Speakers seen alive.
	Alive int32 `json:"alive"`

	// Nodes whose speakers were alive once and are missing.
	//
	// +optional
	// +listType=set
	Missing []string `json:"missing,omitempty"`
}

// SpeakerL2 lists the addresses this speaker answers for.
type SpeakerL2 struct {
	// The addresses, each once for every interface that answers.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +listMapKey=interface
	Addresses []SpeakerL2Address `json:"addresses,omitempty"`

	// Foreign users of addresses that this speaker answers for, or would.
	//
	// +optional
	// +listType=atomic
	Conflicts []SpeakerL2Conflict `json:"conflicts,omitempty"`
}

// SpeakerL2Address is one address, once for each interface that answers.
type SpeakerL2Address struct {
	// The address answered for.
	Address string `json:"address"`

	// The interface that answers.
	Interface string `json:"interface"`

	// Since when it does.
	Since metav1.MicroTime `json:"since"`
}

// SpeakerL2Conflict is somebody else, not a speaker, who uses an address of a Service.
type SpeakerL2Conflict struct {
	// The address in dispute.
	Address string `json:"address"`

	// The interface that the other one was heard on.
	Interface string `json:"interface"`

	// MAC address of the other one, lower-case and separated by colons.
	MAC string `json:"mac"`

	// Since when it is heard.
	Since metav1.MicroTime `json:"since"`
}

// SpeakerBGP lists the BGP sessions of this speaker.
type SpeakerBGP struct {
	// The sessions, one for each BGPPeer that selects the node.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	Sessions []SpeakerBGPSession `json:"sessions,omitempty"`
}

// SpeakerBGPSession is one session with its negotiated values.
type SpeakerBGPSession struct {
	// Name of the BGPPeer.
	Peer string `json:"peer"`

	// Address of the router.
	//
	// +optional
	Address string `json:"address,omitempty"`

	// Address of this node in the session.
	//
	// +optional
	LocalAddress string `json:"localAddress,omitempty"`

	// State of RFC 4271 section 8.2.2: Idle, Connect, Active, OpenSent, OpenConfirm or Established.
	State string `json:"state"`

	// Since when the session is in this state.
	Since metav1.MicroTime `json:"since"`

	// AS number of the cluster in this session.
	//
	// +optional
	LocalASN int64 `json:"localASN,omitempty"`

	// AS number of the router.
	//
	// +optional
	PeerASN int64 `json:"peerASN,omitempty"`

	// Address families negotiated.
	//
	// +optional
	// +listType=atomic
	Families []IPFamily `json:"families,omitempty"`

	// Hold time as negotiated.
	//
	// +optional
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// Prefixes advertised to the router.
	//
	// +optional
	Advertised SpeakerAdvertised `json:"advertised,omitempty"`

	// State of the path to the router as BFD sees it (RFC 5880): AdminDown, Down, Init or Up; absent where it is not watched.
	//
	// +optional
	BFD string `json:"bfd,omitempty"`

	// How long the router keeps our routes while the speaker restarts; absent when it does not.
	//
	// +optional
	GracefulRestart *metav1.Duration `json:"gracefulRestart,omitempty"`

	// Why the session is down, or went down last.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`
}

// SpeakerAdvertised counts the prefixes advertised to a peer.
type SpeakerAdvertised struct {
	// IPv4 prefixes.
	IPv4 int32 `json:"ipv4"`

	// IPv6 prefixes.
	IPv6 int32 `json:"ipv6"`
}

// SpeakerStatusList is a list of SpeakerStatus.
//
// +kubebuilder:object:root=true
type SpeakerStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpeakerStatus `json:"items"`
}
