package parse

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

type speakerEntry struct {
	version string
	speaker *config.Speaker
}

// parseSpeakers reads the reports of speakers. They are written by Herald, so what cannot be read in one is left out without more ado.
func parseSpeakers(known map[string]*speakerEntry, objs []*v1beta1.SpeakerStatus) []*config.Speaker {
	var out []*config.Speaker
	seen := make(map[string]bool, len(objs))
	for _, o := range objs {
		id := identity(o)
		seen[id] = true
		e := known[id]
		if e == nil || e.version != o.ResourceVersion || o.ResourceVersion == "" {
			e = &speakerEntry{o.ResourceVersion, parseSpeaker(o)}
			known[id] = e
		}
		out = append(out, e.speaker)
	}
	for id := range known {
		if !seen[id] {
			delete(known, id)
		}
	}
	slices.SortFunc(out, func(a, b *config.Speaker) int { return strings.Compare(a.Node, b.Node) })
	return out
}

func parseSpeaker(o *v1beta1.SpeakerStatus) *config.Speaker {
	s := &config.Speaker{Node: o.Name, Version: o.Status.Version}
	if c := meta.FindStatusCondition(o.Status.Conditions, ReadyType); c != nil && c.Status == metav1.ConditionFalse && c.Reason == v1beta1.SpeakerStopped {
		s.Stopped = true
	}
	if g := o.Status.Gossip; g != nil {
		s.Alive, s.Missing = int(g.Alive), g.Missing
	}
	for _, i := range o.Status.Interfaces {
		s.Interfaces = append(s.Interfaces, config.Interface{Name: i.Name, MAC: strings.ToLower(i.MAC), Up: i.Up, Subnets: parsePrefixes(i.Subnets)})
	}
	for _, text := range o.Status.Gateways {
		if a, err := netip.ParseAddr(text); err == nil {
			s.Gateways = append(s.Gateways, a.Unmap())
		}
	}
	if o.Status.L2 != nil {
		for _, h := range o.Status.L2.Addresses {
			if a, err := netip.ParseAddr(h.Address); err == nil {
				s.L2 = append(s.L2, config.L2Holding{Address: a.Unmap(), Interface: h.Interface, Since: h.Since.Time})
			}
		}
		for _, c := range o.Status.L2.Conflicts {
			if a, err := netip.ParseAddr(c.Address); err == nil {
				s.Conflicts = append(s.Conflicts, config.L2Conflict{Address: a.Unmap(), Interface: c.Interface, MAC: strings.ToLower(c.MAC), Since: c.Since.Time})
			}
		}
	}
	if o.Status.BGP != nil {
		for i := range o.Status.BGP.Sessions {
			s.Sessions = append(s.Sessions, parseSession(&o.Status.BGP.Sessions[i]))
		}
	}
	return s
}

func parsePrefixes(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func parseSession(b *v1beta1.SpeakerBGPSession) config.Session {
	s := config.Session{
		Peer: b.Peer, Address: b.Address, LocalAddress: b.LocalAddress, State: b.State, Since: b.Since.Time,
		LocalASN: uint32(b.LocalASN), PeerASN: uint32(b.PeerASN), BFD: b.BFD, LastError: b.LastError,
		Advertised: map[config.Family]int{config.IPv4: int(b.Advertised.IPv4), config.IPv6: int(b.Advertised.IPv6)},
	}
	if b.HoldTime != nil {
		s.HoldTime = b.HoldTime.Duration
	}
	if b.GracefulRestart != nil {
		s.Restart = b.GracefulRestart.Duration
	}
	for _, f := range b.Families {
		switch f {
		case v1beta1.FamilyIPv4:
			s.Families = append(s.Families, config.IPv4)
		case v1beta1.FamilyIPv6:
			s.Families = append(s.Families, config.IPv6)
		}
	}
	return s
}
