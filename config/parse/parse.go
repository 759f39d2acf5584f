// Package parse turns Kubernetes objects into a config.Snapshot. It is pure: no clock, no I/O, and equal objects in any order give an equal
// snapshot. Strings and selectors die here: what a person typed is judged once, per object, and what is wrong with one object never
// disables another.
package parse

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Objects is what the API server holds. The objects are only read. Two objects with equal UID and resourceVersion are taken to be equal.
type Objects struct {
	Services          []*corev1.Service // of type LoadBalancer, any class
	Left              []*corev1.Service // not of type LoadBalancer (any more), but carrying Herald's status
	EndpointSlices    []*discoveryv1.EndpointSlice
	Nodes             []*corev1.Node
	Pools             []*v1beta1.IPAddressPool
	L2Advertisements  []*v1beta1.L2Advertisement
	Peers             []*v1beta1.BGPPeer
	BGPAdvertisements []*v1beta1.BGPAdvertisement
	Speakers          []*v1beta1.SpeakerStatus
	Options           Options
	Synced            bool // every source has been listed once
}

// Options says which Services are ours.
type Options struct {
	LoadBalancerClass string // empty: Services without a class
}

// Types of the conditions that Herald writes.
const (
	AllocatedType = "heraldlb.io/Allocated"
	AnnouncedType = "heraldlb.io/Announced"
	ReadyType     = "Ready"
)

// Kinds of config objects, as they stand in config.Ref.
const (
	KindPool             = "IPAddressPool"
	KindL2Advertisement  = "L2Advertisement"
	KindPeer             = "BGPPeer"
	KindBGPAdvertisement = "BGPAdvertisement"
)

// Carries reports whether the Service's status has something that Herald wrote.
func Carries(s *corev1.Service) bool {
	for _, c := range s.Status.Conditions {
		if c.Type == AllocatedType || c.Type == AnnouncedType {
			return true
		}
	}
	return false
}

// Memory is what Parse learned before: results by object, so that only what changed is parsed again, and the last good version of each
// object. The zero value knows nothing.
type Memory struct{ m *memory }

type memory struct{}

// Parse judges all objects together.
func Parse(in Objects, last Memory) (*config.Snapshot, Memory) {
	return &config.Snapshot{Synced: in.Synced}, last
}
