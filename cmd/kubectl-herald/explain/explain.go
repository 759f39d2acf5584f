// Package explain follows one Service from what it asks for to who announces it, and says what is in the way, the likeliest cause first.
// It decides nothing itself: assignment is asked of controller/ipam, announcement of speaker/decide.
package explain

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/speaker/decide"
)

// Report is everything about one Service.
type Report struct {
	Service   string            `json:"service"`
	Healthy   bool              `json:"healthy"` // every address it asks for is assigned and announced
	Causes    []finding.Finding `json:"causes"`  // the likeliest first
	Request   Request           `json:"request"`
	Pools     []Pool            `json:"pools"`
	Endpoints []Endpoints       `json:"endpoints"`
	Addresses []Address         `json:"addresses"`
}

// Request is what the Service asks for.
type Request struct {
	Class         string   `json:"class,omitempty"`
	Families      []string `json:"families"`
	TrafficPolicy string   `json:"externalTrafficPolicy"`
	Pools         []string `json:"pools,omitempty"`
	Addresses     []string `json:"addresses,omitempty"`
	SharingKey    string   `json:"sharingKey,omitempty"`
}

// Pool is a pool as the Service sees it.
type Pool struct {
	Name       string `json:"name"`
	Candidate  bool   `json:"candidate"`
	Why        string `json:"why"`
	FreeIPv4   int64  `json:"freeIPv4"`
	FreeIPv6   int64  `json:"freeIPv6"`
	InForce    bool   `json:"inForce"`
	AutoAssign bool   `json:"autoAssign"`
}

// Endpoints counts what is behind the Service on a node.
type Endpoints struct {
	Node    string `json:"node"`
	Ready   int    `json:"ready"`
	Serving int    `json:"serving"` // not ready, but serving while they terminate
}

// Address is one address of the Service.
type Address struct {
	Address netip.Addr `json:"address"`
	Pool    string     `json:"pool"`
	Ways    []Way      `json:"ways"`
}

// Way is how an address is announced, or would be.
type Way struct {
	Protocol       decide.Protocol  `json:"protocol"` // "" when no advertisement covers the address
	Reason         decide.Reason    `json:"reason"`
	Message        string           `json:"message,omitempty"`
	Advertisements []string         `json:"advertisements"`
	Owner          string           `json:"owner,omitempty"` // L2: who should answer
	Answering      []Answering      `json:"answering,omitempty"`
	Asked          string           `json:"asked,omitempty"`     // L2: the node that the owner is asked to hand it to
	GoesBack       string           `json:"goesBack,omitempty"`  // L2: its first choice, to which failbackDelay brings it back
	Successor      string           `json:"successor,omitempty"` // L2: who would probably answer if the owner went
	Able           []Able           `json:"able"`
	LeftOut        []decide.LeftOut `json:"leftOut"`
}

// Answering is a node that says it answers by ARP or NDP.
type Answering struct {
	Node      string `json:"node"`
	Interface string `json:"interface"`
	Since     string `json:"since"` // RFC 3339
}

// Able is a node that may announce.
type Able struct {
	Node  string `json:"node"`
	Peers []Peer `json:"peers,omitempty"` // BGP
}

// Peer is a router that a node should tell the address.
type Peer struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
	Why  string `json:"why,omitempty"` // it is not
}

// Service explains a Service that Herald serves. Of one that is none of Herald's, Stranger says why.
func Service(p *picture.Picture, svc *config.Service) Report {
	e := &explanation{Picture: p, svc: svc}
	e.report = Report{Service: svc.String(), Request: request(svc), Endpoints: endpoints(svc), Pools: e.pools()}
	for _, a := range svc.Ingress {
		e.report.Addresses = append(e.report.Addresses, Address{Address: a, Pool: e.poolName(a)})
	}
	e.allocation()
	for _, one := range p.Explain.Service(svc.Key) {
		e.announcement(one)
	}
	e.health()
	e.report.Causes = slices.Compact(e.report.Causes)
	e.report.Healthy = !finding.Errors(e.report.Causes)
	return e.report
}

// Stranger explains a Service that Herald leaves alone.
func Stranger(p *picture.Picture, svc *corev1.Service) Report {
	about := "Service " + svc.Namespace + "/" + svc.Name
	f := finding.Finding{Level: finding.Error, About: about}
	class := ""
	if svc.Spec.LoadBalancerClass != nil {
		class = *svc.Spec.LoadBalancerClass
	}
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		f.Reason, f.Message = "NotALoadBalancer", "its type is "+string(svc.Spec.Type)+": Herald serves Services of type LoadBalancer"
		f.Remedy = "set spec.type to LoadBalancer"
	} else {
		f.Reason = "OtherClass"
		f.Message = "its loadBalancerClass is " + quoted(class) + ", and Herald serves " + classes(p.Install.Class)
		f.Remedy = "make the Service anew with the class that Herald serves (the field cannot be changed), or install Herald for that class"
	}
	return Report{
		Service: svc.Namespace + "/" + svc.Name, Causes: []finding.Finding{f},
		Request: Request{Class: class, TrafficPolicy: string(svc.Spec.ExternalTrafficPolicy)},
	}
}

func quoted(class string) string {
	if class == "" {
		return "not set"
	}
	return `"` + class + `"`
}

func classes(class string) string {
	if class == "" {
		return "Services without a class"
	}
	return `class "` + class + `"`
}

// explanation is a Report in the making.
type explanation struct {
	*picture.Picture
	svc    *config.Service
	report Report
}

// add puts causes after those that are there.
func (e *explanation) add(causes ...finding.Finding) {
	e.report.Causes = append(e.report.Causes, causes...)
}

// about names the Service.
func (e *explanation) about() string { return "Service " + e.svc.String() }

func (e *explanation) poolName(a netip.Addr) string {
	if pool := e.PoolOf(a); pool != nil {
		return pool.Name
	}
	return ""
}

func (e *explanation) address(a netip.Addr) *Address {
	for i := range e.report.Addresses {
		if e.report.Addresses[i].Address == a {
			return &e.report.Addresses[i]
		}
	}
	return &Address{}
}

func request(svc *config.Service) Request {
	r := Request{TrafficPolicy: "Cluster", Pools: svc.Request.Pools, SharingKey: svc.SharingKey}
	if svc.TrafficPolicy == config.Local {
		r.TrafficPolicy = "Local"
	}
	for _, f := range svc.Families {
		r.Families = append(r.Families, f.String())
	}
	for _, a := range svc.Request.Addresses {
		r.Addresses = append(r.Addresses, a.String())
	}
	return r
}

func endpoints(svc *config.Service) []Endpoints {
	var out []Endpoints
	at := func(node string) *Endpoints {
		i, ok := slices.BinarySearchFunc(out, node, func(e Endpoints, n string) int { return compare(e.Node, n) })
		if !ok {
			out = slices.Insert(out, i, Endpoints{Node: node})
		}
		return &out[i]
	}
	for node, n := range svc.Endpoints.Ready {
		at(node).Ready = n
	}
	for node, n := range svc.Endpoints.Serving {
		at(node).Serving = n
	}
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// problems turns what is wrong with config objects into causes.
func problems(all []config.Problem) []finding.Finding {
	var out []finding.Finding
	for _, p := range all {
		out = append(out, FromProblem(p))
	}
	return out
}

// FromProblem puts what is wrong with a config object into the plugin's words.
func FromProblem(p config.Problem) finding.Finding {
	f := finding.Finding{Level: finding.Error, About: p.Ref.String(), Reason: p.Reason, Message: p.Message}
	if p.Field != "" {
		f.Message = p.Field + ": " + p.Message
	}
	if p.Warning {
		f.Level = finding.Warning
	} else if !p.LastGood {
		f.Message += " (the object is left out)"
	}
	return f
}

// left returns the problems that keep objects of a kind out.
func left(all []config.Problem) []config.Problem {
	return slices.DeleteFunc(slices.Clone(all), func(p config.Problem) bool { return p.Warning || p.LastGood })
}

// kinds of config objects that causes are looked for in.
const (
	poolKind = parse.KindPool
	l2Kind   = parse.KindL2Advertisement
	bgpKind  = parse.KindBGPAdvertisement
	peerKind = parse.KindPeer
)
