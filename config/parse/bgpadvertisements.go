package parse

import (
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// bgpSpec is a BGPAdvertisement's spec as values.
type bgpSpec struct {
	scope
	peerNames   []string
	communities []communityRef
	attributes  config.RouteAttributes // without communities
	length4     int
	length6     int
	weigh       bool

	// kept is what the communities meant when the spec was in force last; nil when it never was. Only a good version has it.
	kept *config.Communities
}

// Bounds of a BGPAdvertisement.
const (
	bits4      = 32
	bits6      = 128
	maxPrepend = 10
)

func parseBGPSpec(o *v1beta1.BGPAdvertisement) (bgpSpec, []config.Problem) {
	s, problems := parseScope(o.Spec.IPAddressPools, o.Spec.IPAddressPoolSelectors, o.Spec.ServiceSelectors, o.Spec.NodeSelectors)
	p := specParser{problems: problems}
	spec := bgpSpec{scope: s, peerNames: o.Spec.Peers, weigh: o.Spec.WeightByEndpoints}
	spec.communities = p.communities(o.Spec.Communities)
	spec.attributes.LocalPref = p.number("spec.localPref", o.Spec.LocalPref)
	spec.attributes.MED = p.number("spec.med", o.Spec.MED)
	if n := o.Spec.ASPathPrepend; n < 0 || n > maxPrepend {
		p.fail("spec.asPathPrepend", InvalidNumber, "%d is not from 0 to %d", n, maxPrepend)
	} else {
		spec.attributes.Prepend = uint8(n)
	}
	spec.length4 = p.length("spec.aggregationLength", o.Spec.AggregationLength, bits4)
	spec.length6 = p.length("spec.aggregationLengthV6", o.Spec.AggregationLengthV6, bits6)
	return spec, p.problems
}

func (p *specParser) number(field string, n *int64) config.Number {
	switch {
	case n == nil:
		return config.Number{}
	case *n < 0 || *n > 1<<32-1:
		p.fail(field, InvalidNumber, "%d is not a number from 0 to 4294967295", *n)
		return config.Number{}
	}
	return config.Some(uint32(*n))
}

func (p *specParser) length(field string, n *int32, bits int) int {
	switch {
	case n == nil:
		return bits
	case *n < 1 || int(*n) > bits:
		p.fail(field, InvalidNumber, "%d is not a prefix length from 1 to %d", *n, bits)
		return bits
	}
	return int(*n)
}

func (w *world) parseBGP(objs []*v1beta1.BGPAdvertisement) []*config.BGPAdvertisement {
	for _, o := range objs {
		w.see(KindBGPAdvertisement, o, o.Status.Conditions)
	}
	var out []*config.BGPAdvertisement // by age
	for _, d := range update(&w.memory.bgp, objs, parseBGPSpec) {
		ref := config.Ref{Kind: KindBGPAdvertisement, Name: d.name}
		spec := settle(w, ref, d, func(s *bgpSpec) *config.Problem { return w.bgpFits(d.name, s, out) })
		if spec == nil {
			continue
		}
		communities, _ := w.resolve(spec)
		if len(spec.communities) > 0 {
			good := *spec
			good.kept = &communities
			d.good = &good
		}
		adv, problems := w.advertisement(d.name, spec)
		adv.Attributes.Communities = communities
		problems = append(problems, w.idle(adv)...)
		for _, older := range out {
			if p := w.sharing(older, adv); p != nil {
				problems = append(problems, *p)
				break
			}
		}
		w.report(ref, problems, false)
		out = append(out, reuse(d, adv, equalBGP))
	}
	slices.SortFunc(out, func(a, b *config.BGPAdvertisement) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// bgpFits says what keeps a version out: a name for a community that nobody gives, or an older advertisement that says otherwise.
func (w *world) bgpFits(name string, spec *bgpSpec, older []*config.BGPAdvertisement) *config.Problem {
	if _, p := w.resolve(spec); p != nil {
		return p
	}
	adv, _ := w.advertisement(name, spec)
	for _, o := range older {
		if p := w.contradiction(o, adv); p != nil {
			return p
		}
	}
	return nil
}

// advertisement resolves what a spec selects, and warns of what does not exist. Communities are not in it yet.
func (w *world) advertisement(name string, spec *bgpSpec) (*config.BGPAdvertisement, []config.Problem) {
	pools, a := w.selectPools(spec.poolNames, &spec.poolSelectors)
	peers, b := w.selectPeers(spec.peerNames)
	return &config.BGPAdvertisement{
		Name: name, Pools: pools, Services: w.selectServices(&spec.services), Nodes: w.selectNodes(&spec.nodes), Peers: peers,
		Attributes: spec.attributes, AggregationLength: spec.length4, AggregationV6: spec.length6, WeightByEndpoints: spec.weigh,
	}, slices.Concat(a, b)
}

// selectPeers returns the peers in force that are named; no names select all.
func (w *world) selectPeers(names []string) (config.Selection[string], []config.Problem) {
	if len(names) == 0 {
		return config.All[string](), nil
	}
	keys, problems := w.named("spec.peers", KindPeer, names, w.hasPeer, UnknownPeer, UnusablePeer)
	return config.Only(keys...), problems
}

func (w *world) hasPeer(name string) bool {
	return slices.ContainsFunc(w.peers, func(p *config.Peer) bool { return p.Name == name })
}

// idle warns of what is said in vain: no session it is for, or no address.
func (w *world) idle(adv *config.BGPAdvertisement) []config.Problem {
	var problems []config.Problem
	warn := func(field, why string) {
		problems = append(problems, config.Problem{Field: field, Reason: NoEffect, Warning: true, Message: "has no effect: " + why})
	}
	internals, externals := w.sessionsOf(adv)
	if adv.Attributes.LocalPref.Given && externals > 0 && internals == 0 {
		warn("spec.localPref", "it is told to internal peers only, and every BGPPeer of the advertisement is external")
	}
	if adv.Attributes.Prepend > 0 && internals > 0 && externals == 0 {
		warn("spec.asPathPrepend", "it is for external peers, and every BGPPeer of the advertisement is internal")
	}
	pools, in4, in6 := w.familiesOf(adv)
	if adv.AggregationLength != bits4 && pools > 0 && !in4 {
		warn("spec.aggregationLength", "no IPAddressPool of the advertisement has IPv4 addresses")
	}
	if adv.AggregationV6 != bits6 && pools > 0 && !in6 {
		warn("spec.aggregationLengthV6", "no IPAddressPool of the advertisement has IPv6 addresses")
	}
	return problems
}

// sessionsOf counts the peers of an advertisement.
func (w *world) sessionsOf(adv *config.BGPAdvertisement) (internals, externals int) {
	for _, p := range w.peers {
		switch {
		case !adv.Peers.Has(p.Name):
		case internal(p):
			internals++
		default:
			externals++
		}
	}
	return internals, externals
}

// familiesOf counts the pools of an advertisement and says which families they have.
func (w *world) familiesOf(adv *config.BGPAdvertisement) (pools int, in4, in6 bool) {
	for i := range w.pooled {
		p := &w.pooled[i]
		if !adv.Pools.Has(p.name) {
			continue
		}
		pools++
		for _, r := range p.ranges {
			in4, in6 = in4 || r.From.Is4(), in6 || r.From.Is6()
		}
	}
	return pools, in4, in6
}

func equalBGP(a, b *config.BGPAdvertisement) bool {
	return a.Name == b.Name && a.Pools.Equal(b.Pools) && a.Services.Equal(b.Services) && a.Nodes.Equal(b.Nodes) && a.Peers.Equal(b.Peers) &&
		a.Attributes == b.Attributes && a.AggregationLength == b.AggregationLength && a.AggregationV6 == b.AggregationV6 &&
		a.WeightByEndpoints == b.WeightByEndpoints
}
