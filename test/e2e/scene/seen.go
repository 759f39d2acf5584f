package scene

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/probe"
	"github.com/heraldlb/herald/test/lab/router"
)

// answerWindow is how long answers to a question are collected: two machines that answer do so within microseconds of each other.
const answerWindow = 150 * time.Millisecond

// Answering asks once on the LAN who has an address and returns the names of the nodes that it is said to be at, sorted: by themselves, or by a
// node that stands in for one whose speaker restarts or seems to, as on a busy machine. That another machine answers, or names one, is an error.
func (s *Scene) Answering(ctx context.Context, ip netip.Addr) ([]string, error) {
	answers, err := probe.Resolve(ctx, s.Client, lanIfname, ip, answerWindow)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range answers {
		name, err := s.NodeOf(a.MAC.String())
		if err != nil {
			return nil, err
		}
		if _, err := s.NodeOf(a.Source.String()); err != nil {
			return nil, fmt.Errorf("who sent the answer that %s is at %s: %w", ip, a.MAC, err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// asks is how often Owner asks until somebody answers: a machine that is very busy may miss the window more than once.
const asks = 20

// Owner is Answering where exactly one node has to answer.
func (s *Scene) Owner(ctx context.Context, ip netip.Addr) (string, error) {
	var names []string
	for range asks {
		var err error
		if names, err = s.Answering(ctx, ip); err != nil {
			return "", err
		}
		if len(names) > 0 {
			break
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("%d nodes answer for %s: %v", len(names), ip, names)
	}
	return names[0], nil
}

// NodeOf returns the node whose LAN interface has a hardware address.
func (s *Scene) NodeOf(mac string) (string, error) {
	for _, n := range s.Nodes {
		own, err := MAC(n)
		if err != nil {
			return "", err
		}
		if own == mac {
			return n.Name, nil
		}
	}
	return "", fmt.Errorf("no node has the hardware address %s", mac)
}

// MAC returns the hardware address of a node on the LAN.
func MAC(n *lab.Node) (string, error) {
	ifi, err := n.Host.Interface(n.LAN.Ifname())
	if err != nil {
		return "", err
	}
	return ifi.HardwareAddr.String(), nil
}

// Watch prepares asking for an address from the LAN client every 10 ms.
func (s *Scene) Watch(ip netip.Addr) (*probe.Continuous, error) {
	return probe.NewContinuous(s.Client, lanIfname, ip, 10*time.Millisecond)
}

// FirstAnswer asks for an address every few milliseconds until somebody answers.
func (s *Scene) FirstAnswer(ctx context.Context, ip netip.Addr, every time.Duration) (probe.Answer, error) {
	return probe.FirstAnswer(ctx, s.Client, lanIfname, ip, every)
}

// NextHops returns the names of the nodes that the router sends an address's packets to, sorted; none without a route of its own.
func (s *Scene) NextHops(ip netip.Addr) ([]string, error) {
	routes, err := router.Routes(s.RouterHost)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range routes {
		if r.Prefix != netip.PrefixFrom(ip, ip.BitLen()) {
			continue
		}
		for _, hop := range r.NextHops {
			names = append(names, s.nodeAt(hop))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Shares returns how the router spreads the flows to an address: the share of each node, 1 together; none without a route of its own.
func (s *Scene) Shares(ip netip.Addr) (map[string]float64, error) {
	hops, err := router.Shares(s.RouterHost, netip.PrefixFrom(ip, ip.BitLen()))
	if err != nil {
		return nil, err
	}
	shares := make(map[string]float64, len(hops))
	for hop, share := range hops {
		shares[s.nodeAt(hop)] += share
	}
	return shares, nil
}

func (s *Scene) nodeAt(ip netip.Addr) string {
	for _, n := range s.Nodes {
		if slices.Contains(n.Addresses, ip) {
			return n.Name
		}
	}
	return ip.String()
}

// Get asks an address for a web page from a host.
func (s *Scene) Get(ctx context.Context, from *netlab.Host, ip netip.Addr) (probe.Response, error) {
	return probe.FirstGet(ctx, from, "http://"+netip.AddrPortFrom(ip, httpPort).String()+"/", 2*time.Second)
}
