package parse

import (
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heraldlb/herald/config"
)

// endpoints remembers the EndpointSlices, by the Service they belong to.
type endpoints struct {
	round uint64
	byKey map[config.Key]*sliceEntry
	of    map[config.Key][]*sliceEntry
}

type sliceEntry struct {
	round   uint64 // of the last whole list in which it was seen
	id      string
	version string
	service config.Key
	family  discoveryv1.AddressType
	counts  config.Endpoints
}

func newEndpoints() endpoints {
	return endpoints{byKey: make(map[config.Key]*sliceEntry), of: make(map[config.Key][]*sliceEntry)}
}

// update takes in slices, all or those that changed, and returns the Services whose slices are not the same as before.
func (e *endpoints) update(objs []*discoveryv1.EndpointSlice, c Changes) map[config.Key]struct{} {
	e.round++
	dirty := make(map[config.Key]struct{})
	for _, key := range c.GoneEndpointSlices {
		e.drop(key, dirty)
	}
	for _, o := range objs {
		key := config.Key{Namespace: o.Namespace, Name: o.Name}
		old := e.byKey[key]
		if old != nil && old.version == o.ResourceVersion && o.ResourceVersion != "" && old.id == identity(o) {
			old.round = e.round
			continue
		}
		e.drop(key, dirty)
		e.add(key, o, dirty)
	}
	if !c.EndpointSlices && len(e.byKey) > len(objs) {
		for key, s := range e.byKey {
			if s.round != e.round {
				e.drop(key, dirty)
			}
		}
	}
	return dirty
}

func (e *endpoints) add(key config.Key, o *discoveryv1.EndpointSlice, dirty map[config.Key]struct{}) {
	s := &sliceEntry{
		round: e.round, id: identity(o), version: o.ResourceVersion,
		service: config.Key{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]},
		family:  o.AddressType,
		counts:  countSlice(o),
	}
	e.byKey[key] = s
	e.of[s.service] = append(e.of[s.service], s)
	dirty[s.service] = struct{}{}
}

// drop forgets a slice, if it is known.
func (e *endpoints) drop(key config.Key, dirty map[config.Key]struct{}) {
	s := e.byKey[key]
	if s == nil {
		return
	}
	delete(e.byKey, key)
	if left := slices.DeleteFunc(e.of[s.service], func(o *sliceEntry) bool { return o == s }); len(left) > 0 {
		e.of[s.service] = left
	} else {
		delete(e.of, s.service)
	}
	dirty[s.service] = struct{}{}
}

// sum returns the endpoints of a Service over all of its slices. A Pod of a dual-stack Service is in a slice of each family, and counts once:
// a node has as many endpoints as it has of the family that it has more of.
func (e *endpoints) sum(service config.Key) config.Endpoints {
	of := e.of[service]
	if len(of) == 1 { // as most have
		return of[0].counts
	}
	byFamily := make(map[discoveryv1.AddressType]config.Endpoints, 2)
	for _, s := range of {
		sum := byFamily[s.family]
		sum.Ready = addCounts(sum.Ready, s.counts.Ready)
		sum.Serving = addCounts(sum.Serving, s.counts.Serving)
		byFamily[s.family] = sum
	}
	var out config.Endpoints
	for _, sum := range byFamily {
		out.Ready = mostCounts(out.Ready, sum.Ready)
		out.Serving = mostCounts(out.Serving, sum.Serving)
	}
	return out
}

func mostCounts(a, b map[string]int) map[string]int {
	if a == nil {
		return b
	}
	for node, n := range b {
		a[node] = max(a[node], n)
	}
	return a
}

func addCounts(to, from map[string]int) map[string]int {
	if to == nil && len(from) > 0 {
		to = make(map[string]int, len(from))
	}
	for node, n := range from {
		to[node] += n
	}
	return to
}

// countSlice counts endpoints by node. A condition that is not given has the meaning that the API documents: ready and serving when in
// doubt, not terminating.
func countSlice(o *discoveryv1.EndpointSlice) config.Endpoints {
	var out config.Endpoints
	if o.AddressType == discoveryv1.AddressTypeFQDN {
		return out
	}
	for i := range o.Endpoints {
		ep := &o.Endpoints[i]
		node := ""
		if ep.NodeName != nil {
			node = *ep.NodeName
		}
		ready := ep.Conditions.Ready == nil || *ep.Conditions.Ready
		serving := ready
		if ep.Conditions.Serving != nil {
			serving = *ep.Conditions.Serving
		}
		terminating := ep.Conditions.Terminating != nil && *ep.Conditions.Terminating
		switch {
		case ready:
			out.Ready = addCounts(out.Ready, map[string]int{node: 1})
		case serving && terminating:
			out.Serving = addCounts(out.Serving, map[string]int{node: 1})
		}
	}
	return out
}

func equalEndpoints(a, b config.Endpoints) bool {
	return maps.Equal(a.Ready, b.Ready) && maps.Equal(a.Serving, b.Serving)
}
