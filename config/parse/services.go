package parse

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
)

// services remembers the Services of type LoadBalancer and their endpoints. With ten thousand of them and one changed, only that one is
// looked at; the sorted list of the others is kept, or copied as a whole where a new one takes its place.
type services struct {
	class     string
	round     uint64
	relabels  relabels
	byID      map[string]*serviceEntry
	byKey     map[config.Key]*serviceEntry
	owing     map[*serviceEntry]struct{}     // those with something still to be cleared
	theirs    map[*serviceEntry][]netip.Addr // addresses of those that somebody else serves
	sorted    []*serviceEntry                // ours, by key
	values    []*config.Service              // of sorted; never changed once it is published
	fresh     bool                           // values is not published yet
	stale     []*serviceEntry                // whose value may be another than in values
	unasked   []*serviceEntry                // in this parse: of which it is to be asked who admits them
	answered  uint64                         // which version of the admission all others have an answer of; 0: none
	endpoints endpoints
}

type serviceEntry struct {
	id      string
	key     config.Key
	round   uint64 // of the last whole list in which it was seen
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
		class: class, relabels: relabels{before: 1}, byID: make(map[string]*serviceEntry), byKey: make(map[config.Key]*serviceEntry),
		owing: make(map[*serviceEntry]struct{}), theirs: make(map[*serviceEntry][]netip.Addr), endpoints: newEndpoints(),
	}
}

// take takes in Services and their endpoints.
func (s *services) take(in Objects) {
	dirty := s.endpoints.update(in.EndpointSlices, in.Changes)
	s.update(in.Services, in.Changes, dirty)
	for key := range dirty {
		if e := s.byKey[key]; e != nil && e.ours {
			if eps := s.endpoints.sum(key); !equalEndpoints(e.service.Endpoints, eps) {
				next := *e.service
				next.Endpoints = eps
				s.set(e, &next)
			}
		}
	}
}

// set makes another value that of a Service of ours.
func (s *services) set(e *serviceEntry, next *config.Service) {
	e.service = next
	s.stale = append(s.stale, e)
}

// list returns the Services that are ours, sorted.
func (s *services) list() []*config.Service {
	if len(s.stale) == 0 {
		s.fresh = false
		return s.values
	}
	next := s.values
	if !s.fresh {
		next = slices.Clone(next)
	}
	if len(s.stale) > len(next)/16 {
		for i, e := range s.sorted {
			next[i] = e.service
		}
	} else {
		for _, e := range s.stale {
			if i, ok := s.place(e.key); ok {
				next[i] = s.sorted[i].service
			}
		}
	}
	s.values, s.stale, s.fresh = next, nil, false
	return next
}

// place returns where the Service of a key stands among ours, or where it would stand.
func (s *services) place(key config.Key) (int, bool) {
	return slices.BinarySearchFunc(s.sorted, key, func(e *serviceEntry, k config.Key) int { return e.key.Compare(k) })
}

// update takes in Services of type LoadBalancer: all, or those that changed.
func (s *services) update(objs []*corev1.Service, c Changes, dirty map[config.Key]struct{}) {
	s.round++
	s.unasked = nil
	var gone []config.Key // no longer ours, or no longer there
	var added []*serviceEntry
	for _, key := range c.GoneServices {
		if e := s.byKey[key]; e != nil {
			gone = s.drop(e, gone)
		}
	}
	for _, o := range objs {
		id := identity(o)
		e := s.byID[id]
		if e != nil && e.version == o.ResourceVersion && o.ResourceVersion != "" {
			e.round = s.round
			continue
		}
		if e == nil {
			e = &serviceEntry{id: id, key: keyOf(o)}
			gone = s.enter(e, gone)
		}
		e.round = s.round
		was := e.ours
		s.renew(e, o, dirty)
		switch {
		case e.ours && !was:
			added = append(added, e)
		case was && !e.ours:
			gone = append(gone, e.key)
		}
	}
	if !c.Services && len(s.byID) > len(objs) {
		gone = s.sweep(gone)
	}
	if len(gone)+len(added) > 0 {
		s.reorder(gone, added)
	}
}

// enter takes in a new Service. One of the same name that it follows is gone.
func (s *services) enter(e *serviceEntry, gone []config.Key) []config.Key {
	if old := s.byKey[e.key]; old != nil {
		gone = s.drop(old, gone)
	}
	s.byID[e.id], s.byKey[e.key] = e, e
	return gone
}

// sweep forgets the Services that were not in the list of this round.
func (s *services) sweep(gone []config.Key) []config.Key {
	for _, e := range s.byID {
		if e.round != s.round {
			gone = s.drop(e, gone)
		}
	}
	return gone
}

// drop forgets a Service. It returns the keys of those of ours that are gone, with its own if it was one.
func (s *services) drop(e *serviceEntry, gone []config.Key) []config.Key {
	delete(s.byID, e.id)
	if s.byKey[e.key] == e {
		delete(s.byKey, e.key)
	}
	delete(s.owing, e)
	delete(s.theirs, e)
	if e.ours {
		gone = append(gone, e.key)
	}
	e.ours = false
	return gone
}

// renew parses a Service that is new or changed.
func (s *services) renew(e *serviceEntry, o *corev1.Service, dirty map[config.Key]struct{}) {
	e.version = o.ResourceVersion
	delete(s.owing, e)
	delete(s.theirs, e)
	ours := isOurs(o, s.class)
	if !ours {
		if e.ours {
			e.left = e.service
		}
		e.ours, e.service, e.labels, e.asked = false, nil, nil, nil
		e.owed = owed(o, e.left)
		if e.owed == nil {
			e.left = nil
			if addrs, _ := parseIngress(o); len(addrs) > 0 {
				s.theirs[e] = addrs
			}
		} else {
			s.owing[e] = struct{}{}
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
		s.relabels.add(e.key)
	}
	if e.asked == nil {
		s.unasked = append(s.unasked, e)
	}
	e.ours, e.left, e.owed = true, nil, nil
	s.set(e, next)
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

// reorder makes the sorted lists again: what stays keeps its order, what is added goes between.
func (s *services) reorder(gone []config.Key, added []*serviceEntry) {
	var out []int
	for _, key := range gone {
		s.relabels.add(key)
		if i, ok := s.place(key); ok {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	slices.SortFunc(added, func(a, b *serviceEntry) int { return a.key.Compare(b.key) })
	if s.fresh = len(out)+len(added) > 0; len(out)+len(added) > fewMoves {
		s.remake(out, added)
		return
	}
	values := append(make([]*config.Service, 0, len(s.values)+len(added)), s.values...)
	for _, i := range slices.Backward(out) {
		s.sorted, values = slices.Delete(s.sorted, i, i+1), slices.Delete(values, i, i+1)
	}
	for _, e := range added {
		i, _ := s.place(e.key)
		s.sorted, values = slices.Insert(s.sorted, i, e), slices.Insert(values, i, e.service)
	}
	s.values = values
}

// fewMoves is up to how many Services are moved in or out of a list one by one.
const fewMoves = 16

// remake makes the lists as a whole, without what stands at some places, and with what is added.
func (s *services) remake(out []int, added []*serviceEntry) {
	s.sorted, s.values = without(s.sorted, out), without(s.values, out)
	at := make([]int, len(added))
	fresh := make([]*config.Service, len(added))
	for i, e := range added {
		at[i], _ = s.place(e.key)
		fresh[i] = e.service
	}
	s.sorted, s.values = with(s.sorted, at, added), with(s.values, at, fresh)
}

// without returns a new list that lacks the items at some places, which are sorted.
func without[T any](list []T, at []int) []T {
	if len(at) == 0 {
		return list
	}
	out := make([]T, 0, len(list)-len(at))
	from := 0
	for _, i := range at {
		out = append(out, list[from:i]...)
		from = i + 1
	}
	return append(out, list[from:]...)
}

// with returns a new list that has more items, each before what stands at its place in the old list; the places are sorted.
func with[T any](list []T, at []int, items []T) []T {
	if len(at) == 0 {
		return list
	}
	out := make([]T, 0, len(list)+len(at))
	from := 0
	for k, i := range at {
		out = append(append(out, list[from:i]...), items[k])
		from = i
	}
	return append(out, list[from:]...)
}

// released lists what is to be cleared: of Services that changed their class, and of those that left the type LoadBalancer.
func (s *services) released(left []*corev1.Service) []config.Released {
	var out []config.Released
	for e := range s.owing {
		out = append(out, *e.owed)
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
	s.Move = ParseMove(o.Annotations[MoveAnnotation])
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
