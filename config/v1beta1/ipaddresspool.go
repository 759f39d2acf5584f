package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that Services of type LoadBalancer may be given.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald
// +kubebuilder:subresource:status
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              IPAddressPoolSpec   `json:"spec"`
	Status            IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec says which addresses the pool holds and who may have them.
type IPAddressPoolSpec struct {
	// Addresses as CIDR (192.0.2.0/24), range (192.0.2.10-192.0.2.20) or one address; both families may stand in one pool.
	Addresses []string `json:"addresses"`
	// AutoAssign false: addresses are given only on request, by address or by pool name.
	AutoAssign *bool `json:"autoAssign,omitempty"`
}

// IPAddressPoolStatus is the usage of the pool.
type IPAddressPoolStatus struct {
	IPv4       PoolCounts         `json:"ipv4,omitempty"`
	IPv6       PoolCounts         `json:"ipv6,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PoolCounts counts addresses of one family; counts saturate at 2^63-1.
type PoolCounts struct {
	Total     int64 `json:"total"`
	Assigned  int64 `json:"assigned"`
	Available int64 `json:"available"`
	Reserved  int64 `json:"reserved"`
}

// IPAddressPoolList is a list of IPAddressPool.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
