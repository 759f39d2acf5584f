// Package show lists what there is: the installation at a glance, the addresses and who announces them, the BGP sessions.
package show

import (
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/cmd/kubectl-herald/explain"
	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config"
)

// Status is the installation at a glance.
type Status struct {
	Healthy    bool              `json:"healthy"`
	Findings   []finding.Finding `json:"findings"`
	Namespace  string            `json:"namespace"`
	Class      string            `json:"loadBalancerClass,omitempty"`
	Controller Workload          `json:"controller"`
	Speakers   Workload          `json:"speakers"`
	Services   Services          `json:"services"`
	Pools      []Pool            `json:"pools"`
	Nodes      []Node            `json:"nodes"`
}

// Workload is a daemon and how many of it are ready.
type Workload struct {
	Version string `json:"version,omitempty"`
	Want    int32  `json:"want"`
	Ready   int32  `json:"ready"`
}

// Services counts Services.
type Services struct {
	Total     int `json:"total"`
	Allocated int `json:"allocated"` // have all addresses they ask for
	Announced int `json:"announced"` // and all of them are announced
}

// Pool is how full a pool is.
type Pool struct {
	Name    string `json:"name"`
	InForce bool   `json:"inForce"`
	IPv4    Counts `json:"ipv4"`
	IPv6    Counts `json:"ipv6"`
}

// Counts counts addresses.
type Counts struct {
	Total     int64 `json:"total"`
	Assigned  int64 `json:"assigned"`
	Reserved  int64 `json:"reserved"`
	Available int64 `json:"available"`
}

// Node is a node and its speaker.
type Node struct {
	Name       string      `json:"name"`
	Ready      bool        `json:"ready"`
	Draining   string      `json:"draining,omitempty"` // why it announces nothing
	Speaker    bool        `json:"speaker"`            // alive
	Version    string      `json:"version,omitempty"`
	Started    string      `json:"started,omitempty"` // RFC 3339
	Alive      int32       `json:"alive"`             // speakers that this one sees
	Members    int32       `json:"members"`
	L2         int         `json:"l2Addresses"`
	Sessions   int         `json:"bgpSessions"`
	Up         int         `json:"bgpEstablished"`
	Interfaces []Interface `json:"interfaces"`
}

// Interface is a network interface that may announce.
type Interface struct {
	Name    string   `json:"name"`
	Up      bool     `json:"up"`
	MAC     string   `json:"mac,omitempty"`
	Subnets []string `json:"subnets,omitempty"`
}

// MakeStatus puts the status together.
func MakeStatus(p *picture.Picture) Status {
	s := Status{
		Namespace: p.Install.Namespace, Class: p.Install.Class,
		Controller: workload(p.Install.Controller), Speakers: workload(p.Install.Speakers), Pools: pools(p), Nodes: nodes(p),
	}
	found := slices.Concat(missing(p), daemons(p), problems(p), speakers(p), sessions(p))
	for _, svc := range p.Snapshot.Services {
		r := explain.Service(p, svc)
		s.Services.Total++
		if out := p.Outcome(svc.Key); out != nil && out.Allocated.Status == "True" && slices.Equal(out.Addresses, svc.Ingress) {
			s.Services.Allocated++
		}
		if r.Healthy && len(svc.Ingress) > 0 {
			s.Services.Announced++
		}
		found = append(found, first(r)...)
	}
	s.Findings = finding.Sort(found)
	s.Healthy = !finding.Errors(s.Findings)
	return s
}

// first keeps of what is said of a Service the likeliest cause.
func first(r explain.Report) []finding.Finding {
	if r.Healthy || len(r.Causes) == 0 {
		return nil
	}
	f := r.Causes[0]
	if f.About != "Service "+r.Service {
		f.Message = f.About + ": " + f.Message
		f.About = "Service " + r.Service
	}
	if f.Remedy == "" {
		namespace, name, _ := strings.Cut(r.Service, "/")
		f.Remedy = "kubectl herald explain service " + namespace + "/" + name
	}
	return []finding.Finding{f}
}

func workload(w picture.Workload) Workload {
	return Workload{Version: w.Version, Want: w.Want, Ready: w.Ready}
}

func pools(p *picture.Picture) []Pool {
	var out []Pool
	for _, o := range p.Snapshot.Objects {
		if o.Kind != "IPAddressPool" {
			continue
		}
		status, ok := p.Plan.Pools[o.Name]
		out = append(out, Pool{o.Name, ok, counts(status.IPv4), counts(status.IPv6)})
	}
	return out
}

func counts(c config.PoolCounts) Counts {
	return Counts{c.Total, c.Assigned, c.Reserved, c.Available}
}

func nodes(p *picture.Picture) []Node {
	var out []Node
	for _, n := range p.Snapshot.Nodes {
		row := Node{Name: n.Name, Ready: n.Ready, Draining: draining(p, n), Speaker: p.Members[n.Name]}
		if s := p.Reports[n.Name]; s != nil {
			row.Version = s.Status.Version
			if s.Status.StartedAt != nil {
				row.Started = s.Status.StartedAt.UTC().Format(time.RFC3339)
			}
			if g := s.Status.Gossip; g != nil {
				row.Alive, row.Members = g.Alive, g.Members
			}
		}
		row.fill(p)
		out = append(out, row)
	}
	return out
}

// fill takes in what the node's speaker reports of its work.
func (n *Node) fill(p *picture.Picture) {
	for _, s := range p.Snapshot.Speakers {
		if s.Node != n.Name {
			continue
		}
		n.L2 = len(s.L2)
		n.Sessions = len(s.Sessions)
		for _, b := range s.Sessions {
			if b.State == picture.Established {
				n.Up++
			}
		}
		for _, i := range s.Interfaces {
			row := Interface{Name: i.Name, Up: i.Up, MAC: i.MAC}
			for _, net := range i.Subnets {
				row.Subnets = append(row.Subnets, net.String())
			}
			n.Interfaces = append(n.Interfaces, row)
		}
	}
}

func draining(p *picture.Picture, n *config.Node) string {
	switch {
	case n.Drain:
		return "taint heraldlb.io/drain"
	case n.OutOfService:
		return "taint node.kubernetes.io/out-of-service"
	case n.ExcludeLB && !p.Install.IgnoreExcludeLB:
		return "label node.kubernetes.io/exclude-from-external-load-balancers"
	case n.Unschedulable && p.Install.DrainOnCordon:
		return "cordoned"
	}
	return ""
}
