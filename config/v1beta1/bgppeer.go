package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that speakers hold a BGP session with. The speaker opens the session; it does not listen.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Router",type=string,JSONPath=`.spec['peerAddress','interface']`,description="Address of the router, or the interface that it is at the other end of."
// +kubebuilder:printcolumn:name="ASN",type=string,JSONPath=`.spec['peerASN','dynamicASN']`,description="AS number of the router, or which ones it may have."
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
// +kubebuilder:validation:XValidation:rule=`has(self.peerASN) != has(self.dynamicASN)`,message="give either peerASN, or dynamicASN for a router whose AS number is not known beforehand"
// +kubebuilder:validation:XValidation:rule=`has(self.peerAddress) != has(self.interface)`,message="give either peerAddress, or the interface that the router is at the other end of"
// +kubebuilder:validation:XValidation:rule=`!has(self.localASN) || self.localASN != self.myASN`,message="must differ from myASN, which the router sees otherwise",fieldPath=".localASN"
// +kubebuilder:validation:XValidation:rule=`!has(self.localASN) || ((!has(self.peerASN) || (self.peerASN != self.myASN && self.peerASN != self.localASN)) && (!has(self.dynamicASN) || self.dynamicASN == 'external'))`,message="is for external peers: it stands for the cluster's AS there; for an internal session give that AS as myASN",fieldPath=".localASN"
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.interface)`,message="is for peerAddress: the session over an interface is opened from its link-local address",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()`,message="must be of the same address family as peerAddress",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || !cidr(self.peerAddress + (ip(self.peerAddress).family() == 4 ? '/32' : '/128')).containsIP(ip(self.sourceAddress))`,message="must not be peerAddress itself: it is an address of the node",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule=`!has(self.holdTime) || !has(self.keepaliveTime) || self.holdTime.size() == 0 || !self.holdTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || self.keepaliveTime.size() == 0 || !self.keepaliveTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self.keepaliveTime) < duration(self.holdTime) || (duration(self.holdTime) == duration('0s') && duration(self.keepaliveTime) == duration('0s'))`,message="must be shorter than holdTime (a third of it is usual), and 0 when holdTime is 0",fieldPath=".keepaliveTime"
// +kubebuilder:validation:XValidation:rule=`!has(self.holdTime) || !has(self.keepaliveTime) || self.holdTime.size() == 0 || !self.holdTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || self.keepaliveTime.size() == 0 || !self.keepaliveTime.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self.keepaliveTime) > duration('0s') || duration(self.holdTime) == duration('0s')`,message="must not be 0 unless holdTime is 0: without keepalives the peer would close the session",fieldPath=".keepaliveTime"
// +kubebuilder:validation:XValidation:rule=`!has(self.ebgpMultiHop) || !self.ebgpMultiHop || ((!has(self.peerASN) || self.myASN != self.peerASN) && (!has(self.dynamicASN) || self.dynamicASN != 'internal'))`,message="is for external peers: this session is internal (myASN equals peerASN, or dynamicASN is internal), which may cross routers anyway",fieldPath=".ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule=`!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.interface)`,message="is for peerAddress: what is at the other end of an interface is one hop away",fieldPath=".ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule=`!has(self.ttlSecurity) || !self.ttlSecurity || !has(self.ebgpMultiHop) || !self.ebgpMultiHop`,message="excludes ebgpMultiHop: it refuses what comes from further away than a connected subnet",fieldPath=".ttlSecurity"
type BGPPeerSpec struct {
	// AS number of the cluster in this session, 1 to 4294967295.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 4294967295",message="must be an AS number from 1 to 4294967295"
	MyASN int64 `json:"myASN"`

	// AS number of the router, 1 to 4294967295. Equal to myASN: an internal session (iBGP). Either this or dynamicASN.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 4294967295",message="must be an AS number from 1 to 4294967295"
	PeerASN int64 `json:"peerASN,omitempty"`

	// In place of peerASN: internal takes a router with the AS number myASN, external one with any other.
	//
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// AS number that this router sees in place of myASN, in the session and in the paths of routes (what routers call local-as
	// no-prepend replace-as), 1 to 4294967295. For external peers.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 4294967295",message="must be an AS number from 1 to 4294967295"
	LocalASN int64 `json:"localASN,omitempty"`

	// Address of the router, IPv4 or IPv6. Either this or interface.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast()))",messageExpression=`'"' + self + '" is not the unicast address of a router, such as 192.0.2.1 or 2001:db8::1'`
	PeerAddress string `json:"peerAddress,omitempty"`

	// Network interface of the node that the router is at the other end of (BGP unnumbered): it is found by its router
	// advertisements, the session uses link-local addresses, and IPv4 routes have an IPv6 next hop (RFC 8950).
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[-A-Za-z0-9_.@+]{1,15}$') && !(self in ['.', '..'])`,messageExpression=`'"' + self + '" is not the name of a network interface such as eth0'`
	Interface string `json:"interface,omitempty"`

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
	// family of peerAddress; ipv6 for an interface.
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

	// Whether only a router on a connected subnet is believed, as its packets show by their time to live (GTSM, RFC 5082). The
	// router must have it on, too.
	//
	// +optional
	TTLSecurity bool `json:"ttlSecurity,omitempty"`

	// Network device of a VRF that the session is bound to. A node that does not have it says so in its SpeakerStatus.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[-A-Za-z0-9_.@+]{1,15}$') && !(self in ['.', '..'])`,messageExpression=`'"' + self + '" is not the name of a network device such as vrf-blue'`
	VRF string `json:"vrf,omitempty"`

	// Secret with the password that the session is signed with (TCP MD5, RFC 2385). A new password opens the session anew.
	//
	// +optional
	PasswordSecret *SecretReference `json:"passwordSecret,omitempty"`

	// Name of the BFDProfile that says how the path to the router is watched. Default: it is not.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,messageExpression=`'"' + self + '" is not the name of a BFDProfile: names are lower-case letters, digits, "-" and "."'`
	BFDProfile string `json:"bfdProfile,omitempty"`

	// Whether the router keeps routes while the speaker restarts (RFC 4724), and how long.
	//
	// +optional
	// +kubebuilder:default={}
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`

	// Selects the nodes that hold this session, by their labels; any of the selectors may match. Empty: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`
}

// SecretReference names a Secret in Herald's own namespace.
type SecretReference struct {
	// Name of a Secret in Herald's own namespace, of the type kubernetes.io/basic-auth. Its entry password counts.
	//
	// +required
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,messageExpression=`'"' + self + '" is not the name of a Secret: names are lower-case letters, digits, "-" and "."'`
	Name string `json:"name"`
}

// GracefulRestart says what the router does with our routes while the speaker is away.
//
// +kubebuilder:validation:XValidation:rule=`!has(self.enabled) || self.enabled || !has(self.longLivedStaleTime) || !self.longLivedStaleTime.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$') || self.longLivedStaleTime.size() == 0 || duration(self.longLivedStaleTime) == duration('0s')`,message="has no effect without graceful restart: set enabled to true, or leave it out",fieldPath=".longLivedStaleTime"
type GracefulRestart struct {
	// Whether it keeps them. Without it every restart of the speaker takes the routes away for a moment.
	//
	// +optional
	// +kubebuilder:default=true
	Enabled *bool `json:"enabled,omitempty"`

	// How long it keeps them at most, 1s to 4095s in whole seconds (RFC 4724 section 3).
	//
	// +optional
	// +kubebuilder:default="120s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 120s or 5m'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || (duration(self) >= duration('1s') && duration(self) <= duration('4095s'))`,message="must be from 1s to 4095s (RFC 4724)"
	RestartTime *metav1.Duration `json:"restartTime,omitempty"`

	// How long it keeps them after that, as routes of last resort (RFC 9494): up to 16777215s in whole seconds; 0: not at all.
	//
	// +optional
	// +kubebuilder:default="0s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 90s or 24h'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$') || duration(self) <= duration('16777215s')`,message="must not be longer than 16777215s, some 194 days (RFC 9494)"
	LongLivedStaleTime *metav1.Duration `json:"longLivedStaleTime,omitempty"`
}

// DynamicASN is internal or external.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

// The values of BGPPeer's spec.dynamicASN.
const (
	ASNInternal DynamicASN = "internal"
	ASNExternal DynamicASN = "external"
)

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
