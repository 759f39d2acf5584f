package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPAdvertisement announces addresses by BGP.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald,shortName=bgpadv
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`,description="Pools named; empty together with an empty list of pool selectors means all."
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`,description="Peers named; empty means all."
// +kubebuilder:printcolumn:name="Communities",type=string,priority=1,JSONPath=`.spec.communities`,description="Communities of the routes."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the advertisement is in force as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Which addresses are announced, by which nodes and to which peers. An empty spec announces everything to every peer.
	//
	// +optional
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`

	// What Herald found out about the object. Herald writes it.
	//
	// +optional
	Status ConfigStatus `json:"status,omitempty"`
}

// BGPAdvertisementSpec says which addresses are announced, by which nodes and to which peers. An empty list selects all.
type BGPAdvertisementSpec struct {
	// Names of the IPAddressPools whose addresses are announced. Empty together with an empty ipAddressPoolSelectors: all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,messageExpression=`'"' + self + '" is not the name of an IPAddressPool: names are lower-case letters, digits, "-" and "."'`
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// Selects IPAddressPools by their labels, in addition to those named; any of the selectors may match.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// Selects the Services whose addresses are announced, by their labels; any of the selectors may match. Empty: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`

	// Selects the nodes that announce, by their labels; any of the selectors may match. Empty: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// Names of the BGPPeers that are told. Empty: all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=128
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')`,messageExpression=`'"' + self + '" is not the name of a BGPPeer: names are lower-case letters, digits, "-" and "."'`
	Peers []string `json:"peers,omitempty"`

	// Length of the IPv4 prefixes that are announced, 1 to 32: addresses in one such prefix are announced as one route, for as
	// long as any of them is. Make sure that nobody else has addresses in it.
	//
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 32",message="must be a prefix length from 1 to 32"
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// Length of the IPv6 prefixes that are announced, 1 to 128, likewise.
	//
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 128",message="must be a prefix length from 1 to 128"
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// LOCAL_PREF of the routes, 0 to 4294967295: routers prefer the greatest. It is told to internal peers only (RFC 4271
	// section 5.1.5). Default: 100.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 4294967295",message="must be a local preference from 0 to 4294967295"
	LocalPref *int64 `json:"localPref,omitempty"`

	// MULTI_EXIT_DISC of the routes, 0 to 4294967295: of routes from one neighbouring AS routers prefer the least. Default: none is told.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 4294967295",message="must be a MED from 0 to 4294967295"
	MED *int64 `json:"med,omitempty"`

	// How often the cluster's AS number is put into the path once more, 0 to 10: routers prefer shorter paths. For external
	// peers only, as an AS does not appear in paths within itself.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 10",message="must be from 0 to 10"
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// Communities of the routes: 65000:100, large:65000:1:2, rt:65000:100 or soo:65000:100 (extended), a well-known name such as
	// no-export, or a name that a Community object gives. Until all names are known, the advertisement is not in force.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=128
	Communities []CommunityOrName `json:"communities,omitempty"`

	// Whether routers are told how many ready endpoints stand behind a route on each node, as a link bandwidth community, so that
	// those that can spread traffic in proportion. It counts for Services with externalTrafficPolicy Local: elsewhere every
	// node leads to all endpoints.
	//
	// +optional
	WeightByEndpoints bool `json:"weightByEndpoints,omitempty"`
}

// BGPAdvertisementList is a list of BGPAdvertisement.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPAdvertisement `json:"items"`
}
