// Package inspect looks at the node for what keeps announced addresses from working, or from being this speaker's alone: settings of the
// kernel's network stack, kube-proxy's IPVS device, another BGP speaker, sockets that the kernel does not have, a clock that nobody sets.
// What is seen (Node) and what is said of it (Judge) are apart: the judgement is a function of values.
//
// The owner loop runs a Watcher beside its other inputs, wakes on Changed, and reports Judge(watcher.Node(), interfaces, pools): each Trouble
// becomes a condition of the SpeakerStatus whose type and reason are Trouble.Reason, True while it lasts and absent else. The condition Ready
// says nothing of them, as the speaker announces all the same. kubectl herald check shows them.
package inspect

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/config"
)

// Node is what was seen of the node's network namespace. What could not be read is absent, and nothing is said of it.
type Node struct {
	Settings map[string]Settings // by interface; "all" among them
	IPVS     bool                // kube-proxy's IPVS device is there
	Gateways []Gateway           // of default routes; sorted
	BGP      bool                // somebody listens on BGP's port
	Lacks    []Lack              // sockets that cannot be opened; sorted
	Drifting bool                // the kernel's clock is set by nobody
}

// Settings are the IPv4 settings of one interface (Documentation/networking/ip-sysctl.rst of Linux).
type Settings struct {
	ProxyARP  int
	RPFilter  int // 0 off, 1 strict, 2 loose
	ARPIgnore int
}

// Gateway is the next hop of a default route.
type Gateway struct {
	Interface string
	Addr      netip.Addr // invalid: the route names only the interface
	Family    config.Family
}

// Lack is a kind of socket that cannot be opened.
type Lack struct {
	What string // such as "packet socket"
	For  string // what Herald needs it for
	Why  string // the kernel's words
}

// Trouble is something about the node that an operator should know.
type Trouble struct {
	Reason  string // CamelCase; fixed, as it becomes the type of a condition
	Message string // what, and what to do
}

// Reasons of troubles.
const (
	BGPSpeakerPresent   = "BGPSpeakerPresent"   // another process listens on port 179
	ClockUnsynchronised = "ClockUnsynchronised" // no time service sets the clock
	GatewayInPool       = "GatewayInPool"       // a pool has the address of a default gateway
	ProxyARP            = "ProxyARP"            // the kernel answers ARP for addresses that are not its own
	ReversePathFilter   = "ReversePathFilter"   // the kernel drops requests that come in on another interface than answers would leave by
	SocketsMissing      = "SocketsMissing"      // the kernel or the Pod's rights lack a kind of socket
	StrictARPOff        = "StrictARPOff"        // IPVS mode: the kernel answers ARP for every Service's address
)

// allInterfaces is where the kernel keeps what counts for all of them.
const allInterfaces = "all"

// bgpPort is where BGP speakers listen (RFC 4271 section 8.2.1). Herald's does not.
const bgpPort = 179

// Judge says what is wrong with a node, sorted by reason, each reason once. Interfaces are those that may announce; pools are those in force.
// A nil Node is one that was not looked at.
func Judge(n *Node, interfaces []config.Interface, pools []*config.Pool) []Trouble {
	if n == nil {
		return nil
	}
	var up []config.Interface
	for _, i := range interfaces {
		if i.Up {
			up = append(up, i)
		}
	}
	var out []Trouble
	for _, t := range []Trouble{
		n.strictARP(up), n.proxyARP(up), n.reversePath(up, pools), n.gateways(pools), n.otherBGP(), n.sockets(), n.clock(),
	} {
		if t.Reason != "" {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Trouble) int { return strings.Compare(a.Reason, b.Reason) })
	return out
}

// effective returns the setting that counts for an interface: of the two the higher one.
func (n *Node) effective(name string, of func(Settings) int) int {
	return max(of(n.Settings[name]), of(n.Settings[allInterfaces]))
}

// those returns the names of interfaces that have something.
func those(all []config.Interface, has func(config.Interface) bool) []string {
	var out []string
	for _, i := range all {
		if has(i) {
			out = append(out, i.Name)
		}
	}
	return out
}

func (n *Node) strictARP(up []config.Interface) Trouble {
	if !n.IPVS {
		return Trouble{}
	}
	found := those(up, func(i config.Interface) bool {
		_, seen := n.Settings[i.Name]
		return seen && n.effective(i.Name, func(s Settings) int { return s.ARPIgnore }) == 0
	})
	if len(found) == 0 {
		return Trouble{}
	}
	return Trouble{StrictARPOff, "kube-proxy runs in IPVS mode without strictARP, so this node answers ARP for every Service's address on " +
		strings.Join(found, ", ") + ": set ipvs.strictARP to true in kube-proxy's configuration and restart it"}
}

func (n *Node) proxyARP(up []config.Interface) Trouble {
	found := those(up, func(i config.Interface) bool {
		_, seen := n.Settings[i.Name]
		return seen && n.effective(i.Name, func(s Settings) int { return s.ProxyARP }) > 0
	})
	if len(found) == 0 {
		return Trouble{}
	}
	return Trouble{ProxyARP, "proxy_arp is on for " + strings.Join(found, ", ") + ", so this node may answer ARP for addresses that another node announces: " +
		"set net.ipv4.conf.INTERFACE.proxy_arp and net.ipv4.conf.all.proxy_arp to 0"}
}

// strict is the value of rp_filter with which the kernel drops what it would not answer by the same way (RFC 3704 section 2.2).
const strict = 1

// reversePath finds interfaces in whose subnet a pool lies, that have no default route while another has one: who asks from outside the
// subnet is answered by the other, which strict filtering takes for a forgery.
func (n *Node) reversePath(up []config.Interface, pools []*config.Pool) Trouble {
	routed := func(name string) bool {
		return slices.ContainsFunc(n.Gateways, func(g Gateway) bool { return g.Family == config.IPv4 && g.Interface == name })
	}
	if !slices.ContainsFunc(n.Gateways, func(g Gateway) bool { return g.Family == config.IPv4 }) {
		return Trouble{}
	}
	found := those(up, func(i config.Interface) bool {
		return !routed(i.Name) && serves(i, pools) && n.effective(i.Name, func(s Settings) int { return s.RPFilter }) == strict
	})
	if len(found) == 0 {
		return Trouble{}
	}
	return Trouble{ReversePathFilter, "rp_filter is strict on " + strings.Join(found, ", ") + ", which have no default route: requests from beyond their subnets are dropped " +
		"as the answer would leave by another interface; set net.ipv4.conf.INTERFACE.rp_filter to 2, or add routes to the clients"}
}

// serves reports whether a pool has IPv4 addresses in one of the interface's subnets.
func serves(i config.Interface, pools []*config.Pool) bool {
	for _, net := range i.Subnets {
		if !net.Addr().Is4() {
			continue
		}
		for _, p := range pools {
			if slices.ContainsFunc(p.Ranges, func(r config.Range) bool {
				return net.Contains(r.From) || net.Contains(r.To) || r.Contains(net.Masked().Addr())
			}) {
				return true
			}
		}
	}
	return false
}

func (n *Node) gateways(pools []*config.Pool) Trouble {
	var found []string
	for _, g := range n.Gateways {
		if !g.Addr.IsValid() {
			continue
		}
		for _, p := range pools {
			if p.Contains(g.Addr) && !excluded(p, g.Addr) {
				found = append(found, fmt.Sprintf("IPAddressPool %s has %s, the default gateway on %s", p.Name, g.Addr, g.Interface))
			}
		}
	}
	if len(found) == 0 {
		return Trouble{}
	}
	return Trouble{GatewayInPool, strings.Join(found, "; ") + ": exclude it from the pool, or a Service that is given it cuts the node off"}
}

// Beyond lists the default gateways that an address of a pool could be, sorted: all but link-local ones.
func (n *Node) Beyond() []netip.Addr {
	var out []netip.Addr
	for _, g := range n.Gateways {
		if g.Addr.IsValid() && !g.Addr.IsLinkLocalUnicast() {
			out = append(out, g.Addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func excluded(p *config.Pool, a netip.Addr) bool {
	return slices.ContainsFunc(p.Excluded, func(r config.Range) bool { return r.Contains(a) })
}

func (n *Node) otherBGP() Trouble {
	if !n.BGP {
		return Trouble{}
	}
	return Trouble{BGPSpeakerPresent, "another process on this node listens on TCP port 179, a BGP speaker most likely: a router that has it as neighbour under this node's address " +
		"refuses Herald's session; give one of the two another address (sourceAddress) or stop the other"}
}

func (n *Node) sockets() Trouble {
	if len(n.Lacks) == 0 {
		return Trouble{}
	}
	var parts []string
	for _, l := range n.Lacks {
		parts = append(parts, fmt.Sprintf("%s (%s; for %s)", l.What, l.Why, l.For))
	}
	return Trouble{SocketsMissing, "cannot be opened: " + strings.Join(parts, ", ") +
		": give the Pod the capability NET_RAW as the chart does, or use a kernel that is built with them"}
}

func (n *Node) clock() Trouble {
	if !n.Drifting {
		return Trouble{}
	}
	return Trouble{ClockUnsynchronised, "the kernel's clock is not synchronised: run a time service (chrony, systemd-timesyncd); certificates and reported times depend on it"}
}

// sortGateways puts gateways in order and leaves each out but once.
func sortGateways(all []Gateway) []Gateway {
	slices.SortFunc(all, func(a, b Gateway) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), strings.Compare(a.Interface, b.Interface), a.Addr.Compare(b.Addr))
	})
	return slices.Compact(all)
}
