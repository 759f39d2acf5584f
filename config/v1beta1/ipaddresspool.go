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
	Addresses []AddressRange `json:"addresses"`

	// Parts of the pool that are never given to a Service, in the same forms as addresses. A Service that holds one of them
	// keeps it.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	Exclude []AddressRange `json:"exclude,omitempty"`

	// Whether Services that ask for nothing get addresses from this pool. False: an address is given only on request, by
	// address or by pool name.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// Whether IPv4 addresses that end in .0 or .255 are never given to a Service, as some old equipment takes them for
	// network and broadcast addresses whatever the prefix. A Service that holds one keeps it.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Whether no address of this pool is given to a Service for the time being. Services keep what they have.
	//
	// +optional
	Paused bool `json:"paused,omitempty"`

	// The Services that may have addresses of this pool, also when they ask for the pool or for an address by name. Pools
	// that name a Service here come before those that have no serviceAllocation. Default: all Services.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`

	// Most addresses of this pool, of each family, that the Services of one namespace may hold together; an address that
	// several of them share counts once. Default: no limit.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	NamespaceQuota *int32 `json:"namespaceQuota,omitempty"`

	// How long the addresses of a Service that goes are kept for one of the same namespace and name, in whole seconds
	// such as 90s, 30m or 24h, up to 8760h. The IPReservations of Herald's making show what is kept. Default: 0, not at all.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule=`self.size() > 0 && self.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$')`,messageExpression=`'"' + self + '" is not a duration in whole seconds such as 90s, 30m or 24h'`
	// +kubebuilder:validation:XValidation:rule=`self.size() == 0 || !self.matches('^(0|([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?)$') || duration(self) <= duration('8760h')`,message="must not be longer than a year: 8760h"
	RetainFor *metav1.Duration `json:"retainFor,omitempty"`
}

// AddressRange is a CIDR such as 192.0.2.0/24, a range such as 192.0.2.10-192.0.2.20, or one address.
//
// +kubebuilder:validation:MaxLength=96
// +kubebuilder:validation:XValidation:rule=`isCIDR(self) || isIP(self) || (self.matches('^[^- ]+ *- *[^- ]+$') && isIP(self.find('^[^- ]+')) && isIP(self.find('[^- ]+$')))`,messageExpression=`'"' + self + '" is not an address: give a CIDR such as 192.0.2.0/24, a range such as 192.0.2.10-192.0.2.20, or one address; IPv4-mapped IPv6 addresses and zones are not accepted'`
// +kubebuilder:validation:XValidation:rule=`!isCIDR(self) || cidr(self.find('^[^/]+') + (isIP(self.find('^[^/]+')) && ip(self.find('^[^/]+')).family() == 6 ? '/128' : '/32')).containsIP(cidr(self).masked().ip())`,messageExpression=`'"' + self + '" has host bits set: give the network\'s own address, as in 192.0.2.0/24 rather than 192.0.2.1/24'`
// +kubebuilder:validation:XValidation:rule=`!self.matches('^[^- ]+ *- *[^- ]+$') || !isIP(self.find('^[^- ]+')) || !isIP(self.find('[^- ]+$')) || ip(self.find('^[^- ]+')).family() == ip(self.find('[^- ]+$')).family()`,messageExpression=`'"' + self + '" mixes address families: both ends of a range must be IPv4, or both IPv6'`
// +kubebuilder:validation:XValidation:rule=`!self.matches('^[^- ]+ *- *[^- ]+$') || !isIP(self.find('^[^- ]+')) || !isIP(self.find('[^- ]+$')) || ip(self.find('^[^- ]+')).family() != ip(self.find('[^- ]+$')).family() || cidr(self.find('^[^- ]+') + (ip(self.find('^[^- ]+')).family() == 6 ? '/128' : '/32')).containsIP(self.find('[^- ]+$')) || [[0, 16, 32, 48, 64, 80, 96, 112].filter(h, (h < 32 || ip(self.find('^[^- ]+')).family() == 6) && cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring(h / 10 * 2, h / 10 * 2 + 2) + '0123456789'.substring(h % 10, h % 10 + 1)).trim()).containsIP(self.find('[^- ]+$'))).size() * 16 - 16].exists(h, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].exists(l, cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l) / 10 * 2, (h + l) / 10 * 2 + 2) + '0123456789'.substring((h + l) % 10, (h + l) % 10 + 1)).trim()).containsIP(self.find('[^- ]+$')) && !cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l + 1) / 10 * 2, (h + l + 1) / 10 * 2 + 2) + '0123456789'.substring((h + l + 1) % 10, (h + l + 1) % 10 + 1)).trim()).containsIP(self.find('[^- ]+$')) && cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l + 1) / 10 * 2, (h + l + 1) / 10 * 2 + 2) + '0123456789'.substring((h + l + 1) % 10, (h + l + 1) % 10 + 1)).trim()).containsIP(cidr(self.find('^[^- ]+') + '/' + ('   1 2 3 4 5 6 7 8 9101112'.substring((h + l) / 10 * 2, (h + l) / 10 * 2 + 2) + '0123456789'.substring((h + l) % 10, (h + l) % 10 + 1)).trim()).masked().ip())))`,messageExpression=`'"' + self + '" runs backwards: the first address of a range must not be above the last'`
// +kubebuilder:validation:XValidation:rule=`(!isIP(self.find('^[^-/ ]+')) || (ip(self.find('^[^-/ ]+')).isGlobalUnicast() || ip(self.find('^[^-/ ]+')).isLinkLocalUnicast())) && (!self.matches('^[^- ]+ *- *[^- ]+$') || !isIP(self.find('^[^- ]+')) || !isIP(self.find('[^- ]+$')) || (ip(self.find('[^- ]+$')).isGlobalUnicast() || ip(self.find('[^- ]+$')).isLinkLocalUnicast()))`,messageExpression=`'"' + self + '" is not unicast: a Service cannot have a multicast, loopback or unspecified address'`
type AddressRange string

// ServiceAllocation says which Services may have addresses of a pool: those in one of the namespaces that match one of the
// service selectors too.
type ServiceAllocation struct {
	// Order among the pools whose serviceAllocation matches a Service: lower first, and 0 last; equal ones by name.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority int32 `json:"priority,omitempty"`

	// Names of namespaces. A Service must be in one of these, or in one that a namespace selector matches. No names and no
	// selectors: all namespaces.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,messageExpression=`'"' + self + '" is not the name of a namespace'`
	Namespaces []string `json:"namespaces,omitempty"`

	// Selects namespaces by their labels, any of the selectors may match; beside those that are named.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NamespaceSelectors []LabelSelector `json:"namespaceSelectors,omitempty"`

	// Selects Services by their labels; any of the selectors may match. Empty: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`
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
