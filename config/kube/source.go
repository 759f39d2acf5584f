package kube

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Role is which daemon a Source serves.
type Role uint8

// The two daemons.
const (
	Controller Role = iota // also reads who may have which addresses, and SpeakerStatus; and finds Services that are no longer ours
	Speaker                // also reads the gossip Service's endpoints and the gossip Secret
)

// SourceOptions says what to watch.
type SourceOptions struct {
	Namespace         string // Herald's own
	LoadBalancerClass string // empty: Services without a class
	Role              Role
	Node              string // Speaker: name of its node, whose SpeakerStatus it writes
	GossipService     string // Speaker: headless Service of all speakers, in Namespace
	GossipSecret      string // Speaker: Secret that holds the gossip key, in Namespace
	GossipKey         string // Speaker: name of the entry in the Secret
	StateDir          string // Speaker: directory for what is read when the API server is away at the next start; it holds Secrets; empty: nowhere
	Log               *slog.Logger
}

// Source watches everything Herald reads. It works without an API server, too: then Snapshot is the last known, or not Synced.
type Source struct {
	opts    SourceOptions
	client  *Client
	changes chan struct{}
	dirty   atomic.Bool
	health  *health
	feeds   []feed
	left    *left

	unsigned atomic.Bool               // passwords may not be read, or might not once
	unsaved  chan struct{}             // something differs from what is kept on disk
	restored atomic.Pointer[time.Time] // what was kept counts, as of then

	services     *table[*corev1.Service]
	slices       *table[*discoveryv1.EndpointSlice]
	nodes        *table[*corev1.Node]
	pools        *table[*v1beta1.IPAddressPool]
	l2Adverts    *table[*v1beta1.L2Advertisement]
	peers        *table[*v1beta1.BGPPeer]
	bgpAdverts   *table[*v1beta1.BGPAdvertisement]
	bfdProfiles  *table[*v1beta1.BFDProfile]
	communities  *table[*v1beta1.Community]
	passwords    *table[*corev1.Secret]                // of BGP sessions, in Namespace
	namespaces   *table[*metav1.PartialObjectMetadata] // Controller only, like the next two: else never fed
	serviceCIDRs *table[*networkingv1.ServiceCIDR]
	reservations *table[*v1beta1.IPReservation]
	speakers     *table[*v1beta1.SpeakerStatus] // Controller: all; Speaker: its own, to see when somebody deletes it
	secrets      *table[*corev1.Secret]         // Speaker only: else never fed

	mu     sync.Mutex // guards what is below
	memory parse.Memory
	last   *config.Snapshot
	expiry *time.Timer // goes off when the next reservation expires; nil when none does
}

// NewSource makes a Source; nothing is watched before Run.
func NewSource(client *Client, opts SourceOptions) *Source {
	s := &Source{
		opts: opts, client: client, changes: make(chan struct{}, 1), unsaved: make(chan struct{}, 1), health: newHealth(opts.Log),
	}
	s.services = newTable(trimService, sameService, s.touch)
	s.slices = newTable(trimSlice(s.isGossip), sameSlice, s.touch)
	s.slices.pick = s.isGossip
	s.nodes = newTable(trimNode, sameNode, s.touch)
	s.pools = newTable(trimObject[*v1beta1.IPAddressPool], samePool, s.touch)
	s.l2Adverts = newTable(trimObject[*v1beta1.L2Advertisement], sameL2Advert, s.touch)
	s.peers = newTable(trimObject[*v1beta1.BGPPeer], samePeer, s.touch)
	s.bgpAdverts = newTable(trimObject[*v1beta1.BGPAdvertisement], sameBGPAdvert, s.touch)
	s.bfdProfiles = newTable(trimObject[*v1beta1.BFDProfile], sameBFDProfile, s.touch)
	s.communities = newTable(trimObject[*v1beta1.Community], sameCommunity, s.touch)
	s.passwords = newTable(trimPassword, sameSecret, s.touch)
	s.health.refused = s.refuse
	s.namespaces = newTable(trimNamespace, sameNamespace, s.touch)
	s.serviceCIDRs = newTable(trimObject[*networkingv1.ServiceCIDR], sameServiceCIDR, s.touch)
	s.reservations = newTable(trimObject[*v1beta1.IPReservation], sameReservation, s.touch)
	s.speakers = newTable(trimObject[*v1beta1.SpeakerStatus], sameSpeaker, s.touch)
	s.secrets = newTable(trimSecret, sameSecret, s.touch)
	s.services.newer = func() { s.dirty.Store(true) } // nothing to act on, but a write must name the version it is made from
	s.left = newLeft(client, opts.Log, s.touch)
	s.feeds = s.makeFeeds()
	return s
}

func (s *Source) makeFeeds() []feed {
	c, h, log := s.client, s.health, s.opts.Log
	feeds := []feed{
		newFeed("services", "spec.type="+string(corev1.ServiceTypeLoadBalancer), c.core.CoreV1().Services(""), s.services, h, log),
		newFeed("endpointslices", "", c.core.DiscoveryV1().EndpointSlices(""), s.slices, h, log),
		newFeed("nodes", "", c.core.CoreV1().Nodes(), s.nodes, h, log),
		newFeed("ipaddresspools", "", c.pools, s.pools, h, log),
		newFeed("l2advertisements", "", c.l2Adverts, s.l2Adverts, h, log),
		newFeed("bgppeers", "", c.peers, s.peers, h, log),
		newFeed("bgpadvertisements", "", c.bgpAdverts, s.bgpAdverts, h, log),
		newFeed("bfdprofiles", "", c.bfdProfiles, s.bfdProfiles, h, log),
		newFeed("communities", "", c.communities, s.communities, h, log),
		newFeed(passwordFeed, "type="+string(parse.PasswordType), c.core.CoreV1().Secrets(s.opts.Namespace), s.passwords, h, log),
	}
	switch s.opts.Role {
	case Controller:
		s.services.gone = s.left.check
		cidrs := optional[*networkingv1.ServiceCIDRList]{ // since Kubernetes 1.33
			c.core.NetworkingV1().ServiceCIDRs(), func() *networkingv1.ServiceCIDRList { return &networkingv1.ServiceCIDRList{} },
		}
		feeds = append(
			feeds,
			newFeed("speakerstatuses", "", c.speakers, s.speakers, h, log),
			newFeed("ipreservations", "", c.reservations, s.reservations, h, log),
			newFeed("namespaces", "", c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("namespaces")), s.namespaces, h, log),
			newFeed("servicecidrs", "", cidrs, s.serviceCIDRs, h, log),
		)
	case Speaker:
		feeds = append(feeds, newFeed("speakerstatuses", "metadata.name="+s.opts.Node, c.speakers, s.speakers, h, log))
		if s.opts.GossipSecret != "" {
			feeds = append(feeds, newFeed("secrets", "metadata.name="+s.opts.GossipSecret, c.core.CoreV1().Secrets(s.opts.Namespace), s.secrets, h, log))
		}
	}
	return feeds
}

// Run watches until ctx ends, then returns nil.
func (s *Source) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, f := range s.feeds {
		wg.Go(func() { f.run(ctx) })
	}
	wg.Go(func() { s.health.run(ctx) })
	wg.Go(func() { s.keepState(ctx) })
	if s.opts.Role == Controller {
		wg.Go(func() { s.left.run(ctx) })
	}
	wg.Wait()
	s.lastState()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.await(time.Time{})
	return nil
}

// Changed tells that Snapshot, Seeds or GossipKey may answer differently than before.
func (s *Source) Changed() <-chan struct{} { return s.changes }

func (s *Source) touch() {
	s.dirty.Store(true)
	signal(s.changes)
	signal(s.unsaved)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Snapshot returns what the cluster asks for now. It is parsed when something changed since the last call; else the same value is returned.
func (s *Source) Snapshot() *config.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty.Swap(false) || s.last == nil {
		s.last, s.memory = parse.Parse(s.changed(), s.memory)
		s.await(firstExpiry(s.last))
	}
	return s.last
}

// firstExpiry returns when the first of the reservations in force ends, zero when none does.
func firstExpiry(in *config.Snapshot) time.Time {
	var first time.Time
	for _, r := range in.Reservations {
		if !r.Expired && !r.ExpiresAt.IsZero() && (first.IsZero() || r.ExpiresAt.Before(first)) {
			first = r.ExpiresAt
		}
	}
	return first
}

// longWait bounds how late an expiry is noticed after the machine slept or its clock was set.
const longWait = 10 * time.Minute

// await sees to it that the snapshot is made anew at that time; zero: not for the sake of time.
func (s *Source) await(when time.Time) {
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	if !when.IsZero() {
		s.expiry = time.AfterFunc(min(time.Until(when), longWait), s.touch)
	}
}

// changed returns what the next Snapshot is made of: of the kinds that are many, only what changed since it was called last. What changes
// meanwhile may be in it or not; then it is in the next. The objects must not be changed.
func (s *Source) changed() parse.Objects {
	in := s.around()
	c := &in.Changes
	var whole [3]bool
	in.Services, c.GoneServices, whole[0] = s.services.drain()
	in.EndpointSlices, c.GoneEndpointSlices, whole[1] = s.slices.drain()
	in.Namespaces, c.GoneNamespaces, whole[2] = s.namespaces.drain()
	c.Services, c.EndpointSlices, c.Namespaces = !whole[0], !whole[1], !whole[2]
	return in
}

// around returns the objects of the kinds that are few.
func (s *Source) around() parse.Objects {
	synced := s.synced() // before the lists, which can only be more complete by then
	announcing := s.opts.Role == Speaker
	var speakers []*v1beta1.SpeakerStatus
	if !announcing {
		speakers = s.speakers.list()
	}
	return parse.Objects{
		ServiceCIDRs:      s.serviceCIDRs.list(),
		Reservations:      s.reservations.list(),
		Left:              s.left.list(s.services),
		Nodes:             s.nodes.list(),
		Pools:             s.pools.list(),
		L2Advertisements:  s.l2Adverts.list(),
		Peers:             s.peers.list(),
		BGPAdvertisements: s.bgpAdverts.list(),
		BFDProfiles:       s.bfdProfiles.list(),
		Communities:       s.communities.list(),
		Secrets:           s.passwords.list(),
		SecretsUnread:     !s.passwords.hasSynced(),
		Speakers:          speakers,
		Options:           parse.Options{LoadBalancerClass: s.opts.LoadBalancerClass, Announcing: announcing},
		Now:               time.Now(),
		Synced:            synced,
	}
}

// passwordFeed is what the feed of the Secrets with passwords is called, in the log too.
const passwordFeed = "secrets of type " + string(parse.PasswordType)

// synced reports whether every resource that goes into a Snapshot has been listed. ServiceCIDRs only give warnings, so nothing waits for
// them; and where passwords may not be read, only the peers that need one go without.
func (s *Source) synced() bool {
	return s.services.hasSynced() && s.slices.hasSynced() && s.nodes.hasSynced() && s.pools.hasSynced() && s.l2Adverts.hasSynced() &&
		s.peers.hasSynced() && s.bgpAdverts.hasSynced() && s.bfdProfiles.hasSynced() && s.communities.hasSynced() &&
		(s.passwords.hasSynced() || s.unsigned.Load()) &&
		(s.opts.Role != Controller || s.speakers.hasSynced() && s.reservations.hasSynced() && s.namespaces.hasSynced())
}

// refuse notes that a resource may not be read: for passwords nothing waits then.
func (s *Source) refuse(resource string) {
	if resource == passwordFeed && !s.unsigned.Swap(true) {
		s.touch()
	}
}

// Err says what cannot be read now, nil when everything is being watched. While it is not nil, Snapshot may be out of date.
func (s *Source) Err() error { return s.health.err() }

// Seeds returns the addresses of the speakers as the gossip Service's EndpointSlices give them, sorted; ready or not, as gossip is what
// finds out who is alive.
func (s *Source) Seeds() []netip.Addr {
	var seeds []netip.Addr
	for _, slice := range s.slices.picked() {
		for _, ep := range slice.Endpoints {
			for _, text := range ep.Addresses {
				if a, err := netip.ParseAddr(text); err == nil {
					seeds = append(seeds, a.Unmap())
				}
			}
		}
	}
	slices.SortFunc(seeds, netip.Addr.Compare)
	return slices.Compact(seeds)
}

func (s *Source) isGossip(slice *discoveryv1.EndpointSlice) bool {
	return s.opts.GossipService != "" && slice.Namespace == s.opts.Namespace &&
		slice.Labels[discoveryv1.LabelServiceName] == s.opts.GossipService
}

// GossipKey returns the key from the gossip Secret, nil while there is none.
func (s *Source) GossipKey() []byte {
	secret, ok := s.secrets.get(config.Key{Namespace: s.opts.Namespace, Name: s.opts.GossipSecret})
	if !ok {
		return nil
	}
	return slices.Clone(secret.Data[s.opts.GossipKey])
}
