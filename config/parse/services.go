package parse

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
)

// services remembers the Services of type LoadBalancer and their endpoints. With ten thousand of them and one changed, only that one is
// parsed, and the sorted list of the others is kept.
type services struct {
	class     string
	round     uint64
	epoch     uint64 // counts changes of which Services are ours and of their labels
	byID      map[string]*serviceEntry
	byKey     map[config.Key]*serviceEntry // ours
	sorted    []*serviceEntry              // ours, by key
	endpoints endpoints
}

type serviceEntry struct {
	id      string
	round   uint64 // in which it was seen last
	version string
	ours    bool
	labels  labels.Set
	service *config.Service  // ours only
	asked   *namespaceEntry  // that was asked last who admits the Service, nil to ask again
	stamp   uint64           // of its answer
	left    *config.Service  // as it was when it stopped being ours; nil if it never was, or somebody else has taken its status over
	owed    *config.Released // what is still to be cleared of it
}

func newServices(class string) services {
	return services{
		class: class, epoch: 1, byID: make(map[string]*serviceEntry), byKey: make(map[config.Key]*serviceEntry), endpoints: newEndpoints(),
	}
}

// take takes in all Services and their endpoints.
func (s *services) take(objs []*corev1.Service, slicesOf []*discoveryv1.EndpointSlice) {
	dirty := s.endpoints.update(slicesOf)
	s.update(objs, dirty)
	for key := range dirty {
		if e := s.byKey[key]; e != nil {
			if eps := s.endpoints.sum(key); !equalEndpoints(e.service.Endpoints, eps) {
				next := *e.service
				next.Endpoints = eps
				e.service = &next
			}
		}
	}
}

// list returns the Services that are ours, sorted.
func (s *services) list() []*config.Service {
	out := make([]*config.Service, len(s.sorted))
	for i, e := range s.sorted {
		out[i] = e.service
	}
	return out
}

// update takes in all Services of type LoadBalancer.
func (s *services) update(objs []*corev1.Service, dirty map[config.Key]struct{}) {
	s.round++
	var added []*serviceEntry
	reorder := false
	for _, o := range objs {
		id := identity(o)
		e := s.byID[id]
		if e != nil && e.version == o.ResourceVersion && o.ResourceVersion != "" {
			e.round = s.round
			continue
		}
		if e == nil {
			e = &serviceEntry{id: id}
			s.byID[id] = e
		}
		e.round = s.round
		was := e.ours
		s.renew(e, o, dirty)
		switch {
		case e.ours && !was:
			added = append(added, e)
		case was && !e.ours:
			reorder = true
		}
	}
	if len(s.byID) > len(objs) {
		reorder = s.drop() || reorder
	}
	if reorder || len(added) > 0 {
		s.reorder(added)
	}
}

// drop forgets the Services that were not seen in this round. It reports whether one of them was ours.
func (s *services) drop() bool {
	ours := false
	for id, e := range s.byID {
		if e.round != s.round {
			delete(s.byID, id)
			ours = ours || e.ours
			e.ours = false
		}
	}
	return ours
}

// renew parses a Service that is new or changed.
func (s *services) renew(e *serviceEntry, o *corev1.Service, dirty map[config.Key]struct{}) {
	e.version = o.ResourceVersion
	ours := isOurs(o, s.class)
	if !ours {
		if e.ours {
			e.left = e.service
		}
		e.ours, e.service, e.labels, e.asked = false, nil, nil, nil
		e.owed = owed(o, e.left)
		if e.owed == nil {
			e.left = nil
		}
		return
	}
	next := parseService(o)
	if e.service != nil {
		next.Endpoints, next.Admitted, next.Waiting = e.service.Endpoints, e.service.Admitted, e.service.Waiting
	}
	dirty[next.Key] = struct{}{}
	if !e.ours || !maps.Equal(e.labels, o.Labels) {
		e.labels, e.asked = maps.Clone(o.Labels), nil
		s.epoch++
	}
	e.ours, e.service, e.left, e.owed = true, next, nil, nil
}

// owed returns what is to be cleared of a Service that is not of our class any more. Only what still looks as it did when it was ours
// counts: otherwise another installation of Herald has taken it over.
func owed(o *corev1.Service, was *config.Service) *config.Released {
	if was == nil || !Carries(o) {
		return nil
	}
	addrs, _ := parseIngress(o)
	if !slices.Equal(addrs, was.Ingress) || condition(o.Status.Conditions, AllocatedType) != was.Allocated ||
		condition(o.Status.Conditions, AnnouncedType) != was.Announced {
		return nil
	}
	return &config.Released{Key: was.Key, UID: was.UID, Ingress: addrs}
}

// reorder makes the sorted list again: what was there and still is ours keeps its order, what is added goes between.
func (s *services) reorder(added []*serviceEntry) {
	s.epoch++
	kept := slices.DeleteFunc(s.sorted, func(e *serviceEntry) bool { return !e.ours })
	byKey := func(a, b *serviceEntry) int { return a.service.Compare(b.service.Key) }
	slices.SortFunc(added, byKey)
	next := make([]*serviceEntry, 0, len(kept)+len(added))
	for len(kept) > 0 && len(added) > 0 {
		if byKey(kept[0], added[0]) < 0 {
			next, kept = append(next, kept[0]), kept[1:]
		} else {
			next, added = append(next, added[0]), added[1:]
		}
	}
	s.sorted = append(append(next, kept...), added...)
	clear(s.byKey)
	for _, e := range s.sorted {
		s.byKey[e.service.Key] = e
	}
}

// each calls yield for every Service that is ours.
func (s *services) each(yield func(config.Key, labels.Set)) {
	for _, e := range s.sorted {
		yield(e.service.Key, e.labels)
	}
}

// released lists what is to be cleared: of Services that changed their class, and of those that left the type LoadBalancer.
func (s *services) released(left []*corev1.Service) []config.Released {
	var out []config.Released
	if len(s.byID) > len(s.sorted) {
		for _, e := range s.byID {
			if e.owed != nil {
				out = append(out, *e.owed)
			}
		}
	}
	for _, o := range left {
		if o.Spec.Type != corev1.ServiceTypeLoadBalancer && Carries(o) {
			addrs, _ := parseIngress(o)
			out = append(out, config.Released{Key: keyOf(o), UID: string(o.UID), Ingress: addrs})
		}
	}
	slices.SortFunc(out, func(a, b config.Released) int { return cmp.Or(a.Compare(b.Key), strings.Compare(a.UID, b.UID)) })
	return out
}

func keyOf(o *corev1.Service) config.Key { return config.Key{Namespace: o.Namespace, Name: o.Name} }

// isOurs reports whether a Service is of type LoadBalancer and of our class.
func isOurs(o *corev1.Service, class string) bool {
	has := ""
	if o.Spec.LoadBalancerClass != nil {
		has = *o.Spec.LoadBalancerClass
	}
	return o.Spec.Type == corev1.ServiceTypeLoadBalancer && has == class
}

// Carries reports whether the Service's status has something that Herald wrote.
func Carries(o *corev1.Service) bool {
	return condition(o.Status.Conditions, AllocatedType).Status != "" || condition(o.Status.Conditions, AnnouncedType).Status != ""
}

func parseService(o *corev1.Service) *config.Service {
	s := &config.Service{
		Key: keyOf(o), UID: string(o.UID), Version: o.ResourceVersion, Created: o.CreationTimestamp.Time, Deleting: o.DeletionTimestamp != nil,
		Families: families(o), FamilyPolicy: familyPolicy(o), Ports: ports(o),
		SharingKey: annotation(o.Annotations, sharingAnnotation), Backend: backend(o),
		Allocated: condition(o.Status.Conditions, AllocatedType), Announced: condition(o.Status.Conditions, AnnouncedType),
	}
	if o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.TrafficPolicy = config.Local
	}
	s.Request = parseRequest(o, s.Families)
	s.Ingress, s.ForeignStatus = parseIngress(o)
	return s
}

// families returns spec.ipFamilies; where that is not set (objects from a file), the families of the cluster IPs, else IPv4.
func families(o *corev1.Service) []config.Family {
	var out []config.Family
	for _, f := range o.Spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			out = append(out, config.IPv4)
		case corev1.IPv6Protocol:
			out = append(out, config.IPv6)
		}
	}
	if out == nil {
		for _, ip := range o.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				out = append(out, config.FamilyOf(a))
			}
		}
	}
	if out == nil {
		out = []config.Family{config.IPv4}
	}
	return out
}

func familyPolicy(o *corev1.Service) config.FamilyPolicy {
	if o.Spec.IPFamilyPolicy == nil {
		return config.SingleStack
	}
	switch *o.Spec.IPFamilyPolicy {
	case corev1.IPFamilyPolicyPreferDualStack:
		return config.PreferDualStack
	case corev1.IPFamilyPolicyRequireDualStack:
		return config.RequireDualStack
	}
	return config.SingleStack
}

func ports(o *corev1.Service) []config.Port {
	var out []config.Port
	for _, p := range o.Spec.Ports {
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = string(corev1.ProtocolTCP)
		}
		out = append(out, config.Port{Protocol: protocol, Port: uint16(p.Port)})
	}
	slices.SortFunc(out, func(a, b config.Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// backend writes the selector so that two Services with the same endpoints have the same text. Neither a namespace nor a label can
// contain the separators.
func backend(o *corev1.Service) string {
	if len(o.Spec.Selector) == 0 {
		return ""
	}
	return o.Namespace + "?" + labels.Set(o.Spec.Selector).String()
}

// parseIngress returns the addresses in the status, and whether it holds something that Herald never writes.
func parseIngress(o *corev1.Service) (addrs []netip.Addr, foreign bool) {
	for _, i := range o.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(i.IP)
		if err != nil || i.Hostname != "" || i.IPMode != nil && *i.IPMode != corev1.LoadBalancerIPModeVIP {
			foreign = true
		}
		if err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs, foreign
}
