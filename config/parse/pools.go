package parse

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// poolSpec is an IPAddressPool's spec as values.
type poolSpec struct {
	ranges []config.Range
	auto   bool

	nodeEpoch uint64          // of the nodes that onNodes was found out for
	onNodes   *config.Problem // nodes' addresses in the pool; nil when there are none
}

type poolInForce struct {
	name   string
	labels labels.Set
	ranges []config.Range
}

func (w *world) parsePools(objs []*v1beta1.IPAddressPool) []*config.Pool {
	byName := make(map[string]*v1beta1.IPAddressPool, len(objs))
	for _, o := range objs {
		w.see(KindPool, o, o.Status.Conditions)
		byName[o.Name] = o
	}
	var pools []*config.Pool
	for _, d := range update(&w.memory.pools, objs, parsePool) {
		o := byName[d.name]
		ref := config.Ref{Kind: KindPool, Name: d.name}
		spec := settle(w, ref, d, w.overlapping)
		if spec == nil {
			continue
		}
		if p := w.nodesIn(spec); p != nil {
			w.report(ref, []config.Problem{*p}, false)
		}
		w.pooled = append(w.pooled, poolInForce{d.name, o.Labels, spec.ranges})
		pools = append(pools, reuse(d, &config.Pool{
			Name: o.Name, UID: string(o.UID), Created: o.CreationTimestamp.Time,
			Ranges: spec.ranges, AutoAssign: spec.auto, Status: poolStatus(o.Status),
		}, equalPools))
	}
	slices.SortFunc(pools, func(a, b *config.Pool) int { return strings.Compare(a.Name, b.Name) })
	return pools
}

func parsePool(o *v1beta1.IPAddressPool) (poolSpec, []config.Problem) {
	spec := poolSpec{auto: o.Spec.AutoAssign == nil || *o.Spec.AutoAssign}
	var problems []config.Problem
	var ranges []config.Range
	for i, text := range o.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		r, err := parseRange(string(text))
		if err != nil {
			problems = append(problems, config.Problem{Field: field, Reason: InvalidAddress, Message: err.Error()})
			continue
		}
		for _, before := range ranges {
			if both, ok := intersect(before, r); ok {
				problems = append(problems, config.Problem{
					Field: field, Reason: DuplicateAddress, Warning: true,
					Message: fmt.Sprintf("%s stands in this pool twice; it counts once", both),
				})
				break
			}
		}
		ranges = append(ranges, r)
	}
	if len(o.Spec.Addresses) == 0 {
		problems = append(problems, config.Problem{Field: "spec.addresses", Reason: InvalidAddress, Message: "the pool has no addresses"})
	}
	spec.ranges = mergeRanges(ranges)
	return spec, problems
}

// overlapping finds an older pool in force that has an address of this one.
func (w *world) overlapping(spec *poolSpec) *config.Problem {
	for _, other := range w.pooled {
		if both, ok := overlap(other.ranges, spec.ranges); ok {
			return &config.Problem{
				Field: "spec.addresses", Reason: OverlappingPool,
				Message: fmt.Sprintf("%s belongs to the older IPAddressPool %s; take it out of one of the two", both, other.name),
			}
		}
	}
	return nil
}

// nodesIn finds addresses of nodes in the pool.
func (w *world) nodesIn(spec *poolSpec) *config.Problem {
	if spec.nodeEpoch == w.memory.nodes.epoch {
		return spec.onNodes
	}
	pool := config.Pool{Ranges: spec.ranges}
	var found []string
	for _, n := range w.nodes {
		for _, a := range n.Addresses {
			if pool.Contains(a) {
				found = append(found, fmt.Sprintf("%s (%s)", a, n.Name))
			}
		}
	}
	spec.nodeEpoch, spec.onNodes = w.memory.nodes.epoch, nil
	if len(found) > 0 {
		spec.onNodes = &config.Problem{
			Field: "spec.addresses", Reason: NodeAddress, Warning: true,
			Message: "the pool contains addresses of nodes, which are never given to a Service: " + few(found),
		}
	}
	return spec.onNodes
}

func poolStatus(s v1beta1.IPAddressPoolStatus) config.PoolStatus {
	return config.PoolStatus{IPv4: config.PoolCounts(s.IPv4), IPv6: config.PoolCounts(s.IPv6)}
}

func equalPools(a, b *config.Pool) bool {
	return a.Name == b.Name && a.UID == b.UID && a.Created.Equal(b.Created) && a.AutoAssign == b.AutoAssign && a.Status == b.Status &&
		slices.Equal(a.Ranges, b.Ranges)
}

// selectPools returns the pools in force that are named or whose labels match; no names and no selectors select all.
func (w *world) selectPools(names []string, sel *selectors) (config.Selection[string], []config.Problem) {
	if len(names) == 0 && len(sel.list) == 0 || sel.all {
		_, problems := w.named("spec.ipAddressPools", KindPool, names, w.hasPool, UnknownPool, UnusablePool)
		return config.All[string](), problems
	}
	keys, problems := w.named("spec.ipAddressPools", KindPool, names, w.hasPool, UnknownPool, UnusablePool)
	for _, p := range w.pooled {
		if sel.matches(p.labels) {
			keys = append(keys, p.name)
		}
	}
	return config.Only(keys...), problems
}

func (w *world) hasPool(name string) bool {
	return slices.ContainsFunc(w.pooled, func(p poolInForce) bool { return p.name == name })
}

// named returns those of the names that are in force, and a warning for each other: the rest of the object goes on.
func (w *world) named(field, kind string, names []string, inForce func(string) bool, unknown, unusable string) ([]string, []config.Problem) {
	var keys []string
	var problems []config.Problem
	for i, name := range names {
		p := config.Problem{Field: fmt.Sprintf("%s[%d]", field, i), Warning: true}
		switch {
		case inForce(name):
			keys = append(keys, name)
			continue
		case w.seen[config.Ref{Kind: kind, Name: name}]:
			p.Reason, p.Message = unusable, fmt.Sprintf("%s %s is not in force itself; see its condition Ready", kind, name)
		default:
			p.Reason, p.Message = unknown, fmt.Sprintf("there is no %s %s; it is taken in when it appears", kind, name)
		}
		problems = append(problems, p)
	}
	return keys, problems
}
