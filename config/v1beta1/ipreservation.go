package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPReservation keeps addresses for one Service: no other gets them, and that one does when it asks for nothing else.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald,shortName=ipres
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`,description="What is kept."
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.service.namespace`,description="Namespace of the Service."
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service.name`,description="The Service that it is kept for."
// +kubebuilder:printcolumn:name="Until",type=string,JSONPath=`.spec.expiresAt`,description="When the reservation ends; empty: never."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the reservation is in force as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPReservation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// What is kept, and for whom.
	//
	// +required
	Spec IPReservationSpec `json:"spec"`

	// Whether the reservation is in force. Herald writes it.
	//
	// +optional
	Status IPReservationStatus `json:"status,omitempty"`
}

// IPReservationSpec says which addresses are kept, for whom and how long.
type IPReservationSpec struct {
	// The addresses, one of each family at most, such as 192.0.2.7. They should be in an IPAddressPool: a Service gets
	// addresses of pools only.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule=`isIP(self)`,messageExpression=`'"' + self + '" is not an address such as 192.0.2.7 or 2001:db8::7; IPv4-mapped IPv6 addresses and zones are not accepted'`
	// +kubebuilder:validation:items:XValidation:rule=`!isIP(self) || ip(self).isGlobalUnicast() || ip(self).isLinkLocalUnicast()`,messageExpression=`'"' + self + '" is not unicast: a Service cannot have a multicast, loopback or unspecified address'`
	// +kubebuilder:validation:XValidation:rule=`self.size() < 2 || !isIP(self[0]) || !isIP(self[1]) || ip(self[0]).family() != ip(self[1]).family()`,message="a Service holds one address of each family: give one IPv4 and one IPv6 address, or one address only"
	Addresses []string `json:"addresses"`

	// The Service that the addresses are kept for. It need not exist.
	//
	// +required
	Service ServiceReference `json:"service"`

	// When the reservation ends, such as 2030-01-02T15:04:05Z. A Service that holds an address by then keeps it. Default: never.
	//
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`
}

// ServiceReference names a Service.
type ServiceReference struct {
	// Namespace of the Service.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,messageExpression=`'"' + self + '" is not the name of a namespace'`
	Namespace string `json:"namespace"`

	// Name of the Service.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,messageExpression=`'"' + self + '" is not the name of a Service'`
	Name string `json:"name"`
}

// IPReservationStatus is what became of the reservation.
type IPReservationStatus struct {
	// Ready tells whether the reservation is in force as it is written, and if not, why.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPReservationList is a list of IPReservation.
//
// +kubebuilder:object:root=true
type IPReservationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPReservation `json:"items"`
}
