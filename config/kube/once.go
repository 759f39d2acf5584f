package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Cluster is everything that concerns Herald in a cluster, read once: for people who look, not for daemons that watch.
type Cluster struct {
	parse.Objects
	Deployments []*appsv1.Deployment // labelled as Herald's, in all namespaces
	DaemonSets  []*appsv1.DaemonSet
	Pods        []*corev1.Pod
	Leases      []*coordinationv1.Lease // that nodes renew
	Proxy       *corev1.ConfigMap       // kube-proxy's configuration where kubeadm puts it; nil when there is none
	Server      string                  // version of the API server, such as v1.31.4; "" when it is not known
	Time        time.Time               // by the API server's clock; zero when it is not known
	Missing     []string                // resources that the API server does not serve: Herald's CRDs are not (all) installed
	Unread      []string                // what else could not be read, with the reason
}

// Where things outside Herald's own namespace are.
const (
	ourLabel       = "app.kubernetes.io/name=herald"
	proxyNamespace = "kube-system"
	proxyConfig    = "kube-proxy"
)

// Read reads all of it, once. An error is about what nothing can be said without: Services, endpoints and Nodes.
func (c *Client) Read(ctx context.Context) (*Cluster, error) {
	r := &reading{out: &Cluster{}}
	g, ctx := errgroup.WithContext(ctx)
	for _, read := range slices.Concat(r.basics(c), r.ours(c), r.around(c)) {
		g.Go(func() error { return read(ctx) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(r.out.Missing)
	slices.Sort(r.out.Unread)
	r.out.Synced, r.out.SecretsUnseen = true, true // passwords are no business of who looks
	r.out.Time = c.clock.now()
	r.out.Now = r.out.Time
	if r.out.Now.IsZero() {
		r.out.Now = time.Now()
	}
	return r.out, nil
}

// reading is a Cluster in the making. Each list in it has one writer.
type reading struct {
	mu  sync.Mutex // guards Missing and Unread
	out *Cluster
}

// basics reads what nothing can be said without.
func (r *reading) basics(c *Client) []func(context.Context) error {
	loadBalancers := metav1.ListOptions{FieldSelector: "spec.type=" + string(corev1.ServiceTypeLoadBalancer)}
	return []func(context.Context) error{
		must("services", take(c.core.CoreV1().Services("").List, loadBalancers, func(l *corev1.ServiceList) { r.out.Services = pointers(l.Items) })),
		must("endpointslices", take(c.core.DiscoveryV1().EndpointSlices("").List, metav1.ListOptions{},
			func(l *discoveryv1.EndpointSliceList) { r.out.EndpointSlices = pointers(l.Items) })),
		must("nodes", take(c.core.CoreV1().Nodes().List, metav1.ListOptions{}, func(l *corev1.NodeList) { r.out.Nodes = pointers(l.Items) })),
	}
}

// ours reads Herald's own kinds.
func (r *reading) ours(c *Client) []func(context.Context) error {
	every := metav1.ListOptions{}
	return []func(context.Context) error{
		r.own("ipaddresspools", take(c.pools.List, every, func(l *v1beta1.IPAddressPoolList) { r.out.Pools = pointers(l.Items) })),
		r.own("ipreservations", take(c.reservations.List, every, func(l *v1beta1.IPReservationList) { r.out.Reservations = pointers(l.Items) })),
		r.own("l2advertisements", take(c.l2Adverts.List, every, func(l *v1beta1.L2AdvertisementList) { r.out.L2Advertisements = pointers(l.Items) })),
		r.own("bgppeers", take(c.peers.List, every, func(l *v1beta1.BGPPeerList) { r.out.Peers = pointers(l.Items) })),
		r.own("bgpadvertisements", take(c.bgpAdverts.List, every, func(l *v1beta1.BGPAdvertisementList) { r.out.BGPAdvertisements = pointers(l.Items) })),
		r.own("bfdprofiles", take(c.bfdProfiles.List, every, func(l *v1beta1.BFDProfileList) { r.out.BFDProfiles = pointers(l.Items) })),
		r.own("communities", take(c.communities.List, every, func(l *v1beta1.CommunityList) { r.out.Communities = pointers(l.Items) })),
		r.own("speakerstatuses", take(c.speakers.List, every, func(l *v1beta1.SpeakerStatusList) { r.out.Speakers = pointers(l.Items) })),
	}
}

// around reads what helps, and what the reader may not be allowed to see.
func (r *reading) around(c *Client) []func(context.Context) error {
	every, labelled := metav1.ListOptions{}, metav1.ListOptions{LabelSelector: ourLabel}
	namespaces := c.metadata.Resource(corev1.SchemeGroupVersion.WithResource("namespaces"))
	return []func(context.Context) error{
		r.may("namespaces", take(namespaces.List, every, func(l *metav1.PartialObjectMetadataList) { r.out.Namespaces = pointers(l.Items) })),
		r.may("servicecidrs", func(ctx context.Context) error {
			err := take(c.core.NetworkingV1().ServiceCIDRs().List, every, func(l *networkingv1.ServiceCIDRList) { r.out.ServiceCIDRs = pointers(l.Items) })(ctx)
			if apierrors.IsNotFound(err) {
				return nil // since Kubernetes 1.33
			}
			return err
		}),
		r.may("deployments", take(c.core.AppsV1().Deployments("").List, labelled, func(l *appsv1.DeploymentList) { r.out.Deployments = pointers(l.Items) })),
		r.may("daemonsets", take(c.core.AppsV1().DaemonSets("").List, labelled, func(l *appsv1.DaemonSetList) { r.out.DaemonSets = pointers(l.Items) })),
		r.may("pods", take(c.core.CoreV1().Pods("").List, labelled, func(l *corev1.PodList) { r.out.Pods = pointers(l.Items) })),
		r.may("leases of nodes", take(c.core.CoordinationV1().Leases(corev1.NamespaceNodeLease).List, every,
			func(l *coordinationv1.LeaseList) { r.out.Leases = pointers(l.Items) })),
		r.may("configuration of kube-proxy", func(ctx context.Context) error {
			have, err := c.core.CoreV1().ConfigMaps(proxyNamespace).Get(ctx, proxyConfig, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			r.out.Proxy = have
			return err
		}),
		r.may("version of the API server", func(context.Context) error {
			v, err := c.core.Discovery().ServerVersion()
			if err == nil {
				r.out.Server = v.GitVersion
			}
			return err
		}),
	}
}

// take makes a list request and hands over what comes.
func take[L any](list func(context.Context, metav1.ListOptions) (L, error), opts metav1.ListOptions, to func(L)) func(context.Context) error {
	return func(ctx context.Context) error {
		l, err := list(ctx, opts)
		if err == nil {
			to(l)
		}
		return err
	}
}

func must(what string, read func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := read(ctx); err != nil {
			return fmt.Errorf("reading %s: %w", what, err)
		}
		return nil
	}
}

// own takes note of a resource that is not there.
func (r *reading) own(resource string, read func(context.Context) error) func(context.Context) error {
	return must(resource, func(ctx context.Context) error {
		err := read(ctx)
		if !apierrors.IsNotFound(err) {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.out.Missing = append(r.out.Missing, resource)
		return nil
	})
}

// may takes note of a failure and goes on.
func (r *reading) may(what string, read func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := read(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.out.Unread = append(r.out.Unread, what+": "+err.Error())
		return nil
	}
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
