// Package parse turns Kubernetes objects into a config.Snapshot. It is pure: no clock, no I/O, and equal objects in any order give an equal
// snapshot. Strings and selectors die here: what a person typed is judged once, per object, and what is wrong with one object never
// disables another.
package parse

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Objects is what the API server holds. The objects are only read. Two objects with equal UID and resourceVersion are taken to be equal.
// Lists are whole, but for those of which Changes says otherwise.
type Objects struct {
	Services          []*corev1.Service // of type LoadBalancer, any class
	Left              []*corev1.Service // not of type LoadBalancer (any more), but carrying Herald's status
	EndpointSlices    []*discoveryv1.EndpointSlice
	Nodes             []*corev1.Node
	Pools             []*v1beta1.IPAddressPool
	Reservations      []*v1beta1.IPReservation
	Namespaces        []*metav1.PartialObjectMetadata
	ServiceCIDRs      []*networkingv1.ServiceCIDR
	L2Advertisements  []*v1beta1.L2Advertisement
	Peers             []*v1beta1.BGPPeer
	BGPAdvertisements []*v1beta1.BGPAdvertisement
	BFDProfiles       []*v1beta1.BFDProfile
	Communities       []*v1beta1.Community
	Secrets           []*corev1.Secret // of Herald's own namespace
	SecretsUnread     bool             // Secrets have not been read yet: that one is missing means nothing
	SecretsUnseen     bool             // Secrets are not looked at: each is taken to hold a password
	Speakers          []*v1beta1.SpeakerStatus
	Options           Options
	Now               time.Time // reservations that have ended by now are expired; zero: none is
	Synced            bool      // every source has been listed once
	Changes           Changes
}

// Changes says which lists are not whole: such a list only has what came or changed since the Parse that the Memory is from, and what went
// since is named beside it. That is for the kinds of which there may be thousands. An object that went and came again, or that changed and
// changed back, may be in the list or not.
type Changes struct {
	Services, EndpointSlices, Namespaces             bool // the list is not whole
	GoneServices, GoneEndpointSlices, GoneNamespaces []config.Key
}

// Options says which Services are ours, and for whom the snapshot is.
type Options struct {
	LoadBalancerClass string // empty: Services without a class
	Announcing        bool   // for a speaker: who may have addresses of which pool is not asked
}

// Memory is what Parse learned before: results by object, so that only what changed is parsed again, and the last good version of each
// config object. The zero value knows nothing. Without it the result differs only in what an earlier version decides: last good versions,
// and Services that changed their class.
type Memory struct{ m *memory }

type memory struct {
	options  Options
	services services
	nodes    nodes
	networks networks
	gateways gateways
	around   surroundings
	admitted admission
	speakers map[string]*speakerEntry
	pools    kind[poolSpec]
	reserved kind[reservationSpec]
	peers    kind[peerSpec]
	l2       kind[l2Spec]
	bgp      kind[bgpSpec]
	profiled kind[config.BFDProfile]
	aliased  kind[aliasSpec]
}

func newMemory(o Options) *memory {
	return &memory{
		options: o, services: newServices(o.LoadBalancerClass), speakers: make(map[string]*speakerEntry),
		admitted: newAdmission(),
		pools:    newKind[poolSpec](), reserved: newKind[reservationSpec](), peers: newKind[peerSpec](), l2: newKind[l2Spec](), bgp: newKind[bgpSpec](),
		profiled: newKind[config.BFDProfile](), aliased: newKind[aliasSpec](),
	}
}

// Parse judges all objects together. It takes last over: use only the Memory it returns from then on. Parts of the snapshot that did not
// change are the same pointers as in the snapshot before.
func Parse(in Objects, last Memory) (*config.Snapshot, Memory) {
	m := last.m
	if m == nil || m.options != in.Options {
		m = newMemory(in.Options)
	}
	snap := &config.Snapshot{Synced: in.Synced}
	snap.Nodes = m.nodes.parse(in.Nodes)
	snap.ServiceCIDRs = m.networks.parse(in.ServiceCIDRs)
	m.services.take(in)
	snap.Released = m.services.released(in.Left)
	snap.Speakers = parseSpeakers(m.speakers, in.Speakers)
	m.gateways.update(snap.Speakers)

	w := &world{memory: m, nodes: snap.Nodes, now: in.Now, secrets: make(map[string]*corev1.Secret), secretsUnread: in.SecretsUnread, secretsUnseen: in.SecretsUnseen}
	for _, s := range in.Secrets {
		w.secrets[s.Name] = s
	}
	snap.Pools = w.parsePools(in.Pools)
	snap.Reservations = w.parseReservations(in.Reservations)
	if !in.Options.Announcing {
		m.admitted.setNamespaces(in.Namespaces, in.Changes)
		m.admitted.setScopes(w.scopes)
		m.services.admit(&m.admitted)
		snap.Foreign = w.foreign()
	}
	snap.Services = m.services.list()
	w.parseProfiles(in.BFDProfiles)
	w.parseCommunities(in.Communities)
	snap.Peers = w.parsePeers(in.Peers)
	snap.L2Advertisements = w.parseL2(in.L2Advertisements)
	snap.BGPAdvertisements = w.parseBGP(in.BGPAdvertisements)

	slices.SortFunc(w.objects, func(a, b config.Object) int { return a.Compare(b.Ref) })
	slices.SortFunc(w.problems, compareProblems)
	snap.Objects, snap.Problems = w.objects, w.problems
	return snap, Memory{m}
}

// world is what one Parse knows so far; each kind of config object is judged against those before it.
type world struct {
	*memory
	nodes    []*config.Node
	now      time.Time
	pooled   []poolInForce
	spans    []span // their ranges, sorted; disjoint, as pools in force do not overlap
	scopes   []poolScope
	shares   []shared       // addresses that several Services have; nil until they are asked for
	peers    []*config.Peer // in force
	seen     map[config.Ref]bool
	objects  []config.Object
	problems []config.Problem

	secrets       map[string]*corev1.Secret // by name
	secretsUnread bool
	secretsUnseen bool
	profiles      map[string]*config.BFDProfile // in force, by name
	profiledBy    map[string]string             // by name of the peer in force: its profile, in force or not
	aliases       map[string]alias              // in force, by name
}

// see notes that a config object exists.
func (w *world) see(kind string, o metav1.Object, conditions []metav1.Condition) {
	ref := config.Ref{Kind: kind, Name: o.GetName()}
	if w.seen == nil {
		w.seen = make(map[config.Ref]bool)
	}
	w.seen[ref] = true
	w.objects = append(w.objects, config.Object{Ref: ref, Generation: o.GetGeneration(), Ready: condition(conditions, ReadyType)})
}

// identity is what an object is remembered by: its UID, or its name where there is none (objects from a file).
func identity(o metav1.Object) string {
	if uid := o.GetUID(); uid != "" {
		return string(uid)
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// condition returns a condition as a value, zero when there is none of that type.
func condition(all []metav1.Condition, kind string) config.Condition {
	for i := range all {
		if c := &all[i]; c.Type == kind {
			return config.Condition{Status: string(c.Status), Reason: c.Reason, Message: c.Message, ObservedGeneration: c.ObservedGeneration}
		}
	}
	return config.Condition{}
}
