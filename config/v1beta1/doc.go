// Package v1beta1 holds the types of the API group heraldlb.io/v1beta1. It has no logic: rules about one object are markers here and
// become OpenAPI and CEL in config/crd; rules across objects are judged by config/parse.
//
// +kubebuilder:object:generate=true
// +groupName=heraldlb.io
package v1beta1
