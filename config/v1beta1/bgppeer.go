package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that speakers hold a BGP session with.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald
// +kubebuilder:subresource:status
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              BGPPeerSpec  `json:"spec"`
	Status            ConfigStatus `json:"status,omitempty"`
}

// BGPPeerSpec describes the session.
type BGPPeerSpec struct {
	MyASN   int64 `json:"myASN"`
	PeerASN int64 `json:"peerASN"`
	// PeerAddress of the router, IPv4 or IPv6.
	PeerAddress string `json:"peerAddress"`
	PeerPort    *int32 `json:"peerPort,omitempty"`
	// SourceAddress must be an address of the node; a node that does not have it reports so and opens no session.
	SourceAddress string `json:"sourceAddress,omitempty"`
	// Families to negotiate; the family of the session when empty.
	Families []IPFamily `json:"families,omitempty"`
	// HoldTime is 0 or at least 3s (RFC 4271 section 4.2).
	HoldTime      *metav1.Duration `json:"holdTime,omitempty"`
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// ConnectTime is the time between two attempts to connect.
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`
	// RouterID is the BGP identifier; derived from the node when empty.
	RouterID string `json:"routerID,omitempty"`
	// EBGPMultiHop allows an external peer that is not on a connected subnet.
	EBGPMultiHop  bool                   `json:"ebgpMultiHop,omitempty"`
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`
}

// IPFamily is ipv4 or ipv6.
type IPFamily string

// The families of BGPPeer's spec.families.
const (
	FamilyIPv4 IPFamily = "ipv4"
	FamilyIPv6 IPFamily = "ipv6"
)

// BGPPeerList is a list of BGPPeer.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}
