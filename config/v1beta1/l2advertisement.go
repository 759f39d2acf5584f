package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement announces addresses by ARP (IPv4) and NDP (IPv6): one node answers for each address.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald,shortName=l2adv
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`,description="Pools named; empty together with an empty list of pool selectors means all."
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`,description="Interfaces named; empty means all that are not excluded."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the advertisement is in force as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Which addresses are announced, by which nodes and on which interfaces. An empty spec announces everything everywhere.
	//
	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`

	// What Herald found out about the object. Herald writes it.
	//
	// +optional
	Status ConfigStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec says which addresses are announced, by which nodes and on which interfaces. An empty list selects all.
type L2AdvertisementSpec struct {
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

	// Selects the nodes that may announce, by their labels; any of the selectors may match. Empty: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// The network interfaces that answer, as exact names or as globs: * stands for any characters, ? for one, [a-c] for one
	// of a set, as in bond*. Empty: all interfaces that --exclude-interfaces leaves.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=64
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^([-A-Za-z0-9._*?]|[[]\\^?([A-Za-z0-9._](-[A-Za-z0-9._])?)+[]])+$') && !(self in ['.', '..'])`,messageExpression=`'"' + self + '" is not an interface name or glob: use names such as eth0, or globs such as bond* and eth[0-3]; regular expressions are not accepted'`
	Interfaces []string `json:"interfaces,omitempty"`

	// Nodes that are preferred as owners of addresses: the weights of the selectors that match a node add up, and the nodes with
	// the greatest sum are chosen from. An address that another node has already stays there, unless failbackDelay is given.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// How often addresses are announced again unasked, so that switches do not forget the way to them: with some jitter, in
	// whole seconds from 1s to 24h; 0: only on change. Where several advertisements cover an address the shortest counts.
	//
	// +optional
	// +kubebuilder:default="60s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 60s or 5m'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,2}h)?([0-9]{1,4}m)?([0-9]{1,5}s)?)$') || duration(self) <= duration('24h')`,message="must not be longer than a day: 24h"
	RefreshInterval *metav1.Duration `json:"refreshInterval,omitempty"`

	// When the first choice for an address comes back, how long it has to be up until the address is given back to it, in whole
	// seconds up to 8760h; 0: at once. A move breaks connections, so by default the address stays where it is.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 90s, 5m or 1h'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$') || duration(self) <= duration('8760h')`,message="must not be longer than a year: 8760h"
	FailbackDelay *metav1.Duration `json:"failbackDelay,omitempty"`
}

// PreferredNodeSelector makes nodes more welcome than others.
type PreferredNodeSelector struct {
	// How much the preference counts, 1 to 100.
	//
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 100",message="must be a weight from 1 to 100"
	Weight int32 `json:"weight"`

	// Selects the preferred nodes by their labels.
	//
	// +required
	Preference LabelSelector `json:"preference"`
}

// L2AdvertisementList is a list of L2Advertisement.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}

// ConfigStatus is the status of a kind that has nothing to report but its conditions.
type ConfigStatus struct {
	// Ready tells whether the object is in force as it is written, and if not, why.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
