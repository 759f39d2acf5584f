// Package check looks for what usually goes wrong around Herald, before an installation and after: in kube-proxy's settings, on the nodes, in
// the pools' surroundings. What can only be seen on a node is told by the speaker there (speaker/inspect, conditions of its SpeakerStatus).
package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/explain"
	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config"
)

// Result is what was looked at, and found.
type Result struct {
	Healthy bool    `json:"healthy"`
	Checks  []Check `json:"checks"`
}

// Check is one thing looked at.
type Check struct {
	Name     string            `json:"name"`
	Findings []finding.Finding `json:"findings"` // none: all is well
	Skipped  string            `json:"skipped,omitempty"`
}

// Cluster looks at everything. version is the plugin's own.
func Cluster(p *picture.Picture, version string) Result {
	var r Result
	for _, one := range []struct {
		name string
		look func(*picture.Picture) ([]finding.Finding, string)
	}{
		{"Kubernetes version", kubernetes},
		{"Herald's kinds", kinds},
		{"versions of Herald", func(p *picture.Picture) ([]finding.Finding, string) { return skew(p, version) }},
		{"nodes that may announce", excluded},
		{"kube-proxy", proxy},
		{"pools' surroundings", surroundings},
		{"configuration", configuration},
		{"speakers' Pods", pods},
		{"nodes as their speakers see them", nodes},
		{"clocks", clocks},
	} {
		found, skipped := one.look(p)
		r.Checks = append(r.Checks, Check{one.name, finding.Sort(found), skipped})
	}
	r.Healthy = !slices.ContainsFunc(r.Checks, func(c Check) bool { return finding.Errors(c.Findings) })
	return r
}

// minKubernetes is the oldest minor version of Kubernetes 1 whose CRD validation has what Herald's need: ip() and cidr() in CEL.
const minKubernetes = 31

func kubernetes(p *picture.Picture) ([]finding.Finding, string) {
	minor, ok := minorOf(p.Cluster.Server)
	if !ok {
		return nil, "the API server's version is not known"
	}
	if minor < minKubernetes {
		return []finding.Finding{{
			Level: finding.Error, About: "API server", Reason: "KubernetesTooOld",
			Message: fmt.Sprintf("it is %s; Herald's kinds need Kubernetes 1.%d or newer", p.Cluster.Server, minKubernetes), Remedy: "upgrade the cluster",
		}}, ""
	}
	return nil, ""
}

// minorOf reads v1.MINOR….
func minorOf(version string) (int, bool) {
	rest, ok := strings.CutPrefix(version, "v1.")
	if !ok {
		return 0, false
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.Atoi(rest[:end])
	return n, err == nil
}

func kinds(p *picture.Picture) ([]finding.Finding, string) {
	if len(p.Cluster.Missing) == 0 {
		return nil, ""
	}
	return []finding.Finding{{
		Level: finding.Error, About: "API server", Reason: "NoCRDs", Message: "it does not serve " + strings.Join(p.Cluster.Missing, ", "),
		Remedy: "install the chart with crds.install=true",
	}}, ""
}

// skew compares the versions of speakers, chart and plugin. While an upgrade rolls out they differ.
func skew(p *picture.Picture, plugin string) ([]finding.Finding, string) {
	by := map[string][]string{}
	for _, s := range p.Snapshot.Speakers {
		if p.Members[s.Node] && s.Version != "" {
			by[s.Version] = append(by[s.Version], s.Node)
		}
	}
	if len(by) == 0 {
		return nil, "no speaker has reported"
	}
	var out []finding.Finding
	if len(by) > 1 {
		var parts []string
		for v, nodes := range by {
			parts = append(parts, v+" on "+few(nodes))
		}
		slices.Sort(parts)
		out = append(out, finding.Finding{
			Level: finding.Warning, About: "speakers", Reason: "VersionSkew", Message: "they run different versions: " + strings.Join(parts, "; "),
			Remedy: "let the rollout of the DaemonSet finish",
		})
	}
	if _, same := by[plugin]; !same && plugin != "" && len(by) == 1 {
		out = append(out, finding.Finding{
			Level: finding.Warning, About: "kubectl herald", Reason: "VersionSkew", Message: "this plugin is " + plugin + ", the speakers run another version",
			Remedy: "use the plugin of the same release: what it explains may differ from what the daemons do",
		})
	}
	if c, s := p.Install.Controller, p.Install.Speakers; c.Image != "" && s.Image != "" && c.Image != s.Image {
		out = append(out, finding.Finding{
			Level: finding.Warning, About: "controller", Reason: "VersionSkew", Message: "it runs the image " + c.Image + ", the speakers " + s.Image,
			Remedy: "upgrade both with the chart",
		})
	}
	return out, ""
}

func few(names []string) string {
	slices.Sort(names)
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:3], ", "), len(names)-3)
}

// excluded looks whether labels and taints leave any node.
func excluded(p *picture.Picture) ([]finding.Finding, string) {
	var labelled, drained, left []string
	for _, n := range p.Snapshot.Nodes {
		switch {
		case n.ExcludeLB && !p.Install.IgnoreExcludeLB:
			labelled = append(labelled, n.Name)
		case n.Drain || n.OutOfService || n.NetworkUnavailable || n.Unschedulable && p.Install.DrainOnCordon:
			drained = append(drained, n.Name)
		default:
			left = append(left, n.Name)
		}
	}
	if len(left) > 0 || len(p.Snapshot.Nodes) == 0 {
		return nil, ""
	}
	f := finding.Finding{Level: finding.Error, About: "nodes", Reason: "NoNodeMayAnnounce"}
	f.Message = "none may announce: "
	if len(labelled) > 0 {
		f.Message += few(labelled) + " labelled " + corev1.LabelNodeExcludeBalancers
		f.Remedy = "take the label off the nodes that should announce (kubeadm puts it on control-plane nodes), or set speaker.ignoreExcludeLB"
	}
	if len(drained) > 0 {
		if len(labelled) > 0 {
			f.Message += "; "
		}
		f.Message += few(drained) + " drained or without network"
	}
	return []finding.Finding{f}, ""
}

// surroundings looks whether pools hold addresses that belong to others.
func surroundings(p *picture.Picture) ([]finding.Finding, string) {
	return fromProblems(p, func(x config.Problem) bool { return around(x.Reason) }), ""
}

func around(reason string) bool {
	return slices.Contains([]string{"NodeAddress", "GatewayAddress", "ServiceCIDR", "PodCIDR"}, reason)
}

func configuration(p *picture.Picture) ([]finding.Finding, string) {
	return fromProblems(p, func(x config.Problem) bool { return !around(x.Reason) }), ""
}

func fromProblems(p *picture.Picture, which func(config.Problem) bool) []finding.Finding {
	var out []finding.Finding
	for _, problem := range p.Snapshot.Problems {
		if which(problem) {
			out = append(out, explain.FromProblem(problem))
		}
	}
	return out
}

// pods looks for speakers that do not stay up: their last words say why, a port that is taken for one.
func pods(p *picture.Picture) ([]finding.Finding, string) {
	if len(p.Install.Speakers.Pods) == 0 {
		return nil, "there are none, or they cannot be read"
	}
	var out []finding.Finding
	for _, pod := range slices.Concat(p.Install.Controller.Pods, p.Install.Speakers.Pods) {
		if picture.Runs(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		out = append(out, finding.Finding{
			Level: finding.Error, About: "Pod " + pod.Name + " on " + pod.Spec.NodeName, Reason: "NotRunning", Message: picture.PodTrouble(pod),
			Remedy: "kubectl -n " + pod.Namespace + " logs " + pod.Name + " --previous",
		})
	}
	return out, ""
}

// nodes collects what the speakers say of themselves and their nodes.
func nodes(p *picture.Picture) ([]finding.Finding, string) {
	if len(p.Members) == 0 {
		return nil, "no speaker is alive to tell: what can only be seen on a node (proxy_arp, rp_filter, ports, sockets) is not known"
	}
	var out []finding.Finding
	for _, n := range p.Snapshot.Nodes {
		out = append(out, p.Troubles(n.Name)...)
	}
	return out, ""
}

// clockMost is how far clocks may be apart. A node renews its Lease every 10 s, and an idle reader's answer may be as old as that.
const clockMost = 30 * time.Second

// clocks compares when nodes say they renewed their Leases with the API server's clock.
func clocks(p *picture.Picture) ([]finding.Finding, string) {
	if p.Cluster.Time.IsZero() || len(p.Cluster.Leases) == 0 {
		return nil, "the nodes' Leases or the API server's clock could not be read"
	}
	var out []finding.Finding
	for _, l := range p.Cluster.Leases {
		n := p.Node(l.Name)
		if n == nil || !n.Ready || l.Spec.RenewTime == nil {
			continue
		}
		ahead := l.Spec.RenewTime.Sub(p.Cluster.Time)
		lasts := time.Duration(0)
		if l.Spec.LeaseDurationSeconds != nil {
			lasts = time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second
		}
		switch {
		case ahead > clockMost:
			out = append(out, off(l.Name, "ahead of", ahead))
		case -ahead > lasts+clockMost: // were it only late, the node would not be Ready
			out = append(out, off(l.Name, "behind", -ahead))
		}
	}
	return out, ""
}

func off(node, how string, by time.Duration) finding.Finding {
	return finding.Finding{
		Level: finding.Warning, About: "node " + node, Reason: "ClockSkew",
		Message: fmt.Sprintf("its clock is about %s %s the API server's", by.Round(time.Second), how),
		Remedy:  "run a time service on the node: certificates, tokens and the times that Herald reports depend on the clock",
	}
}

// Draw draws the result.
func (r Result) Draw(c *print.Screen) {
	for _, one := range r.Checks {
		word := print.Cell{Text: "ok     ", Style: print.Good}
		switch {
		case finding.Errors(one.Findings):
			word = print.Cell{Text: "ERROR  ", Style: print.Bad}
		case len(one.Findings) > 0:
			word = print.Cell{Text: "WARNING", Style: print.Odd}
		case one.Skipped != "":
			word = print.Cell{Text: "unknown", Style: print.Faint}
		}
		name := one.Name
		if one.Skipped != "" {
			name += ": " + one.Skipped
		}
		c.Line(word, print.C(" "+name))
		for _, f := range one.Findings {
			c.Line(print.C("          "+f.About+": "), print.C(f.Reason+": "+f.Message))
			if f.Remedy != "" {
				c.Line(print.C("          -> " + f.Remedy))
			}
		}
	}
}
