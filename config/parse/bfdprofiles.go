package parse

import (
	"fmt"
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Defaults of a BFDProfile.
const (
	defaultInterval   = 300
	defaultMultiplier = 3
)

func parseProfile(o *v1beta1.BFDProfile) (config.BFDProfile, []config.Problem) {
	var p specParser
	number := func(field string, n *int32, missing, least, most int32) int32 {
		if n == nil {
			return missing
		}
		if *n < least || *n > most {
			p.fail("spec."+field, InvalidNumber, "%d is not from %d to %d", *n, least, most)
		}
		return *n
	}
	receive := number("receiveInterval", o.Spec.ReceiveInterval, defaultInterval, 10, 60000)
	transmit := number("transmitInterval", o.Spec.TransmitInterval, defaultInterval, 10, 60000)
	return config.BFDProfile{
		ReceiveInterval:  time.Duration(receive) * time.Millisecond,
		TransmitInterval: time.Duration(transmit) * time.Millisecond,
		DetectMultiplier: uint8(number("detectMultiplier", o.Spec.DetectMultiplier, defaultMultiplier, 2, 255)),
		Passive:          o.Spec.PassiveMode,
		MinimumTTL:       uint8(number("minimumTtl", o.Spec.MinimumTTL, 0, 1, 254)),
	}, p.problems
}

// parseProfiles takes in all BFDProfiles.
func (w *world) parseProfiles(objs []*v1beta1.BFDProfile) {
	for _, o := range objs {
		w.see(KindBFDProfile, o, o.Status.Conditions)
	}
	w.profiles = make(map[string]*config.BFDProfile)
	for _, d := range update(&w.memory.profiled, objs, parseProfile) {
		if spec := settle(w, config.Ref{Kind: KindBFDProfile, Name: d.name}, d, always); spec != nil {
			w.profiles[d.name] = spec
		}
	}
}

// profile returns the profile of a peer. One that does not exist leaves the peer without BFD, and a warning.
func (w *world) profile(name string) (*config.BFDProfile, []config.Problem) {
	if name == "" {
		return nil, nil
	}
	if p := w.profiles[name]; p != nil {
		return p, nil
	}
	warning := config.Problem{Field: "spec.bfdProfile", Warning: true}
	if w.seen[config.Ref{Kind: KindBFDProfile, Name: name}] {
		warning.Reason, warning.Message = UnusableBFDProfile, "BFDProfile "+name+" is not in force itself, so the path to the router is not watched by BFD; see its condition Ready"
	} else {
		warning.Reason, warning.Message = UnknownBFDProfile, "there is no BFDProfile "+name+", so the path to the router is not watched by BFD; it is taken in when it appears"
	}
	return nil, []config.Problem{warning}
}

// judgeProfiles warns of profiles that ask for something none of their peers has.
func (w *world) judgeProfiles() {
	direct := make(map[string][]string) // names of peers by profile, where all of them are one hop away
	far := make(map[string]bool)
	for _, p := range w.peers {
		name := w.profiledBy[p.Name]
		if p.EBGPMultiHop || internal(p) && p.Interface == "" {
			far[name] = true
		}
		direct[name] = append(direct[name], p.Name)
	}
	for name, p := range w.profiles {
		if p.MinimumTTL == 0 || far[name] || len(direct[name]) == 0 {
			continue
		}
		peers := slices.Sorted(slices.Values(direct[name]))
		w.report(config.Ref{Kind: KindBFDProfile, Name: name}, []config.Problem{{
			Field: "spec.minimumTtl", Reason: NoEffect, Warning: true,
			Message: fmt.Sprintf("has no effect: BFD over one hop takes 255 only, and no router of BGPPeer %s is further away (ebgpMultiHop)", few(peers)),
		}}, false)
	}
}
