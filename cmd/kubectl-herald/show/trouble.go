package show

import (
	"fmt"
	"strings"

	"github.com/heraldlb/herald/cmd/kubectl-herald/explain"
	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config"
)

// missing says what is not there at all.
func missing(p *picture.Picture) []finding.Finding {
	var out []finding.Finding
	if len(p.Cluster.Missing) > 0 {
		out = append(out, finding.Finding{
			Level: finding.Error, About: "API server", Reason: "NoCRDs", Message: "it does not serve " + strings.Join(p.Cluster.Missing, ", "),
			Remedy: "install the chart with crds.install=true",
		})
	}
	for _, text := range p.Cluster.Unread {
		out = append(out, finding.Finding{Level: finding.Warning, About: "API server", Reason: "NotRead", Message: text})
	}
	return out
}

// daemons says which of Herald's Pods should run and do not.
func daemons(p *picture.Picture) []finding.Finding {
	if !p.Install.Found {
		if len(p.Snapshot.Speakers) > 0 {
			return nil // something speaks, though what runs it cannot be seen
		}
		return []finding.Finding{{
			Level: finding.Error, About: "Herald", Reason: "NotInstalled", Message: "no Deployment or DaemonSet carries the chart's labels",
			Remedy: "install the chart",
		}}
	}
	var out []finding.Finding
	logs := "kubectl -n " + p.Install.Namespace + " get pods -o wide"
	switch c := p.Install.Controller; {
	case c.Name == "" || c.Ready == 0:
		out = append(out, finding.Finding{
			Level: finding.Error, About: "controller", Reason: "ControllerDown", Message: "no controller is ready: no Service is given an address, and conditions grow old", Remedy: logs,
		})
	case c.Ready < c.Want:
		out = append(out, finding.Finding{
			Level: finding.Warning, About: "controller", Reason: "ControllerDegraded", Message: fmt.Sprintf("%d of %d are ready", c.Ready, c.Want), Remedy: logs,
		})
	}
	if p.Install.Speakers.Name == "" {
		out = append(out, finding.Finding{Level: finding.Error, About: "speaker", Reason: "NoDaemonSet", Message: "there is no DaemonSet of speakers", Remedy: "install the chart"})
	}
	return out
}

// problems says what is wrong with config objects.
func problems(p *picture.Picture) []finding.Finding {
	var out []finding.Finding
	for _, problem := range p.Snapshot.Problems {
		out = append(out, explain.FromProblem(problem))
	}
	return out
}

// speakers says which nodes have no speaker, or one that is not well.
func speakers(p *picture.Picture) []finding.Finding {
	var out []finding.Finding
	for _, n := range p.Snapshot.Nodes {
		pod := p.SpeakerPod(n.Name)
		switch {
		case p.Members[n.Name]:
			out = append(out, p.Troubles(n.Name)...)
		case !n.Ready:
			out = append(out, finding.Finding{Level: finding.Error, About: "node " + n.Name, Reason: "NodeNotReady", Message: "the node is not Ready, its speaker is taken for dead"})
		case pod != nil && !picture.Runs(pod):
			out = append(out, finding.Finding{
				Level: finding.Error, About: "node " + n.Name, Reason: "NoSpeaker", Message: "its speaker does not run: " + picture.PodTrouble(pod),
				Remedy: "kubectl -n " + pod.Namespace + " logs " + pod.Name + " --previous",
			})
		case pod != nil:
			out = append(out, finding.Finding{
				Level: finding.Error, About: "node " + n.Name, Reason: "NoSpeaker", Message: "its speaker has reported nothing yet",
				Remedy: "kubectl -n " + pod.Namespace + " logs " + pod.Name,
			})
		case p.Install.Speakers.Name != "":
			out = append(out, finding.Finding{
				Level: finding.Warning, About: "node " + n.Name, Reason: "NoSpeaker", Message: "no speaker runs there, so the node announces nothing",
				Remedy: "if it should announce, let the chart's speaker.nodeSelector and speaker.tolerations admit it",
			})
		}
		if g := p.Reports[n.Name]; p.Members[n.Name] && g.Status.Gossip != nil && g.Status.Gossip.Alive < g.Status.Gossip.Members {
			out = append(out, finding.Finding{
				Level: finding.Warning, About: "speaker on " + n.Name, Reason: "GossipDegraded",
				Message: fmt.Sprintf("it sees %d of %d speakers", g.Status.Gossip.Alive, g.Status.Gossip.Members),
				Remedy:  "the gossip port must be open between all nodes, TCP and UDP",
			})
		}
	}
	return out
}

// sessions says which BGP sessions are down.
func sessions(p *picture.Picture) []finding.Finding {
	var out []finding.Finding
	for _, s := range p.Snapshot.Speakers {
		if !p.Members[s.Node] {
			continue
		}
		for _, b := range s.Sessions {
			if b.State == picture.Established {
				if b.BFD != "" && b.BFD != "Up" {
					out = append(out, unwatched(s.Node, b))
				}
				continue
			}
			out = append(out, finding.Finding{
				Level: finding.Error, About: "BGP session of " + s.Node + " to " + b.Peer, Reason: "SessionDown",
				Message: strings.TrimSuffix(b.State+": "+b.LastError, ": "), Remedy: "kubectl herald bgp",
			})
		}
	}
	return out
}

// unwatched says that BFD does not see the router of a session which is up.
func unwatched(node string, b config.Session) finding.Finding {
	return finding.Finding{
		Level: finding.Warning, About: "BGP session of " + node + " to " + b.Peer, Reason: "BFDDown",
		Message: "the session is up, and BFD is " + b.BFD + ": a failure is noticed when the hold time is over, not sooner",
		Remedy:  "let the router run BFD for this neighbour (UDP 3784, multihop 4784), or take bfdProfile out of the BGPPeer",
	}
}
