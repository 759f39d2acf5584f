package show

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/cmd/kubectl-herald/explain"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// VIP is one address of a Service, and one way in which it is announced.
type VIP struct {
	Address  netip.Addr `json:"address"`
	Service  string     `json:"service"`
	Pool     string     `json:"pool"`
	Protocol string     `json:"protocol,omitempty"` // ARP, NDP or BGP; "" when no advertisement covers the address
	Nodes    []string   `json:"nodes"`              // that announce it
	Peers    []string   `json:"peers,omitempty"`    // BGP: that are told
	Via      []string   `json:"interfaces,omitempty"`
	Since    string     `json:"since,omitempty"` // L2: RFC 3339
	Up       bool       `json:"announced"`
	Why      string     `json:"why,omitempty"` // it is not
}

// MakeVIPs lists addresses, sorted.
func MakeVIPs(p *picture.Picture) []VIP {
	out := []VIP{}
	for _, svc := range p.Snapshot.Services {
		if len(svc.Ingress) == 0 {
			continue
		}
		r := explain.Service(p, svc)
		for _, a := range r.Addresses {
			for _, w := range a.Ways {
				out = append(out, vip(svc, a, w))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b VIP) int { return a.Address.Compare(b.Address) })
	return out
}

func vip(svc *config.Service, a explain.Address, w explain.Way) VIP {
	v := VIP{Address: a.Address, Service: svc.String(), Pool: a.Pool, Up: w.Reason == decide.Announced}
	if !v.Up {
		v.Why = string(w.Reason) + ": " + w.Message
	}
	switch w.Protocol {
	case decide.L2:
		v.Protocol = "ARP"
		if a.Address.Is6() {
			v.Protocol = "NDP"
		}
		for _, h := range w.Answering {
			if h.Node == w.Answering[0].Node { // the others have not yet said that they ceased
				v.Via = append(v.Via, h.Interface)
			}
		}
		if len(w.Answering) > 0 {
			v.Nodes, v.Since = []string{w.Answering[0].Node}, w.Answering[0].Since
		}
	case decide.BGP:
		v.Protocol = string(decide.BGP)
		v.routes(w.Able)
	}
	return v
}

// routes takes in who tells whom.
func (v *VIP) routes(able []explain.Able) {
	for _, n := range able {
		for _, peer := range n.Peers {
			if peer.Up {
				v.Nodes, v.Peers = append(v.Nodes, n.Node), append(v.Peers, peer.Name)
			}
		}
	}
	slices.Sort(v.Nodes)
	slices.Sort(v.Peers)
	v.Nodes, v.Peers = slices.Compact(v.Nodes), slices.Compact(v.Peers)
}

// Session is a BGP session.
type Session struct {
	Node       string   `json:"node"`
	Peer       string   `json:"peer"`
	Address    string   `json:"address,omitempty"`
	Local      string   `json:"localAddress,omitempty"`
	LocalASN   uint32   `json:"localASN,omitempty"`
	PeerASN    uint32   `json:"peerASN,omitempty"`
	State      string   `json:"state"`
	Since      string   `json:"since,omitempty"` // RFC 3339
	Families   []string `json:"families"`
	Hold       string   `json:"holdTime,omitempty"`
	IPv4       int      `json:"advertisedIPv4"`
	IPv6       int      `json:"advertisedIPv6"`
	BFD        string   `json:"bfd,omitempty"`
	LastError  string   `json:"lastError,omitempty"`
	NoReporter bool     `json:"stale,omitempty"` // the speaker that wrote this is not alive
}

// MakeSessions lists sessions by node, then peer.
func MakeSessions(p *picture.Picture) []Session {
	out := []Session{}
	for _, s := range p.Snapshot.Speakers {
		for _, b := range s.Sessions {
			out = append(out, session(s.Node, b, !p.Members[s.Node]))
		}
	}
	slices.SortStableFunc(out, func(a, b Session) int {
		if a.Node != b.Node {
			return strings.Compare(a.Node, b.Node)
		}
		return strings.Compare(a.Peer, b.Peer)
	})
	return out
}

func session(node string, b config.Session, stale bool) Session {
	row := Session{
		Node: node, Peer: b.Peer, Address: b.Address, Local: b.LocalAddress, LocalASN: b.LocalASN, PeerASN: b.PeerASN, State: b.State,
		IPv4: b.Advertised[config.IPv4], IPv6: b.Advertised[config.IPv6], BFD: b.BFD, LastError: b.LastError, NoReporter: stale,
		Families: []string{},
	}
	if !b.Since.IsZero() {
		row.Since = b.Since.UTC().Format(time.RFC3339)
	}
	if b.HoldTime > 0 {
		row.Hold = b.HoldTime.String()
	}
	for _, f := range b.Families {
		row.Families = append(row.Families, f.String())
	}
	return row
}
