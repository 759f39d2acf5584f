// Package picture is a cluster at one moment as the plugin sees it: what was read, judged by the same pure rooms that the daemons use.
package picture

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/speaker/decide"
)

// Picture is immutable once made.
type Picture struct {
	Cluster  *kube.Cluster
	Install  Install
	Snapshot *config.Snapshot
	Plan     *ipam.Plan // what the controller would do now
	Explain  *decide.Explainer
	Reports  map[string]*v1beta1.SpeakerStatus // by node, of speakers that live and that do not
	Members  map[string]bool                   // nodes whose speaker is taken to be alive

	outcomes map[config.Key]*ipam.Outcome
	holders  map[netip.Addr][]Holder
	sessions map[Pair]config.Session
}

// Holder is a node that answers for an address on an interface.
type Holder struct {
	Node string
	config.L2Holding
}

// Pair names the BGP session between a node and a BGPPeer.
type Pair struct{ Node, Peer string }

// New judges what was read.
func New(c *kube.Cluster, o Options) *Picture {
	p := &Picture{
		Cluster: c, Install: install(c, o), Reports: map[string]*v1beta1.SpeakerStatus{}, Members: map[string]bool{},
		outcomes: map[config.Key]*ipam.Outcome{}, holders: map[netip.Addr][]Holder{}, sessions: map[Pair]config.Session{},
	}
	objects := c.Objects
	objects.Options = parse.Options{LoadBalancerClass: p.Install.Class}
	objects.SecretsUnseen, objects.Secrets = false, passwords(c.Peers)
	p.Snapshot, _ = parse.Parse(objects, parse.Memory{})
	retell(p.Snapshot.Problems, c.Peers)
	p.Plan = ipam.Compute(p.Snapshot, c.Now)
	for _, out := range p.Plan.Services {
		p.outcomes[out.Service.Key] = out
	}
	for _, s := range c.Speakers {
		p.Reports[s.Name] = s
	}
	p.Explain = decide.NewExplainer(p.facts())
	for a := range p.holders {
		slices.SortFunc(p.holders[a], func(a, b Holder) int {
			return cmp.Or(b.Since.Compare(a.Since), strings.Compare(a.Node, b.Node), strings.Compare(a.Interface, b.Interface))
		})
	}
	return p
}

// facts are what a speaker would decide from, as far as the SpeakerStatus objects tell. They say who is alive only as long as somebody is
// there to say so; so a speaker counts when the others do not miss it and its Pod runs.
func (p *Picture) facts() decide.Facts {
	facts := decide.Facts{Config: p.Snapshot, IgnoreExcludeLB: p.Install.IgnoreExcludeLB, DrainOnCordon: p.Install.DrainOnCordon, Now: p.Cluster.Now}
	live := p.Snapshot.LiveSpeakers()
	for _, s := range p.Snapshot.Speakers {
		if !live[s.Node] || !p.runs(s.Node) {
			continue
		}
		p.Members[s.Node] = true
		m := decide.Member{Node: s.Node, Interfaces: s.Interfaces, Claims: map[netip.Addr]decide.Claim{}}
		for _, h := range s.L2 {
			m.Claims[h.Address] = decide.Claim{}
			p.holders[h.Address] = append(p.holders[h.Address], Holder{s.Node, h})
		}
		for _, session := range s.Sessions {
			p.sessions[Pair{s.Node, session.Peer}] = session
		}
		facts.Members = append(facts.Members, m)
	}
	facts.Expected = len(p.Snapshot.Speakers)
	return facts
}

// runs reports whether a Pod of the speaker runs on a node, or it is not known which do.
func (p *Picture) runs(node string) bool {
	if len(p.Install.Speakers.Pods) == 0 {
		return len(p.Cluster.DaemonSets) == 0 // nothing is known of Pods
	}
	return slices.ContainsFunc(p.Install.Speakers.Pods, func(pod *corev1.Pod) bool { return pod.Spec.NodeName == node && Runs(pod) })
}

// Runs reports whether a Pod's containers run, ready or not.
func Runs(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning &&
		!slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running == nil })
}

// Service returns a Service that is ours; nil when there is none.
func (p *Picture) Service(key config.Key) *config.Service {
	i, ok := slices.BinarySearchFunc(p.Snapshot.Services, key, func(s *config.Service, k config.Key) int { return s.Key.Compare(k) })
	if !ok {
		return nil
	}
	return p.Snapshot.Services[i]
}

// Node returns a node; nil when there is none.
func (p *Picture) Node(name string) *config.Node {
	for _, n := range p.Snapshot.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Outcome returns what the controller would give a Service; nil for one that is not ours.
func (p *Picture) Outcome(key config.Key) *ipam.Outcome { return p.outcomes[key] }

// Holders returns who says to answer for an address, the one that began last first: that one counts.
func (p *Picture) Holders(a netip.Addr) []Holder { return p.holders[a] }

// Session returns what a node reports of its session to a peer.
func (p *Picture) Session(node, peer string) (config.Session, bool) {
	s, ok := p.sessions[Pair{node, peer}]
	return s, ok
}

// Down says why a session does not carry routes of a family; "" when it does.
func Down(s config.Session, reported bool, f config.Family) string {
	switch {
	case !reported:
		return "no session is reported"
	case s.State != Established && s.LastError != "":
		return s.State + ": " + s.LastError
	case s.State != Established:
		return s.State
	case !slices.Contains(s.Families, f):
		return f.String() + " was not agreed on"
	}
	return ""
}

// Established is the state of a session that is up (RFC 4271 section 8.2.2).
const Established = "Established"

// PoolOf returns the pool in force that an address lies in; nil when there is none.
func (p *Picture) PoolOf(a netip.Addr) *config.Pool {
	for _, pool := range p.Snapshot.Pools {
		if pool.Contains(a) {
			return pool
		}
	}
	return nil
}

// ProblemsOf returns what is wrong with the config objects of a kind, and of these names when some are given.
func (p *Picture) ProblemsOf(kind string, names ...string) []config.Problem {
	var out []config.Problem
	for _, problem := range p.Snapshot.Problems {
		if problem.Kind == kind && (len(names) == 0 || slices.Contains(names, problem.Name)) {
			out = append(out, problem)
		}
	}
	return out
}
