package parse

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/config"
)

// parseRequest reads what a Service asks for. A contradiction makes the whole request invalid: a half of it would not be what was meant.
func parseRequest(o *corev1.Service, families []config.Family) config.Request {
	addrs, err := requestedAddresses(o, families)
	if err != nil {
		return config.Request{Invalid: err.Error()}
	}
	pools, err := requestedPools(o)
	if err != nil {
		return config.Request{Invalid: err.Error()}
	}
	return config.Request{Pools: pools, Addresses: addrs}
}

func requestedPools(o *corev1.Service) ([]string, error) {
	names := split(annotation(o.Annotations, poolAnnotation))
	if len(names) > 2 {
		return nil, fmt.Errorf("annotation address-pool names %d pools; name one, or one for each address family", len(names))
	}
	if len(names) == 2 && names[0] == names[1] {
		names = names[:1]
	}
	return names, nil
}

// requestedAddresses returns the addresses asked for by annotation or by spec.loadBalancerIP, in the order of families.
func requestedAddresses(o *corev1.Service, families []config.Family) ([]netip.Addr, error) {
	addrs, err := parseAddrs("annotation loadBalancerIPs", split(annotation(o.Annotations, addressesAnnotation)))
	if err != nil {
		return nil, err
	}
	var old []string
	if o.Spec.LoadBalancerIP != "" {
		old = []string{strings.TrimSpace(o.Spec.LoadBalancerIP)}
	}
	single, err := parseAddrs("spec.loadBalancerIP", old)
	if err != nil {
		return nil, err
	}
	if len(addrs) > 0 && len(single) > 0 && !slices.Equal(addrs, single) {
		return nil, fmt.Errorf("annotation loadBalancerIPs asks for %s but spec.loadBalancerIP for %s; remove one of the two", join(addrs), single[0])
	}
	if len(addrs) == 0 {
		addrs = single
	}
	return inFamilyOrder(addrs, families)
}

// parseAddrs reads addresses; the same one twice counts once.
func parseAddrs(where string, texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, text := range texts {
		a, err := parseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

func inFamilyOrder(addrs []netip.Addr, families []config.Family) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, f := range families {
		of := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return config.FamilyOf(a) != f })
		if len(of) > 1 {
			return nil, fmt.Errorf("%s are two addresses of one family (%s); ask for one of each at most", join(of), f)
		}
		out = append(out, of...)
	}
	for _, a := range addrs {
		if !slices.Contains(out, a) {
			return nil, fmt.Errorf("%s is asked for but the Service has no %s: spec.ipFamilies is %s", a, config.FamilyOf(a), joinFamilies(families))
		}
	}
	return out, nil
}

// split cuts a list at commas; empty elements do not count.
func split(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func join(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

func joinFamilies(families []config.Family) string {
	var out []string
	for _, f := range families {
		out = append(out, f.String())
	}
	return strings.Join(out, ", ")
}
