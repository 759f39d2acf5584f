package parse

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// cluster is a random cluster that changes.
type cluster struct {
	r       *rand.Rand
	version int
	objs    Objects
}

func (c *cluster) meta(ns, name string) metav1.ObjectMeta {
	c.version++
	return metav1.ObjectMeta{
		Namespace: ns, Name: name, UID: types.UID(strconv.Itoa(c.version)), ResourceVersion: strconv.Itoa(c.version),
		CreationTimestamp: metav1.Unix(int64(c.r.IntN(5)), 0), Labels: c.labels(),
	}
}

func (c *cluster) labels() map[string]string {
	return map[string]string{"color": []string{"red", "blue"}[c.r.IntN(2)]}
}

func (c *cluster) name() string { return fmt.Sprintf("o%d", c.r.IntN(6)) }

type kubeObject[T any] interface {
	*T
	metav1.Object
	DeepCopyInto(*T)
}

// churn deletes, replaces, changes or adds one object of a kind. fill writes its contents anew.
func churn[T any, P kubeObject[T]](c *cluster, list []P, ns string, fill func(P)) []P {
	name := c.name()
	for i, o := range list {
		if o.GetName() != name {
			continue
		}
		switch c.r.IntN(4) {
		case 0: // gone
			return append(list[:i:i], list[i+1:]...)
		case 1: // gone and made anew
			list = append(list[:i:i], list[i+1:]...)
		default: // changed
			next := P(new(T))
			o.DeepCopyInto((*T)(next))
			c.version++
			next.SetResourceVersion(strconv.Itoa(c.version))
			next.SetLabels(c.labels())
			fill(next)
			list = append(append(list[:i:i], next), list[i+1:]...)
			return list
		}
		break
	}
	o := P(new(T))
	m := c.meta(ns, name)
	o.SetNamespace(ns)
	o.SetName(name)
	o.SetUID(m.UID)
	o.SetResourceVersion(m.ResourceVersion)
	o.SetCreationTimestamp(m.CreationTimestamp)
	o.SetLabels(m.Labels)
	fill(o)
	return append(slices.Clip(list), o)
}

func (c *cluster) selectors() []v1beta1.LabelSelector {
	switch c.r.IntN(3) {
	case 0:
		return nil
	case 1:
		return []v1beta1.LabelSelector{{MatchLabels: map[string]v1beta1.LabelValue{"color": "red"}}}
	}
	return []v1beta1.LabelSelector{{}}
}

func (c *cluster) selectorOrAll() v1beta1.LabelSelector {
	if list := c.selectors(); len(list) > 0 {
		return list[0]
	}
	return v1beta1.LabelSelector{}
}

func (c *cluster) addr(max int) string { return fmt.Sprintf("192.0.2.%d", c.r.IntN(max)) }

func (c *cluster) step() {
	in := &c.objs
	switch c.r.IntN(9) {
	case 0, 1:
		in.Services = churn(c, in.Services, c.namespace(), func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{"IPv4"}, LoadBalancerIP: c.addr(300)}
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: c.addr(200)}}
			if c.r.IntN(4) == 0 {
				class := "other"
				s.Spec.LoadBalancerClass = &class
			}
		})
	case 2, 3:
		in.EndpointSlices = churn(c, in.EndpointSlices, "ns", func(s *discoveryv1.EndpointSlice) {
			s.Labels = map[string]string{discoveryv1.LabelServiceName: c.name()}
			s.Endpoints = nil
			for range c.r.IntN(4) {
				node, yes, ready := c.name(), true, c.r.IntN(2) == 0
				s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
					NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &yes, Terminating: &yes},
				})
			}
		})
	case 4:
		in.Nodes = churn(c, in.Nodes, "", func(n *corev1.Node) {
			n.Spec.PodCIDRs = []string{c.addr(60) + "/32"}
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: c.addr(60)}}
		})
	case 5:
		in.Pools = churn(c, in.Pools, "", c.fillPool)
	case 6, 7:
		c.stepConfig()
	case 8:
		c.stepAround()
	}
}

func (c *cluster) namespace() string { return []string{"ns", "other", "third"}[c.r.IntN(3)] }

func (c *cluster) fillPool(p *v1beta1.IPAddressPool) {
	p.Spec = v1beta1.IPAddressPoolSpec{
		Addresses: []v1beta1.AddressRange{v1beta1.AddressRange(c.addr(60) + "-" + c.addr(60)), v1beta1.AddressRange(c.addr(200))},
		Exclude:   []v1beta1.AddressRange{v1beta1.AddressRange(c.addr(60) + "-" + c.addr(60))}[:c.r.IntN(2)],
		Paused:    c.r.IntN(2) == 0, AvoidBuggyIPs: c.r.IntN(2) == 0,
	}
	if c.r.IntN(2) == 0 {
		p.Spec.ServiceAllocation = &v1beta1.ServiceAllocation{
			Priority: int32(c.r.IntN(3)), NamespaceSelectors: c.selectors(), ServiceSelectors: c.selectors(),
			Namespaces: []string{c.namespace()}[:c.r.IntN(2)],
		}
	}
}

// stepAround changes what stands around pools.
func (c *cluster) stepAround() {
	in := &c.objs
	switch c.r.IntN(5) {
	case 0, 1:
		in.Reservations = churn(c, in.Reservations, "", func(r *v1beta1.IPReservation) {
			end := metav1.Unix(int64(c.r.IntN(100)), 0)
			r.Spec = v1beta1.IPReservationSpec{
				Addresses: []string{c.addr(60)}, Service: v1beta1.ServiceReference{Namespace: "ns", Name: c.name()},
				ExpiresAt: []*metav1.Time{nil, &end}[c.r.IntN(2)],
			}
		})
	case 2, 3:
		name := c.namespace()
		in.Namespaces = slices.DeleteFunc(slices.Clone(in.Namespaces), func(n *metav1.PartialObjectMetadata) bool { return n.Name == name })
		if c.r.IntN(4) > 0 {
			in.Namespaces = append(in.Namespaces, &metav1.PartialObjectMetadata{ObjectMeta: c.meta("", name)})
		}
	case 4:
		in.ServiceCIDRs = churn(c, in.ServiceCIDRs, "", func(s *networkingv1.ServiceCIDR) { s.Spec.CIDRs = []string{c.addr(60) + "/32"} })
	}
}

func (c *cluster) stepConfig() {
	in := &c.objs
	switch c.r.IntN(6) {
	case 0:
		in.L2Advertisements = churn(c, in.L2Advertisements, "", func(a *v1beta1.L2Advertisement) {
			a.Spec = v1beta1.L2AdvertisementSpec{
				IPAddressPoolSelectors: c.selectors(), ServiceSelectors: c.selectors(), NodeSelectors: c.selectors(),
				Interfaces: [][]string{nil, {"eth0"}, {"["}}[c.r.IntN(3)],
			}
			for range c.r.IntN(3) {
				a.Spec.PreferredNodeSelectors = append(a.Spec.PreferredNodeSelectors, v1beta1.PreferredNodeSelector{
					Weight: int32(c.r.IntN(5)), Preference: c.selectorOrAll(),
				})
			}
			if c.r.IntN(2) == 0 {
				a.Spec.FailbackDelay = &metav1.Duration{Duration: time.Duration(c.r.IntN(2)) * time.Minute}
			}
		})
	case 1:
		in.Peers = churn(c, in.Peers, "", func(p *v1beta1.BGPPeer) {
			p.Spec = v1beta1.BGPPeerSpec{MyASN: int64(c.r.IntN(3)), PeerASN: int64(1 + c.r.IntN(2)), PeerAddress: c.addr(6), NodeSelectors: c.selectors()}
			if c.r.IntN(2) == 0 {
				p.Spec.PasswordSecret = &v1beta1.SecretReference{Name: c.name()}
			}
			if c.r.IntN(2) == 0 {
				p.Spec.BFDProfile = c.name()
			}
		})
	case 2:
		in.BGPAdvertisements = churn(c, in.BGPAdvertisements, "", func(a *v1beta1.BGPAdvertisement) {
			a.Spec = v1beta1.BGPAdvertisementSpec{IPAddressPools: []string{c.name()}[:c.r.IntN(2)], Peers: []string{c.name()}[:c.r.IntN(2)], ServiceSelectors: c.selectors()}
			if c.r.IntN(2) == 0 {
				a.Spec.LocalPref, a.Spec.MED = new(int64(c.r.IntN(2))), new(int64(c.r.IntN(2)))
			}
			if c.r.IntN(2) == 0 {
				a.Spec.AggregationLength = new([]int32{24, 30, 33}[c.r.IntN(3)])
			}
			if c.r.IntN(2) == 0 {
				a.Spec.Communities = []v1beta1.CommunityOrName{"1:2", v1beta1.CommunityOrName(c.name())}
			}
		})
	case 3:
		in.BFDProfiles = churn(c, in.BFDProfiles, "", func(p *v1beta1.BFDProfile) {
			p.Spec = v1beta1.BFDProfileSpec{DetectMultiplier: new(int32(1 + c.r.IntN(3))), MinimumTTL: []*int32{nil, new(int32(9))}[c.r.IntN(2)]}
		})
	case 4:
		in.Communities = churn(c, in.Communities, "", func(o *v1beta1.Community) {
			o.Spec.Communities = nil
			for range 1 + c.r.IntN(2) {
				o.Spec.Communities = append(o.Spec.Communities, v1beta1.CommunityAlias{Name: c.name(), Value: []string{"7:7", "8:8", "no"}[c.r.IntN(3)]})
			}
		})
	case 5:
		in.Secrets = churn(c, in.Secrets, "herald", func(s *corev1.Secret) {
			s.Type = []corev1.SecretType{corev1.SecretTypeBasicAuth, corev1.SecretTypeOpaque}[c.r.IntN(2)]
			s.Data = map[string][]byte{"password": []byte([]string{"", "one", "two"}[c.r.IntN(3)])}
		})
	}
}

// forget keeps of a memory only what changes the meaning of objects: last good versions, and what was ours. What is cached is lost.
func forget(m Memory) Memory {
	next := newMemory(m.m.options)
	forgetKind(&m.m.pools, &next.pools, func(s *poolSpec) { s.nodeEpoch, s.networkEpoch, s.gatewayEpoch = 0, 0, 0 })
	forgetKind(&m.m.reserved, &next.reserved, func(*reservationSpec) {})
	forgetKind(&m.m.peers, &next.peers, func(s *peerSpec) { s.nodes.memo = memo[string]{} })
	forgetScope := func(s *scope) { s.nodes.memo, s.services.memo = memo[string]{}, memo[config.Key]{} }
	forgetKind(&m.m.l2, &next.l2, func(s *l2Spec) {
		forgetScope(&s.scope)
		for i := range s.preferred {
			s.preferred[i].nodes.memo = memo[string]{}
		}
	})
	forgetKind(&m.m.bgp, &next.bgp, func(s *bgpSpec) { forgetScope(&s.scope) })
	forgetKind(&m.m.profiled, &next.profiled, func(*config.BFDProfile) {})
	forgetKind(&m.m.aliased, &next.aliased, func(*aliasSpec) {})
	var ours []*serviceEntry
	for id, e := range m.m.services.byID {
		f := &serviceEntry{id: id, key: e.key}
		switch {
		case e.ours:
			f.ours, f.service = true, e.service
			ours = append(ours, f)
		case e.left != nil:
			f.left = e.left
		default:
			continue
		}
		next.services.byID[id], next.services.byKey[e.key] = f, f
	}
	next.services.reorder(nil, ours)
	return Memory{next}
}

func forgetKind[S any](from, to *kind[S], clear func(*S)) {
	for id, d := range from.drafts {
		if d.good != nil {
			clear(d.good)
		}
		to.drafts[id] = &draft[S]{id: id, good: d.good}
	}
}

// TestHistories: along random histories, what is parsed with the cache equals what is parsed without, in whatever order the objects come,
// and a parse of the same objects again gives the same values.
func TestHistories(t *testing.T) {
	for seed := range uint64(30) {
		c := &cluster{r: rand.New(rand.NewPCG(seed, 7))}
		var cached, plain Memory
		for step := range 150 {
			for range 1 + c.r.IntN(3) {
				c.step()
			}
			c.objs.Now = time.Unix(int64(step), 0)
			if plain.m != nil {
				plain = forget(plain)
			}
			first, m := Parse(shuffle(c.objs, c.r), cached)
			want, p := Parse(shuffle(c.objs, c.r), plain)
			cached, plain = m, p
			got := dump(first)
			if diff := cmp.Diff(dump(want), got); diff != "" {
				t.Fatalf("seed %d step %d (-uncached +cached):\n%s", seed, step, diff)
			}
			again, m := Parse(shuffle(c.objs, c.r), cached)
			cached = m
			if diff := cmp.Diff(got, dump(again)); diff != "" {
				t.Fatalf("seed %d step %d: parsed again (-first +again):\n%s", seed, step, diff)
			}
			samePointers(t, first.Services, again.Services)
			samePointers(t, first.Pools, again.Pools)
			samePointers(t, first.Reservations, again.Reservations)
			samePointers(t, first.Nodes, again.Nodes)
			samePointers(t, first.Peers, again.Peers)
			samePointers(t, first.L2Advertisements, again.L2Advertisements)
			samePointers(t, first.BGPAdvertisements, again.BGPAdvertisements)
		}
	}
}

func samePointers[T any](t *testing.T, a, b []*T) {
	t.Helper()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("%+v did not change but is another value", a[i])
		}
	}
}

// TestSnapshotsStay: a snapshot is not changed by later ones.
func TestSnapshotsStay(t *testing.T) {
	c := &cluster{r: rand.New(rand.NewPCG(3, 3))}
	var memory Memory
	type kept struct {
		text string
		dump func() string
	}
	var history []kept
	for range 200 {
		c.step()
		snap, m := Parse(c.objs, memory)
		memory = m
		history = append(history, kept{dump(snap), func() string { return dump(snap) }})
	}
	for i, k := range history {
		if diff := cmp.Diff(k.text, k.dump()); diff != "" {
			t.Fatalf("snapshot %d changed after it was published:\n%s", i, diff)
		}
	}
}

func manyServices(n int) Objects {
	in := Objects{Synced: true}
	ready, node := true, "node-1"
	for i := range n {
		name := fmt.Sprintf("svc-%05d", i)
		in.Services = append(in.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: name, UID: types.UID("8b1c8e0e-5c1e-4a35-9b1c-" + name), ResourceVersion: "1",
				Labels: map[string]string{"app": name}, Annotations: map[string]string{"heraldlb.io/address-pool": "gold"},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{"IPv4"}, Selector: map[string]string{"app": name},
				Ports: []corev1.ServicePort{{Port: 80}, {Port: 443}},
			},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}}},
		})
		in.EndpointSlices = append(in.EndpointSlices, &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: name + "-x", UID: types.UID("1f0b7e7e-5c1e-4a35-9b1c-" + name), ResourceVersion: "1",
				Labels: map[string]string{discoveryv1.LabelServiceName: name},
			},
			Endpoints: []discoveryv1.Endpoint{{NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		})
	}
	in.Pools = []*v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "gold"}, Spec: v1beta1.IPAddressPoolSpec{Addresses: []v1beta1.AddressRange{"192.0.2.0/24"}}}}
	in.L2Advertisements = []*v1beta1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "all", Generation: 1}, Spec: v1beta1.L2AdvertisementSpec{
		ServiceSelectors: []v1beta1.LabelSelector{{MatchLabels: map[string]v1beta1.LabelValue{"app": "svc-00001"}}},
	}}}
	return in
}

func BenchmarkFirst10k(b *testing.B) {
	in := manyServices(10000)
	for b.Loop() {
		Parse(in, Memory{})
	}
}

func BenchmarkOneServiceOf10kChanged(b *testing.B) {
	in := manyServices(10000)
	in = shuffle(in, rand.New(rand.NewPCG(1, 1)))
	_, memory := Parse(in, Memory{})
	version := 1
	for b.Loop() {
		version++
		s := *in.Services[5000]
		s.ResourceVersion = strconv.Itoa(version)
		in.Services[5000] = &s
		_, memory = Parse(in, memory)
	}
}

func BenchmarkOneServiceOf10kAdded(b *testing.B) {
	in := manyServices(10000)
	in = shuffle(in, rand.New(rand.NewPCG(1, 1)))
	_, memory := Parse(in, Memory{})
	all, one := in.Services, in.Services[:9999]
	for i := 0; b.Loop(); i++ {
		in.Services = [][]*corev1.Service{one, all}[i%2]
		_, memory = Parse(in, memory)
	}
}
