package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Community gives names to BGP communities, for use in BGPAdvertisements.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,path=communities,categories=herald
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Names",type=string,JSONPath=`.spec.communities[*].name`,description="Names that are given."
// +kubebuilder:printcolumn:name="Values",type=string,JSONPath=`.spec.communities[*].value`,description="What they stand for."
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`,description="Whether the object is in force as it is written."
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,description="Why it is, or is not."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// The names and what they stand for.
	//
	// +required
	Spec CommunitySpec `json:"spec"`

	// What Herald found out about the object. Herald writes it.
	//
	// +optional
	Status ConfigStatus `json:"status,omitempty"`
}

// CommunitySpec lists names and what they stand for.
type CommunitySpec struct {
	// The names, each with the community that it stands for. A name means the same in all objects: of two that give it different
	// values the older counts.
	//
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Communities []CommunityAlias `json:"communities"`
}

// CommunityAlias is a name for a community.
type CommunityAlias struct {
	// The name: letters, digits, "-", "_" and ".", beginning with a letter. Names of well-known communities are taken.
	//
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[A-Za-z][-A-Za-z0-9_.]*$')`,messageExpression=`'"' + self + '" is not a name for a community: names are letters, digits, "-", "_" and ".", and begin with a letter'`
	// +kubebuilder:validation:XValidation:rule=`!(self in ['graceful-shutdown', 'accept-own', 'llgr-stale', 'no-llgr', 'blackhole', 'no-export', 'no-advertise', 'no-export-subconfed', 'local-as', 'no-peer'])`,messageExpression=`'"' + self + '" is the name of a well-known community: choose another'`
	Name string `json:"name"`

	// The community: 65000:100, large:65000:1:2 (RFC 8092), rt:65000:100 or soo:192.0.2.1:100 (extended communities of RFC 4360 and
	// RFC 5668), or the name of a well-known one such as no-export.
	//
	// +required
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule=`(self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(n, int(n) <= 65535)) || (self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.substring(6).split(':').all(n, int(n) <= 4294967295)) || (self.matches('^(rt|soo):[0-9]{1,10}:[0-9]{1,10}$') && int(self.split(':')[1]) <= 4294967295 && int(self.split(':')[2]) <= (int(self.split(':')[1]) <= 65535 ? 4294967295 : 65535)) || (self.matches('^(rt|soo):[0-9.]{7,15}:[0-9]{1,5}$') && isIP(self.split(':')[1]) && int(self.split(':')[2]) <= 65535) || self in ['graceful-shutdown', 'accept-own', 'llgr-stale', 'no-llgr', 'blackhole', 'no-export', 'no-advertise', 'no-export-subconfed', 'local-as', 'no-peer']`,messageExpression=`'"' + self + '" is not a community: write 65000:100, large:65000:1:2, rt:65000:100, soo:65000:100 (numbers up to 65535; in a large one up to 4294967295), or a well-known name such as no-export'`
	Value string `json:"value"`
}

// CommunityOrName is a community, or a name for one.
//
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule=`self.matches('^[A-Za-z][-A-Za-z0-9_.]*$') || (self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(n, int(n) <= 65535)) || (self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.substring(6).split(':').all(n, int(n) <= 4294967295)) || (self.matches('^(rt|soo):[0-9]{1,10}:[0-9]{1,10}$') && int(self.split(':')[1]) <= 4294967295 && int(self.split(':')[2]) <= (int(self.split(':')[1]) <= 65535 ? 4294967295 : 65535)) || (self.matches('^(rt|soo):[0-9.]{7,15}:[0-9]{1,5}$') && isIP(self.split(':')[1]) && int(self.split(':')[2]) <= 65535)`,messageExpression=`'"' + self + '" is neither a community nor a name for one: write 65000:100, large:65000:1:2, rt:65000:100, soo:65000:100 (numbers up to 65535; in a large one up to 4294967295), a well-known name such as no-export, or a name that a Community gives'`
type CommunityOrName string

// CommunityList is a list of Community.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Community `json:"items"`
}
