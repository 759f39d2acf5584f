package migrate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/controller/ipam"
)

// services says of the Services that run which annotations go on to count, and whether their addresses stay.
func (m *migration) services(all []*corev1.Service) {
	all = slices.DeleteFunc(slices.Clone(all), func(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeLoadBalancer })
	slices.SortStableFunc(all, func(a, b *corev1.Service) int { return strings.Compare(serviceName(a), serviceName(b)) })
	all = slices.CompactFunc(all, func(a, b *corev1.Service) bool { return serviceName(a) == serviceName(b) }) // the one of the cluster, or read first
	classes := map[string][]*corev1.Service{}
	for _, s := range all {
		m.annotations(s)
		class := ""
		if s.Spec.LoadBalancerClass != nil {
			class = *s.Spec.LoadBalancerClass
		}
		classes[class] = append(classes[class], s)
	}
	for _, class := range sortedKeys(classes) {
		if class != "" {
			m.tell(Todo, fmt.Sprintf("Services of class %q (%d)", class, len(classes[class])), "spec.loadBalancerClass",
				"an installation of Herald serves one class: give the chart loadBalancerClass: "+class)
		}
		m.keep(class, classes[class])
	}
}

func serviceName(s *corev1.Service) string { return "Service " + s.Namespace + "/" + s.Name }

// annotations says of each annotation of MetalLB's whether it counts for Herald.
func (m *migration) annotations(s *corev1.Service) {
	for _, key := range sortedKeys(s.Annotations) {
		domain, name, _ := strings.Cut(key, "/")
		if domain != "metallb.io" && domain != "metallb.universe.tf" {
			continue
		}
		field := "metadata.annotations[" + key + "]"
		switch name {
		case "address-pool", "loadBalancerIPs", "allow-shared-ip":
			if _, ok := s.Annotations["heraldlb.io/"+name]; ok {
				m.tell(Changed, serviceName(s), field, "heraldlb.io/"+name+" is there, too, and counts instead")
				continue
			}
			m.tell(Carried, serviceName(s), field, "counts as heraldlb.io/"+name+" does")
		case "ip-allocated-from-pool":
			m.tell(Carried, serviceName(s), field, "is MetalLB's own note; Herald's is the condition heraldlb.io/Allocated")
		default:
			m.tell(Lost, serviceName(s), field, "Herald knows no such annotation")
		}
	}
}

// keep asks what the controller would do with the Services, given the pools that there will be.
func (m *migration) keep(class string, all []*corev1.Service) {
	objects := parse.Objects{Options: parse.Options{LoadBalancerClass: class}, Services: all, Namespaces: m.namespaces, Synced: true, SecretsUnseen: true}
	for _, o := range m.result.Objects {
		if o.Kind != "IPAddressPool" {
			continue
		}
		pool := &v1beta1.IPAddressPool{}
		if o.document().Decode(pool) != nil {
			continue // lint says what is wrong with it
		}
		pool.UID = types.UID(o.Name)
		objects.Pools = append(objects.Pools, pool)
	}
	snap, _ := parse.Parse(objects, parse.Memory{})
	for _, out := range ipam.Compute(snap, time.Time{}).Services {
		had := out.Service.Ingress
		if len(had) == 0 || slices.Equal(had, out.Addresses) {
			continue
		}
		why := out.Allocated.Message
		if len(out.Addresses) > 0 {
			why = "it would be given " + words(out.Addresses)
		}
		m.tell(Lost, "Service "+out.Service.String(), "status.loadBalancer.ingress",
			"would not keep "+words(had)+": "+why+". Add the address to a pool before Herald serves the Service")
	}
}

func words(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}
