package parse

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
)

// nodes remembers the Nodes.
type nodes struct {
	byID  map[string]*nodeEntry
	all   []*nodeEntry // sorted by name
	epoch uint64       // counts changes of what selectors and pools ask: names, labels, addresses of nodes and pods
}

type nodeEntry struct {
	version string
	node    *config.Node
	labels  labels.Set
	pods    []netip.Prefix // from which its pods have their addresses
}

func (n *nodes) parse(objs []*corev1.Node) []*config.Node {
	next := make(map[string]*nodeEntry, len(objs))
	changed := n.epoch == 0
	n.all = n.all[:0]
	for _, o := range objs {
		id := identity(o)
		old := n.byID[id]
		e := old
		if e == nil || e.version != o.ResourceVersion || o.ResourceVersion == "" {
			e = &nodeEntry{o.ResourceVersion, parseNode(o), maps.Clone(o.Labels), podNetworks(o)}
			if old != nil && equalNodes(old.node, e.node) {
				e.node = old.node
			}
			changed = changed || old == nil || !maps.Equal(old.labels, e.labels) || !slices.Equal(old.node.Addresses, e.node.Addresses) ||
				!slices.Equal(old.pods, e.pods)
		}
		next[id] = e
		n.all = append(n.all, e)
	}
	for id := range n.byID {
		changed = changed || next[id] == nil
	}
	if changed {
		n.epoch++
	}
	n.byID = next
	slices.SortFunc(n.all, func(a, b *nodeEntry) int { return strings.Compare(a.node.Name, b.node.Name) })
	out := make([]*config.Node, len(n.all))
	for i, e := range n.all {
		out[i] = e.node
	}
	return out
}

// each calls yield for every node.
func (n *nodes) each(yield func(string, labels.Set)) {
	for _, e := range n.all {
		yield(e.node.Name, e.labels)
	}
}

func parseNode(o *corev1.Node) *config.Node {
	_, exclude := o.Labels[corev1.LabelNodeExcludeBalancers]
	n := &config.Node{Name: o.Name, UID: string(o.UID), ExcludeLB: exclude, Unschedulable: o.Spec.Unschedulable}
	for _, t := range o.Spec.Taints {
		switch t.Key {
		case DrainTaint:
			n.Drain = true
		case corev1.TaintNodeOutOfService:
			n.OutOfService = true
		}
	}
	for _, a := range o.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(a.Address); err == nil {
			n.Addresses = append(n.Addresses, addr.Unmap())
		}
	}
	slices.SortFunc(n.Addresses, netip.Addr.Compare)
	n.Addresses = slices.Compact(n.Addresses)
	for _, c := range o.Status.Conditions {
		switch c.Type {
		case corev1.NodeReady:
			n.Ready = c.Status == corev1.ConditionTrue
		case corev1.NodeNetworkUnavailable:
			n.NetworkUnavailable = c.Status == corev1.ConditionTrue
		}
	}
	return n
}

func equalNodes(a, b *config.Node) bool {
	return a.Name == b.Name && a.UID == b.UID && a.Ready == b.Ready && a.NetworkUnavailable == b.NetworkUnavailable &&
		a.ExcludeLB == b.ExcludeLB && a.Drain == b.Drain && a.OutOfService == b.OutOfService && a.Unschedulable == b.Unschedulable &&
		slices.Equal(a.Addresses, b.Addresses)
}

// podNetworks returns the prefixes of a node's pods, sorted.
func podNetworks(o *corev1.Node) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range o.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil && !p.Addr().Is4In6() {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, comparePrefixes)
	return out
}

// few lists at most three things for a person.
func few(things []string) string {
	if len(things) <= 3 {
		return strings.Join(things, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(things[:3], ", "), len(things)-3)
}
