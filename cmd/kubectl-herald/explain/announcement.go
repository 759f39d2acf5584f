package explain

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/speaker/decide"
)

// announcement takes in what is decided for one address and protocol, and what the speakers report of it.
func (e *explanation) announcement(d decide.Explanation) {
	way := Way{
		Protocol: d.Protocol, Reason: d.Reason, Message: d.Message, Advertisements: d.Advertisements, Owner: d.Owner,
		LeftOut: e.Explain.LeftOut(d), Asked: d.Asked,
	}
	if d.Protocol == decide.L2 {
		way.Successor = e.Explain.Successor(d)
		if d.First != d.Owner {
			way.GoesBack = d.First
		}
		e.asked(d)
	}
	for _, a := range d.Able {
		way.Able = append(way.Able, e.able(d, a))
	}
	for _, h := range e.Holders(d.Addr) {
		if d.Protocol == decide.L2 {
			way.Answering = append(way.Answering, Answering{h.Node, h.Interface, h.Since.UTC().Format(time.RFC3339)})
		}
	}
	switch {
	case d.Reason == decide.NoAdvertisement:
		e.unadvertised(d)
	case d.Reason == decide.NoReadyEndpoints:
		e.add(e.finding(d, "see whether the Service's selector matches Pods, and why they are not ready"))
	case d.Reason == decide.NoEligibleNode:
		e.ineligible(d, way)
	case d.Protocol == decide.L2:
		e.answered(d, &way)
	default:
		e.told(d, &way)
	}
	a := e.address(d.Addr)
	a.Ways = append(a.Ways, way)
}

// asked says of a move that is asked for why it is not carried out.
func (e *explanation) asked(d decide.Explanation) {
	text := e.annotations()[parse.MoveAnnotation]
	f := finding.Finding{Level: finding.Warning, About: e.about(), Reason: "MoveNotDone", Remedy: "take the annotation " + parse.MoveAnnotation + " away; kubectl herald move writes it"}
	switch {
	case text == "":
		return
	case e.svc.Move == config.Move{}:
		f.Message = "its annotation says " + strconv.Quote(text) + ", which asks for nothing"
	case d.Asked == "" || d.Asked == d.Owner:
		return // of another node, or over
	case !e.Explain.Gets(d, d.Asked):
		f.Message = d.Addr.String() + " is asked to move to " + d.Asked + ", which may not answer for it"
	default:
		return // under way
	}
	e.add(f)
}

// annotations returns those of the Service.
func (e *explanation) annotations() map[string]string {
	for _, s := range e.Cluster.Services {
		if s.Namespace == e.svc.Namespace && s.Name == e.svc.Name {
			return s.Annotations
		}
	}
	return nil
}

// finding says what was decided in the plugin's words.
func (e *explanation) finding(d decide.Explanation, remedy string) finding.Finding {
	message := d.Message
	if len(e.svc.Ingress) > 1 && d.Reason != decide.NoReadyEndpoints { // which is of the Service, whatever the address
		message = d.Addr.String() + ": " + message
	}
	return finding.Finding{Level: finding.Error, About: e.about(), Reason: string(d.Reason), Message: message, Remedy: remedy}
}

// unadvertised looks for an advertisement that would cover the address, were it not left out, or did it not misspell a name.
func (e *explanation) unadvertised(d decide.Explanation) {
	broken := slices.Concat(e.ProblemsOf(l2Kind), e.ProblemsOf(bgpKind))
	remedy := "create an L2Advertisement or BGPAdvertisement whose ipAddressPools has " + quoted(e.poolName(d.Addr))
	if len(broken) > 0 {
		remedy = ""
	}
	e.add(grave(problems(broken))...)
	e.add(e.finding(d, remedy))
}

// ineligible says what to do about what keeps most nodes out.
func (e *explanation) ineligible(d decide.Explanation, way Way) {
	if d.Protocol == decide.BGP {
		adverts, peers := e.ProblemsOf(bgpKind, d.Advertisements...), left(e.ProblemsOf(peerKind))
		if slices.ContainsFunc(adverts, func(p config.Problem) bool { return p.Reason == parse.UnusablePeer }) {
			adverts, peers = peers, adverts // what is wrong with the peer is the cause
		}
		e.add(grave(problems(adverts))...)
		e.add(grave(problems(peers))...)
	}
	e.add(e.finding(d, e.remedyFor(foremost(way.LeftOut))))
	for _, l := range way.LeftOut {
		if l.Why == "no live speaker" {
			e.add(e.speakerDown(l.Node)...)
		}
	}
}

// foremost returns the reason to mend first: of those that somebody wants to be so (a selector, a label, a drain) only when there is no other,
// and then the one that keeps most nodes out.
func foremost(out []decide.LeftOut) string {
	count := map[string]int{}
	best, worst := "", len(wanted())
	for _, l := range out {
		count[l.Why]++
		rank := slices.IndexFunc(wanted(), func(text string) bool { return strings.Contains(l.Why, text) })
		if rank < worst || rank == worst && count[l.Why] > count[best] {
			best, worst = l.Why, rank
		}
	}
	return best
}

// wanted are words of obstacles that somebody wants to be there, what is the most likely mistake first. What else keeps a node out, nobody wants.
func wanted() []string {
	return []string{"out-of-service", "drain", "exclude-from-external-load-balancers", "not selected"}
}

// remedyFor knows what to do about decide's obstacles; what it does not know it leaves to the message.
func (e *explanation) remedyFor(why string) string {
	for _, known := range []struct{ text, remedy string }{
		{"no live speaker", "see why no speaker runs there: kubectl -n " + e.Install.Namespace + " get pods -o wide"},
		{"exclude-from-external-load-balancers", "take the label off the nodes that should announce, or set speaker.ignoreExcludeLB (single-node and control-plane clusters)"},
		{"out-of-service", "take the taint node.kubernetes.io/out-of-service away when the node is back"},
		{"cordon", "kubectl uncordon NODE"},
		{"drain", "let a node announce again: kubectl herald undrain NODE"},
		{"NetworkUnavailable", "the cluster's network plugin says that the node has no network: see its Pods there"},
		{"not selected", "let the advertisement's nodeSelectors match a node"},
		{"no interface that is up", "correct the advertisement's interfaces; kubectl herald status -o json lists those of each node"},
		{"no interface in the subnet", "give a node an address in the subnet of the pool"},
		{"no ready endpoint on the node", "run a Pod of the Service on a node that may announce, or set externalTrafficPolicy to Cluster"},
		{"no BGPPeer", "create a BGPPeer that selects the node and has the address's family, and name it in the advertisement's peers (or leave peers empty)"},
	} {
		if strings.Contains(why, known.text) {
			return known.remedy
		}
	}
	return ""
}

// speakerDown says of a node without a live speaker what can be seen of it.
func (e *explanation) speakerDown(node string) []finding.Finding {
	f := finding.Finding{Level: finding.Error, About: "node " + node, Reason: "NoSpeaker"}
	n := e.Node(node)
	switch pod := e.SpeakerPod(node); {
	case n != nil && !n.Ready:
		f.Reason, f.Message, f.Remedy = "NodeNotReady", "the node is not Ready", "see kubectl describe node "+node
	case !e.Install.Found:
		return nil
	case pod == nil:
		f.Message, f.Remedy = "no Pod of the speaker is on the node", "see the DaemonSet's events; its nodeSelector and tolerations must admit the node"
	case !picture.Runs(pod):
		f.Message = "the speaker's Pod does not run: " + picture.PodTrouble(pod)
		f.Remedy = "kubectl -n " + pod.Namespace + " logs " + pod.Name + " --previous"
	case e.Reports[node] == nil:
		f.Message, f.Remedy = "the speaker's Pod runs and has reported nothing yet", "kubectl -n "+pod.Namespace+" logs "+pod.Name
	default:
		return nil
	}
	return []finding.Finding{f}
}

// able says of a node that may announce to whom it can.
func (e *explanation) able(d decide.Explanation, a decide.Announcer) Able {
	out := Able{Node: a.Node}
	for _, peer := range a.Peers {
		s, ok := e.Session(a.Node, peer)
		why := picture.Down(s, ok, config.FamilyOf(d.Addr))
		out.Peers = append(out.Peers, Peer{Name: peer, Up: why == "", Why: why})
	}
	return out
}

// answered checks that somebody answers by ARP or NDP.
func (e *explanation) answered(d decide.Explanation, way *Way) {
	for _, s := range e.Snapshot.Speakers {
		for _, c := range s.Conflicts {
			if c.Address == d.Addr && e.Members[s.Node] {
				way.Reason, way.Message = decide.AddressConflict, c.MAC+" uses the address as well"
				e.add(finding.Finding{
					Level: finding.Error, About: e.about(), Reason: string(decide.AddressConflict),
					Message: c.MAC + " uses " + d.Addr.String() + " as well, seen by " + s.Node + " on " + c.Interface,
					Remedy:  "find the device with that MAC and give it another address, or exclude the address from the pool",
				})
			}
		}
	}
	if len(way.Answering) > 0 || way.Reason == decide.AddressConflict { // nobody answers while it is in dispute
		return
	}
	way.Reason, way.Message = "NotAnswered", "no speaker answers yet; "+d.Owner+" should"
	for _, a := range d.Able { // who was chosen is known to the speakers alone, if they hear each other
		if n := e.Node(a.Node); n != nil && !n.Ready {
			e.add(e.speakerDown(a.Node)...)
		}
		e.add(slices.DeleteFunc(e.Troubles(a.Node), func(f finding.Finding) bool { return f.Level != finding.Error })...)
	}
	e.add(finding.Finding{
		Level: finding.Error, About: e.about(), Reason: "NotAnswered", Message: d.Addr.String() + ": " + way.Message,
		Remedy: "look again in a moment; if it stays, read the log of the speaker on " + d.Owner,
	})
}

// told checks that some router has the route.
func (e *explanation) told(d decide.Explanation, way *Way) {
	var down []finding.Finding
	up := false
	for _, a := range way.Able {
		for _, p := range a.Peers {
			if p.Up {
				up = true
				continue
			}
			down = append(down, finding.Finding{
				Level: finding.Warning, About: "BGP session of " + a.Node + " to " + p.Name, Reason: "SessionDown", Message: p.Why,
				Remedy: sessionRemedy(p.Why),
			})
		}
	}
	if !up {
		way.Reason = decide.PeersDown
		way.Message = "no session that would carry the route is up"
		down = grave(down)
	}
	e.add(down...)
	if !up {
		d.Reason, d.Message = way.Reason, way.Message
		e.add(e.finding(d, ""))
	}
}

// sessionRemedy says where to look when a session is down.
func sessionRemedy(why string) string {
	low := strings.ToLower(why)
	switch {
	case strings.Contains(low, "not agreed"):
		return "enable the address family for this neighbour on the router, or take it out of the BGPPeer's families"
	case strings.Contains(low, "as number") || strings.Contains(low, "bad peer as"):
		return "compare myASN and peerASN with the router's configuration"
	case strings.Contains(low, "refuse"):
		return "the router does not accept: check that it has this node as neighbour, its port, and firewalls"
	case strings.Contains(low, "route to host") || strings.Contains(low, "unreachable"):
		return "the node cannot reach the router: check addresses, VLAN and routes"
	case strings.Contains(low, "timeout") || strings.Contains(low, "timed out") || strings.Contains(low, "time out") || strings.Contains(low, "does not answer"):
		return "nothing comes back from the router: check its address, firewalls, and that the TCP MD5 passwords are equal"
	}
	return "kubectl herald bgp shows all sessions; compare the BGPPeer with the router's configuration"
}

// health adds what deserves a look though the Service has all it asks for.
func (e *explanation) health() {
	seen := map[string]bool{}
	for _, a := range e.report.Addresses {
		for _, w := range a.Ways {
			for _, node := range announcers(w) {
				if !seen[node] {
					seen[node] = true
					e.add(e.asides(node)...)
				}
			}
		}
	}
}

// asides are what a speaker reports of itself and its node, as long as it is not among the causes.
func (e *explanation) asides(node string) []finding.Finding {
	var out []finding.Finding
	for _, f := range e.Troubles(node) {
		f.Level = finding.Warning
		if !slices.ContainsFunc(e.report.Causes, func(had finding.Finding) bool { return had.About == f.About && had.Reason == f.Reason }) {
			out = append(out, f)
		}
	}
	return out
}

// announcers are the nodes that an address is announced from.
func announcers(w Way) []string {
	if w.Protocol == decide.L2 {
		if w.Owner == "" {
			return nil
		}
		return []string{w.Owner}
	}
	var out []string
	for _, a := range w.Able {
		out = append(out, a.Node)
	}
	return out
}

// grave makes errors of findings: what is elsewhere worth a look is here in the way.
func grave(all []finding.Finding) []finding.Finding {
	for i := range all {
		all[i].Level = finding.Error
	}
	return all
}
