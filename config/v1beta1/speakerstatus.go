package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SpeakerStatus is what the speaker of one node reports: it has the node's name and is owned by the Node.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald
// +kubebuilder:subresource:status
type SpeakerStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            SpeakerStatusStatus `json:"status,omitempty"`
}

// SpeakerStatusStatus is the report.
type SpeakerStatusStatus struct {
	Version    string             `json:"version,omitempty"`
	StartedAt  *metav1.Time       `json:"startedAt,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	Interfaces []SpeakerInterface `json:"interfaces,omitempty"`
	Gossip     *SpeakerGossip     `json:"gossip,omitempty"`
	L2         *SpeakerL2         `json:"l2,omitempty"`
	BGP        *SpeakerBGP        `json:"bgp,omitempty"`
}

// SpeakerInterface is a network interface that may announce.
type SpeakerInterface struct {
	Name    string   `json:"name"`
	MAC     string   `json:"mac,omitempty"`
	Up      bool     `json:"up"`
	Subnets []string `json:"subnets,omitempty"`
}

// SpeakerGossip counts the speakers this one knows of, and those it sees alive, itself included.
type SpeakerGossip struct {
	Members int32 `json:"members"`
	Alive   int32 `json:"alive"`
}

// SpeakerL2 lists the addresses this speaker answers for.
type SpeakerL2 struct {
	Addresses []SpeakerL2Address `json:"addresses,omitempty"`
}

// SpeakerL2Address is one address, once for each interface that answers.
type SpeakerL2Address struct {
	Address   string           `json:"address"`
	Interface string           `json:"interface"`
	Since     metav1.MicroTime `json:"since"`
}

// SpeakerBGP lists the BGP sessions of this speaker.
type SpeakerBGP struct {
	Sessions []SpeakerBGPSession `json:"sessions,omitempty"`
}

// SpeakerBGPSession is one session with its negotiated values.
type SpeakerBGPSession struct {
	// Peer is the name of the BGPPeer.
	Peer         string           `json:"peer"`
	Address      string           `json:"address,omitempty"`
	LocalAddress string           `json:"localAddress,omitempty"`
	State        string           `json:"state"`
	Since        metav1.MicroTime `json:"since"`
	LocalASN     int64            `json:"localASN,omitempty"`
	PeerASN      int64            `json:"peerASN,omitempty"`
	Families     []IPFamily       `json:"families,omitempty"`
	// HoldTime as negotiated.
	HoldTime   *metav1.Duration  `json:"holdTime,omitempty"`
	Advertised SpeakerAdvertised `json:"advertised,omitempty"`
	LastError  string            `json:"lastError,omitempty"`
}

// SpeakerAdvertised counts the prefixes advertised to a peer.
type SpeakerAdvertised struct {
	IPv4 int32 `json:"ipv4"`
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
