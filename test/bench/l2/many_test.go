package l2

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	manyLabel = "herald-bench"
	// proxyLabel keeps the nodes' kube-proxies out of it: Herald is measured, not they.
	proxyLabel = "service.kubernetes.io/service-proxy-name"
	workers    = 16
	manyLimit  = 10 * time.Minute
)

// What the pool of the many has.
var (
	manyV4 = netip.MustParsePrefix("10.210.0.0/18")
	manyV6 = netip.MustParsePrefix("fd00:210::/114")
)

// manyConfig is a pool for many addresses, whose advertisement is not repeated, so that silence can be told from news. To fill in: its ranges and node selectors.
const manyConfig = `
apiVersion: heraldlb.io/v1beta1
kind: IPAddressPool
metadata: {name: bench}
spec:
  addresses: [%s, %q]
  autoAssign: false
---
apiVersion: heraldlb.io/v1beta1
kind: L2Advertisement
metadata: {name: bench}
spec:
  ipAddressPools: [bench]
  refreshInterval: 0s
  nodeSelectors: %s
`

// confine lets only these nodes announce the many; none: all may.
func (s *stage) confine(nodes ...string) {
	s.t.Helper()
	selectors := "["
	for _, n := range nodes {
		selectors += fmt.Sprintf("{matchLabels: {kubernetes.io/hostname: %s}},", n)
	}
	s.must(s.Apply(s.t.Context(), fmt.Sprintf(manyConfig, manyV4, manyV6, selectors+"]")))
}

// many makes n Services, with an endpoint each, for the time of the test, and returns their addresses once each is answered for.
func (s *stage) many(n int, policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) []addr {
	s.t.Helper()
	s.t.Cleanup(s.removeMany)
	began := time.Now()
	s.each(n, func(ctx context.Context, i int) error { return s.createOne(ctx, i, policy, families) })
	s.t.Logf("%d Services created in %s", n, round(time.Since(began)))
	ctx, cancel := context.WithTimeout(s.t.Context(), manyLimit)
	defer cancel()
	var ips []addr
	s.must(s.Wait(ctx, "addresses", func(ctx context.Context) error {
		ips = nil
		list, err := s.Services().List(ctx, metav1.ListOptions{LabelSelector: manyLabel})
		if err != nil {
			return err
		}
		for i := range list.Items {
			own, err := scene.Ingress(&list.Items[i])
			if err != nil {
				return err
			}
			ips = append(ips, own...)
		}
		if want := n * len(families); len(ips) != want {
			time.Sleep(calm) // a list of thousands is work for all
			return fmt.Errorf("%d of %d are assigned", len(ips), want)
		}
		return nil
	}))
	s.must(s.Wait(ctx, "somebody to answer for all", func(ctx context.Context) error { return s.allAnswered(ctx, sample(ips, 1000)) }))
	s.t.Logf("answered for after %s", round(time.Since(began)))
	s.quiet(ctx)
	return ips
}

// quiet waits until nothing has been written and nothing announced for a while.
func (s *stage) quiet(ctx context.Context) {
	s.t.Helper()
	const enough = 3 * calm
	began := time.Now()
	before := s.versions()
	s.must(s.Wait(ctx, "quiet", func(ctx context.Context) error {
		heard, err := s.heard(func() { time.Sleep(enough) })
		now := s.versions()
		written := changed(before, now)
		before = now
		if err == nil && (len(written) > 0 || heard > 0) {
			err = fmt.Errorf("%d objects written, %d announcements in %s", len(written), heard, enough)
		}
		return err
	}))
	s.t.Logf("nothing was written and nothing announced any more %s after the last answer", round(time.Since(began)-enough))
}

// heard counts what is announced about the many while something is done.
func (s *stage) heard(do func()) (int, error) {
	a, err := probe.NewAnnouncements(s.Client, lanIf)
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	var group errgroup.Group
	group.Go(func() error { return a.Run(ctx) })
	do()
	stop()
	if err := group.Wait(); err != nil {
		return 0, err
	}
	n := 0
	for _, said := range a.All() {
		if manyV4.Contains(said.IP) || manyV6.Contains(said.IP) {
			n++
		}
	}
	return n, nil
}

// changed returns the names of what has another version now, or is new.
func changed(before, now map[string]string) (names []string) {
	for name, version := range now {
		if before[name] != version {
			names = append(names, name)
		}
	}
	return names
}

func (s *stage) each(n int, do func(ctx context.Context, i int) error) {
	s.t.Helper()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(s.t.Context())
	for range workers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.must(group.Wait())
}

func manyName(i int) string { return fmt.Sprintf("bench-%05d", i) }

func (s *stage) createOne(ctx context.Context, i int, policy corev1.IPFamilyPolicy, families []corev1.IPFamily) error {
	labels := map[string]string{manyLabel: "yes", proxyLabel: "nobody", discoveryv1.LabelServiceName: manyName(i), discoveryv1.LabelManagedBy: "herald-bench"}
	ready, node, port, name := true, s.Nodes[i%len(s.Nodes)].Name, int32(8080), "http"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: manyName(i), Namespace: metav1.NamespaceDefault, Labels: labels},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.2"}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	if _, err := s.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return err
	}
	o := scene.Service(manyName(i), scene.Selecting(""), scene.FromPool("bench"), scene.Families(policy, families...))
	o.Labels = map[string]string{manyLabel: "yes", proxyLabel: "nobody"}
	_, err := s.Services().Create(ctx, o, metav1.CreateOptions{})
	return err
}

func (s *stage) removeMany() {
	ctx, cancel := context.WithTimeout(context.Background(), manyLimit)
	defer cancel()
	options := metav1.ListOptions{LabelSelector: manyLabel}
	err := s.API.CoreV1().RESTClient().Delete().Namespace(metav1.NamespaceDefault).Resource("services").VersionedParams(&options, scheme.ParameterCodec).Do(ctx).Error()
	err = errors.Join(err, s.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).DeleteCollection(ctx, metav1.DeleteOptions{}, options))
	err = errors.Join(err, s.Wait(ctx, "the Services to be gone", func(ctx context.Context) error {
		list, err := s.Services().List(ctx, options)
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	}))
	_, left := s.Kubectl(ctx, "delete", "--ignore-not-found", "l2advertisement/bench", "ipaddresspool/bench")
	if err = errors.Join(err, left); err != nil {
		s.t.Error(err)
	}
}

// sample returns so many of the addresses, chosen at random.
func sample(ips []addr, n int) []addr {
	if len(ips) <= n {
		return ips
	}
	var some []addr
	for _, i := range rand.Perm(len(ips))[:n] {
		some = append(some, ips[i])
	}
	return some
}

func (s *stage) sweep(ctx context.Context, ips []addr, rounds int) (map[addr][]probe.Answer, error) {
	survey, err := probe.NewSurvey(s.Client, lanIf, ips...)
	if err != nil {
		return nil, err
	}
	return survey.Sweep(ctx, rounds)
}

func (s *stage) allAnswered(ctx context.Context, ips []addr) error {
	answers, err := s.sweep(ctx, ips, 2)
	if err == nil && len(answers) < len(ips) {
		err = fmt.Errorf("%d of %d are answered for", len(answers), len(ips))
	}
	return err
}

// owners returns who answers for each address; nobody is nil. That two answer is an error.
func (s *stage) owners(ips []addr) map[addr]*lab.Node {
	s.t.Helper()
	answers, err := s.sweep(s.t.Context(), ips, 3)
	s.must(err)
	nodes := map[string]*lab.Node{}
	for _, n := range s.Nodes {
		nodes[s.mac(n)] = n
	}
	owners := map[addr]*lab.Node{}
	for ip, list := range answers {
		macs := probe.MACs(list)
		if len(macs) != 1 {
			s.t.Errorf("%s is answered for by %v", ip, macs)
		}
		owners[ip] = nodes[macs[0]]
	}
	return owners
}

// TestThousand is about 1,000 addresses on all nodes: how they spread, what the loss of a node moves, what an update costs that changes nothing.
func TestThousand(t *testing.T) {
	const n = 1000
	s := on(t)
	s.confine()
	ips := s.many(n, corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol)
	before := s.owners(ips)
	share := map[*lab.Node]int{}
	for _, owner := range before {
		share[owner]++
	}
	most := 0
	for owner, number := range share {
		t.Logf("%s answers for %d", owner.Name, number)
		most = max(most, number)
	}
	s.figure(ratio, none, 1.15, "1,000 addresses on 5 nodes: the most on one node, over the mean").add(float64(most*len(s.Nodes)) / n)
	s.figure(count, none, 0, "1,000 addresses: not answered for").add(float64(n - len(before)))
	s.updates(n)
	s.losses(ips)
}

// updates changes nothing about the endpoints, many times.
func (s *stage) updates(n int) {
	s.t.Helper()
	before := s.versions()
	sent, err := s.heard(func() {
		began := time.Now()
		s.each(n, func(ctx context.Context, i int) error {
			patch := fmt.Sprintf(`{"metadata": {"annotations": {"bench": %q}}}`, time.Now())
			_, err := s.API.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Patch(ctx, manyName(i), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			return err
		})
		s.t.Logf("%d updates in %s", n, round(time.Since(began)))
		time.Sleep(3 * calm)
	})
	s.must(err)
	written := changed(before, s.versions())
	s.t.Logf("written: %v", written)
	s.figure(count, none, 0, "1,000 EndpointSlice updates that change nothing: announcements sent").add(float64(sent))
	s.figure(count, none, 0, "1,000 EndpointSlice updates that change nothing: statuses written").add(float64(len(written)))
}

// versions are the resource versions of everything that Herald writes.
func (s *stage) versions() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	services, err := s.Services().List(s.t.Context(), metav1.ListOptions{})
	s.must(err)
	for i := range services.Items {
		all["Service "+services.Items[i].Name] = services.Items[i].ResourceVersion
	}
	for _, kind := range []string{scene.SpeakerStatuses, scene.Pools, scene.L2Advertisements} {
		list, err := s.Objects(kind).List(s.t.Context(), metav1.ListOptions{})
		s.must(err)
		for i := range list.Items {
			all[kind+" "+list.Items[i].GetName()] = list.Items[i].GetResourceVersion()
		}
	}
	return all
}

// losses takes nodes away, one at a time.
func (s *stage) losses(ips []addr) {
	s.t.Helper()
	strange := s.figure(count, none, 0, "1,000 addresses, a node lost: addresses of others that moved")
	lost := s.figure(count, none, 0, "1,000 addresses, a node lost: addresses nobody answers for after 2 s")
	again := s.figure(count, none, 0, "1,000 addresses, the node back: addresses that moved")
	for i := range min(runs(s.t), len(s.Nodes)) {
		node := s.Nodes[i]
		before := s.owners(ips)
		s.t.Cleanup(func() { s.must(node.LAN.Restore()) })
		s.must(node.LAN.Cut())
		time.Sleep(2 * time.Second)
		during := s.owners(ips)
		s.must(node.LAN.Restore())
		s.settled()
		after := s.owners(ips)
		moved, back := 0, 0
		ways := map[string]int{}
		for ip, was := range before {
			if was != node && during[ip] != was {
				moved++
				ways[name(was)+" to "+name(during[ip])+" at the loss"]++
			}
			if after[ip] != during[ip] {
				back++
				ways[name(during[ip])+" to "+name(after[ip])+" at the return"]++
			}
		}
		s.t.Logf("loss of %s: %v", node.Name, ways)
		strange.add(float64(moved))
		lost.add(float64(len(ips) - len(during)))
		again.add(float64(back))
	}
}

func name(n *lab.Node) string {
	if n == nil {
		return "nobody"
	}
	return n.Name
}

// TestTenThousand puts 10,000 addresses of each family on one node.
func TestTenThousand(t *testing.T) {
	const asked = 200
	s := on(t)
	n := many(t)
	s.confine(s.Nodes[0].Name)
	ips := s.many(n, corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol)
	for _, family := range []struct {
		name string
		is4  bool
	}{{"IPv4", true}, {"IPv6", false}} {
		var own []addr
		for _, ip := range ips {
			if ip.Is4() == family.is4 {
				own = append(own, ip)
			}
		}
		some := sample(own, asked)
		answered := 0
		for _, owner := range s.owners(some) {
			if owner == s.Nodes[0] {
				answered++
			}
		}
		s.figure(count, none, 0, "%d %s addresses on one node: of %d, not answered for", n, family.name, asked).add(float64(len(some) - answered))
	}
	p, err := s.Nodes[0].Kubelet().Find(s.Namespace, s.Name("speaker"), "")
	s.must(err)
	s.figure(mebibytes, none, none, "%d addresses of each family on one node: memory of its speaker", n).add(memory(s, p.PID))
}
