package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that Services of type LoadBalancer may be given.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald,shortName=ippool
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`,description="What the pool holds."
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`,description="Whether Services that ask for nothing get addresses from here."
// +kubebuilder:printcolumn:name="IPv4 used",type=integer,JSONPath=`.status.ipv4.assigned`,description="IPv4 addresses that Services hold."
// +kubebuilder:printcolumn:name="IPv4 free",type=integer,JSONPath=`.status.ipv4.available`,description="IPv4 addresses that a Service can still get."
// +kubebuilder:printcolumn:name="IPv6 used",type=integer,JSONPath=`.status.ipv6.assigned`,description="IPv6 addresses that Services hold."
// +kubebuilder:printcolumn:name="IPv6 free",type=integer,JSONPath=`.status.ipv6.available`,description="IPv6 addresses that a Service can still get."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the pool is in force as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What the pool holds and who may have it.
	//
	// +required
	Spec IPAddressPoolSpec `json:"spec"`

	// How much of the pool is used. Herald writes it.
	//
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec says which addresses the pool holds and who may have them.
type IPAddressPoolSpec struct {
	// The addresses of the pool. Each entry is a CIDR such as 192.0.2.0/24 or 2001:db8::/64, a range such as
	// 192.0.2.10-192.0.2.20 whose ends belong to it, or one address. Both families may stand in one pool. No address may
	// stand in two pools, nor twice in one.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=96
	// +kubebuilder:validation:items:XValidation:rule=`isCIDR(self) || isIP(self) || (self.matches('^[^- ]+ *- *[^- ]+$') && isIP(self.find('^[^- ]+')) && isIP(self.find('[^- ]+$')))`,messageExpression=`'"' + self + '" is not an address: give a CIDR such as 192.0.2.0/24, a range such as 192.0.2.10-192.0.2.20, or one address; IPv4-mapped IPv6 addresses and zones are not accepted'`
	// +kubebuilder:validation:items:XValidation:rule=`!isCIDR(self) || cidr(self.find('^[^/]+') + (isIP(self.find('^[^/]+')) && ip(self.find('^[^/]+')).family() == 6 ? '/128' : '/32')).containsIP(cidr(self).masked().ip())`,messageExpression=`'"' + self + '" has host bits set: give the network\'s own address, as in 192.0.2.0/24 rather than 192.0.2.1/24'`
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^[^- ]+ *- *[^- ]+$') || !isIP(self.find('^[^- ]+')) || !isIP(self.find('[^- ]+$')) || ip(self.find('^[^- ]+')).family() == ip(self.find('[^- ]+$')).family()`,messageExpression=`'"' + self + '" mixes address families: both ends of a range must be IPv4, or both IPv6'`
	// +kubebuilder:validation:items:XValidation:rule=`!self.matches('^[^- ]+ *- *[^- ]+$') || !isIP(self.find('^[^- ]+')) || !isIP(self.find('[^- ]+$')) || ip(self.find('^[^- ]+')).family() != ip(self.find('[^- ]+$')).family() || cidr(self.find('^[^- ]+') + (ip(self.find('^[^- ]+')).family() == 6 ? '/128' : '/32')).containsIP(self.find('[^- ]+$')) || [[0, 16, 32, 48, 64, 80, 96, 112].filter(h, (h < 32 || ip(self.find('^[^- ]+')).family() == 6) && cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring(h / 10 * 2, h / 10 * 2 + 2) + '0123456789'.substring(h % 10, h % 10 + 1)).trim()).containsIP(self.find('[^- ]+$'))).size() * 16 - 16].exists(h, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].exists(l, cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l) / 10 * 2, (h + l) / 10 * 2 + 2) + '0123456789'.substring((h + l) % 10, (h + l) % 10 + 1)).trim()).containsIP(self.find('[^- ]+$')) && !cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l + 1) / 10 * 2, (h + l + 1) / 10 * 2 + 2) + '0123456789'.substring((h + l + 1) % 10, (h + l + 1) % 10 + 1)).trim()).containsIP(self.find('[^- ]+$')) && cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l + 1) / 10 * 2, (h + l + 1) / 10 * 2 + 2) + '0123456789'.substring((h + l + 1) % 10, (h + l + 1) % 10 + 1)).trim()).containsIP(cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l) / 10 * 2, (h + l) / 10 * 2 + 2) + '0123456789'.substring((h + l) % 10, (h + l) % 10 + 1)).trim()).masked().ip())))`,messageExpression=`'"' + self + '" runs backwards: the first address of a range must not be above the last'`
	// +kubebuilder:validation:items:XValidation:rule=`(!isIP(self.find('^[^-/ ]+')) || (ip(self.find('^[^-/ ]+')).isGlobalUnicast() || ip(self.find('^[^-/ ]+')).isLinkLocalUnicast())) && (!self.matches('^[^- ]+ *- *[^- ]+$') || !isIP(self.find('^[^- ]+')) || !isIP(self.find('[^- ]+$')) || (ip(self.find('[^- ]+$')).isGlobalUnicast() || ip(self.find('[^- ]+$')).isLinkLocalUnicast()))`,messageExpression=`'"' + self + '" is not unicast: a Service cannot have a multicast, loopback or unspecified address'`
	Addresses []string `json:"addresses"`

	// Whether Services that ask for nothing get addresses from this pool. False: an address is given only on request, by
	// address or by pool name.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`
}

// IPAddressPoolStatus is the usage of the pool.
type IPAddressPoolStatus struct {
	// Usage of the IPv4 addresses.
	//
	// +optional
	IPv4 PoolCounts `json:"ipv4,omitempty"`

	// Usage of the IPv6 addresses.
	//
	// +optional
	IPv6 PoolCounts `json:"ipv6,omitempty"`

	// Ready tells whether the pool is in force as it is written, and if not, why.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PoolCounts counts addresses of one family; counts saturate at 2^63-1.
type PoolCounts struct {
	// Addresses of the pool.
	Total int64 `json:"total"`
	// Addresses that Services hold.
	Assigned int64 `json:"assigned"`
	// Addresses that a Service can still get.
	Available int64 `json:"available"`
	// Addresses kept for somebody, held by no Service.
	Reserved int64 `json:"reserved"`
}

// IPAddressPoolList is a list of IPAddressPool.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
