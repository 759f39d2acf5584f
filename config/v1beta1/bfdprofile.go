package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BFDProfile says how the paths to routers are watched by BFD (RFC 5880), for use in BGPPeers: a path that fails takes the session down
// within about receiveInterval times detectMultiplier.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=herald
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Receive",type=integer,JSONPath=`.spec.receiveInterval`,description="Least time between packets from the router, in milliseconds."
// +kubebuilder:printcolumn:name="Transmit",type=integer,JSONPath=`.spec.transmitInterval`,description="Least time between packets to the router, in milliseconds."
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`,description="Packets in a row that may be missing."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the profile is in force as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// How paths are watched. An empty spec does so three times in 900 ms.
	//
	// +optional
	Spec BFDProfileSpec `json:"spec,omitempty"`

	// What Herald found out about the object. Herald writes it.
	//
	// +optional
	Status ConfigStatus `json:"status,omitempty"`
}

// BFDProfileSpec says how paths are watched.
type BFDProfileSpec struct {
	// Least time between two packets that the router is asked to keep to, in milliseconds, 10 to 60000. Below 50 a busy node may
	// take a path for dead that is not.
	//
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:XValidation:rule="self >= 10 && self <= 60000",message="must be from 10 to 60000 milliseconds"
	ReceiveInterval *int32 `json:"receiveInterval,omitempty"`

	// Least time between two packets to the router, in milliseconds, 10 to 60000. The slower of this and what the router asks for counts.
	//
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:XValidation:rule="self >= 10 && self <= 60000",message="must be from 10 to 60000 milliseconds"
	TransmitInterval *int32 `json:"transmitInterval,omitempty"`

	// How many packets in a row may be missing, 2 to 255; the router is told to judge us by it.
	//
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:XValidation:rule="self >= 2 && self <= 255",message="must be from 2 to 255 packets"
	DetectMultiplier *int32 `json:"detectMultiplier,omitempty"`

	// Whether to wait for the router to speak first.
	//
	// +optional
	PassiveMode bool `json:"passiveMode,omitempty"`

	// Least time to live of packets that are believed, 1 to 254, where the router may be several hops away (ebgpMultiHop; over one
	// hop it is always 255). Default: any.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 254",message="must be from 1 to 254"
	MinimumTTL *int32 `json:"minimumTtl,omitempty"`
}

// BFDProfileList is a list of BFDProfile.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BFDProfile `json:"items"`
}
