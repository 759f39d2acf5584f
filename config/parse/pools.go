package parse

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// poolSpec is an IPAddressPool's spec as values.
type poolSpec struct {
	ranges     []config.Range
	excluded   []config.Range // within ranges
	auto       bool
	buggy      bool // addresses that look so are avoided
	paused     bool
	allocation *allocation // nil: everybody
	quota      int         // 0: none
	retain     time.Duration

	nodeEpoch, networkEpoch, gatewayEpoch uint64           // that crossing was found out for
	crossing                              []config.Problem // what it has in common with nodes, pods and ClusterIPs
}

type poolInForce struct {
	name   string
	labels labels.Set

	ranges, excluded []config.Range
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
		w.report(ref, w.crossing(spec), false)
		w.enforce(poolInForce{d.name, o.Labels, spec.ranges, spec.excluded})
		pool := &config.Pool{
			Name: o.Name, UID: string(o.UID), Created: o.CreationTimestamp.Time, Ranges: spec.ranges, Excluded: spec.excluded, AutoAssign: spec.auto,
			AvoidBuggy: spec.buggy, Paused: spec.paused, NamespaceQuota: spec.quota, RetainFor: spec.retain, Status: poolStatus(o.Status),
		}
		if a := spec.allocation; a != nil {
			pool.Scoped, pool.Priority, pool.Admits = true, a.priority, a.text
			w.scopes = append(w.scopes, poolScope{d.name, a})
		}
		pools = append(pools, reuse(d, pool, equalPools))
	}
	slices.SortFunc(pools, func(a, b *config.Pool) int { return strings.Compare(a.Name, b.Name) })
	return pools
}

func parsePool(o *v1beta1.IPAddressPool) (poolSpec, []config.Problem) {
	spec := poolSpec{auto: o.Spec.AutoAssign == nil || *o.Spec.AutoAssign, buggy: o.Spec.AvoidBuggyIPs, paused: o.Spec.Paused}
	ranges, problems := parseRanges("spec.addresses", o.Spec.Addresses)
	if len(o.Spec.Addresses) == 0 {
		problems = append(problems, config.Problem{Field: "spec.addresses", Reason: InvalidAddress, Message: "the pool has no addresses"})
	}
	problems = append(problems, duplicates(ranges)...)
	spec.ranges = mergeRanges(slices.Collect(maps.Values(ranges)))
	problems = append(problems, parseExclusions(o, &spec)...)
	if q := o.Spec.NamespaceQuota; q != nil {
		spec.quota = int(*q)
	}
	if r := o.Spec.RetainFor; r != nil {
		if spec.retain = r.Duration; r.Duration < 0 {
			problems = append(problems, config.Problem{Field: "spec.retainFor", Reason: InvalidDuration, Message: r.Duration.String() + " is negative; give 0 or more"})
		}
	}
	if in := o.Spec.ServiceAllocation; in != nil {
		var more []config.Problem
		spec.allocation, more = parseAllocation(in)
		problems = append(problems, more...)
	}
	return spec, problems
}

// parseRanges reads the ranges of a list; what is wrong is a problem of its entry.
func parseRanges(field string, texts []v1beta1.AddressRange) (map[int]config.Range, []config.Problem) {
	ranges := make(map[int]config.Range, len(texts))
	var problems []config.Problem
	for i, text := range texts {
		r, err := parseRange(string(text))
		if err != nil {
			problems = append(problems, config.Problem{Field: fmt.Sprintf("%s[%d]", field, i), Reason: InvalidAddress, Message: err.Error()})
			continue
		}
		ranges[i] = r
	}
	return ranges, problems
}

// duplicates finds entries of the addresses that have something in common with one before.
func duplicates(ranges map[int]config.Range) []config.Problem {
	var problems []config.Problem
	entries := slices.Sorted(maps.Keys(ranges))
	for at, i := range entries {
		for _, before := range entries[:at] {
			if both, ok := intersect(ranges[before], ranges[i]); ok {
				problems = append(problems, config.Problem{
					Field: fmt.Sprintf("spec.addresses[%d]", i), Reason: DuplicateAddress, Warning: true,
					Message: fmt.Sprintf("%s stands in this pool twice; it counts once", both),
				})
				break
			}
		}
	}
	return problems
}

// parseExclusions reads what is never given out. One that excludes nothing is probably a slip of the pen.
func parseExclusions(o *v1beta1.IPAddressPool, spec *poolSpec) []config.Problem {
	ranges, problems := parseRanges("spec.exclude", o.Spec.Exclude)
	for _, i := range slices.Sorted(maps.Keys(ranges)) {
		if _, any := overlap([]config.Range{ranges[i]}, spec.ranges); !any {
			problems = append(problems, config.Problem{
				Field: fmt.Sprintf("spec.exclude[%d]", i), Reason: NothingExcluded, Warning: true,
				Message: fmt.Sprintf("%s is not in the pool, so it excludes nothing", ranges[i]),
			})
		}
	}
	spec.excluded = common(mergeRanges(slices.Collect(maps.Values(ranges))), spec.ranges)
	return problems
}

// overlapping finds an older pool in force that has an address of this one.
func (w *world) overlapping(spec *poolSpec) *config.Problem {
	for _, r := range spec.ranges {
		i := w.spanUpTo(r.To)
		if i < 0 {
			continue
		}
		if both, ok := intersect(w.spans[i].Range, r); ok {
			return &config.Problem{
				Field: "spec.addresses", Reason: OverlappingPool,
				Message: fmt.Sprintf("%s belongs to the older IPAddressPool %s; take it out of one of the two", both, w.pooled[w.spans[i].pool].name),
			}
		}
	}
	return nil
}

// span is a range of a pool in force.
type span struct {
	config.Range
	pool int // index in world.pooled
}

// spanUpTo returns the index of the last span that begins at the address or before it, -1 when there is none.
func (w *world) spanUpTo(a netip.Addr) int {
	i, found := slices.BinarySearchFunc(w.spans, a, func(s span, a netip.Addr) int { return s.From.Compare(a) })
	if found {
		return i
	}
	return i - 1
}

// enforce takes a pool into force. It overlaps no other.
func (w *world) enforce(p poolInForce) {
	w.pooled = append(w.pooled, p)
	for _, r := range p.ranges {
		w.spans = slices.Insert(w.spans, w.spanUpTo(r.From)+1, span{r, len(w.pooled) - 1})
	}
}

// poolWith returns the pool in force that contains the address, nil when there is none.
func (w *world) poolWith(a netip.Addr) *poolInForce {
	if i := w.spanUpTo(a); i >= 0 && w.spans[i].Contains(a) {
		return &w.pooled[w.spans[i].pool]
	}
	return nil
}

func poolStatus(s v1beta1.IPAddressPoolStatus) config.PoolStatus {
	return config.PoolStatus{IPv4: config.PoolCounts(s.IPv4), IPv6: config.PoolCounts(s.IPv6)}
}

func equalPools(a, b *config.Pool) bool {
	return a.Name == b.Name && a.UID == b.UID && a.Created.Equal(b.Created) && a.Status == b.Status &&
		slices.Equal(a.Ranges, b.Ranges) && slices.Equal(a.Excluded, b.Excluded) && a.AutoAssign == b.AutoAssign && a.AvoidBuggy == b.AvoidBuggy &&
		a.Paused == b.Paused && a.Scoped == b.Scoped && a.Priority == b.Priority && a.Admits == b.Admits &&
		a.NamespaceQuota == b.NamespaceQuota && a.RetainFor == b.RetainFor
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
