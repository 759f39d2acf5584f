package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that speakers hold a BGP session with. The speaker opens the session; it does not listen.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`,description="Address of the router."
// +kubebuilder:printcolumn:name="ASN",type=integer,JSONPath=`.spec.peerASN`,description="AS number of the router."
// +kubebuilder:printcolumn:name="My ASN",type=integer,JSONPath=`.spec.myASN`,description="AS number of the cluster in this session."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the peer is in force as it is written; SpeakerStatus tells whether sessions are up."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The session: who the router is and how to talk to it.
	//
	// +required
	Spec BGPPeerSpec `json:"spec"`

	// What Herald found out about the object. Herald writes it.
	//
	// +optional
	Status ConfigStatus `json:"status,omitempty"`
}

// BGPPeerSpec describes the session.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()`,message="must be of the same address family as peerAddress",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || !cidr(self.peerAddress + (ip(self.peerAddress).family() == 4 ? '/32' : '/128')).containsIP(ip(self.sourceAddress))`,message="must not be peerAddress itself: it is an address of the node",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule=`!has(self.holdTime) || !has(self.keepaliveTime) || self.holdTime.size() == 0 || !self.holdTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || self.keepaliveTime.size() == 0 || !self.keepaliveTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self.keepaliveTime) < duration(self.holdTime) || (duration(self.holdTime) == duration('0s') && duration(self.keepaliveTime) == duration('0s'))`,message="must be shorter than holdTime (a third of it is usual), and 0 when holdTime is 0",fieldPath=".keepaliveTime"
// +kubebuilder:validation:XValidation:rule=`!has(self.holdTime) || !has(self.keepaliveTime) || self.holdTime.size() == 0 || !self.holdTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || self.keepaliveTime.size() == 0 || !self.keepaliveTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self.keepaliveTime) > duration('0s') || duration(self.holdTime) == duration('0s')`,message="must not be 0 unless holdTime is 0: without keepalives the peer would close the session",fieldPath=".keepaliveTime"
// +kubebuilder:validation:XValidation:rule=`!has(self.ebgpMultiHop) || !self.ebgpMultiHop || self.myASN != self.peerASN`,message="is for external peers: this session is internal (myASN equals peerASN), which may cross routers anyway",fieldPath=".ebgpMultiHop"
type BGPPeerSpec struct {
	// AS number of the cluster in this session, 1 to 4294967295.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 4294967295",message="must be an AS number from 1 to 4294967295"
	MyASN int64 `json:"myASN"`

	// AS number of the router, 1 to 4294967295. Equal to myASN: an internal session (iBGP).
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 4294967295",message="must be an AS number from 1 to 4294967295"
	PeerASN int64 `json:"peerASN"`

	// Address of the router, IPv4 or IPv6.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast()))",messageExpression=`'"' + self + '" is not the unicast address of a router, such as 192.0.2.1 or 2001:db8::1'`
	PeerAddress string `json:"peerAddress"`

	// TCP port of the router.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort *int32 `json:"peerPort,omitempty"`

	// Address that the session is opened from, of the same family as peerAddress. A node that does not have it says so in
	// its SpeakerStatus and opens no session. Default: the kernel chooses.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast()))",messageExpression=`'"' + self + '" is not a unicast address such as 192.0.2.11 or 2001:db8::11'`
	SourceAddress string `json:"sourceAddress,omitempty"`

	// Unicast address families to negotiate: ipv4, ipv6 or both; either may be carried over either transport. Default: the
	// family of peerAddress.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Families []IPFamily `json:"families,omitempty"`

	// How long the session outlives silence of the router, as proposed to it: 0 (for ever, without keepalives) or 3s to
	// 65535s, in whole seconds (RFC 4271 section 4.2). Default: three times keepaliveTime, or 90s if that is not given either.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 90s or 3m'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self) == duration('0s') || (duration(self) >= duration('3s') && duration(self) <= duration('65535s'))`,message="must be 0 or from 3s to 65535s (RFC 4271)"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// Time between two keepalive messages: 1s to 21845s in whole seconds and shorter than holdTime; 0 only with a holdTime
	// of 0. Default: a third of holdTime.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 30s or 1m'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self) == duration('0s') || (duration(self) >= duration('1s') && duration(self) <= duration('21845s'))`,message="must be 0 or from 1s to 21845s"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// Time between two attempts to connect, 1s to 300s in whole seconds.
	//
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 10s or 1m'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || (duration(self) >= duration('1s') && duration(self) <= duration('300s'))`,message="must be from 1s to 300s"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// BGP identifier in the form of an IPv4 address; it must differ between the nodes that talk to one router, so name it
	// only for a peer of one node. Default: derived from the node, and stable.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified()",messageExpression=`'"' + self + '" is not a BGP identifier: give it in the form of an IPv4 address other than 0.0.0.0'`
	RouterID string `json:"routerID,omitempty"`

	// Whether an external router may be more than one hop away. Without it the session to an external router works on a
	// connected subnet only.
	//
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// Selects the nodes that hold this session, by their labels; any of the selectors may match. Empty: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`
}

// IPFamily is ipv4 or ipv6.
//
// +kubebuilder:validation:Enum=ipv4;ipv6
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
