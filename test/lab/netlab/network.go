package netlab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
)

// Options of a network.
type Options struct {
	// Prefix goes before every host name in the list of network namespaces, so that several networks can stand side by side.
	Prefix string
}

// Network is a set of hosts and segments. Its methods may be called from any goroutine.
type Network struct {
	prefix string
	sw     *Host // the namespace that holds all bridges

	mu       sync.Mutex
	hosts    map[string]*Host
	segments map[string]*Segment
	ports    int
}

// switchName is the namespace of the bridges; a segment's cables can be watched there with tcpdump.
const switchName = "switch"

// New makes an empty network; it must be called inside (see [Enter]).
func New(o Options) (*Network, error) {
	if !Inside() {
		return nil, errors.New("make network: not inside a laboratory: call netlab.Enter first")
	}
	sw, err := newHost(o.Prefix + switchName)
	if err != nil {
		return nil, fmt.Errorf("make network: %w", err)
	}
	n := &Network{prefix: o.Prefix, sw: sw, hosts: map[string]*Host{}, segments: map[string]*Segment{}}
	// A switch has no addresses: it must neither speak nor listen itself.
	for _, key := range []string{"net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6"} {
		if err := sw.Sysctl(key, "1"); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// Close removes the hosts and segments. Processes still running in a host keep its namespace, cut off from the others.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, s := range n.segments {
		errs = append(errs, s.close())
	}
	for _, h := range n.hosts {
		errs = append(errs, h.unplug(), h.close())
	}
	errs = append(errs, n.sw.close())
	clear(n.hosts)
	clear(n.segments)
	return errors.Join(errs...)
}

// Host makes a host.
func (n *Network) Host(name string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !validName(name) {
		return nil, fmt.Errorf("host name %q: use letters, digits, '.', '-' and '_'", name)
	}
	if n.hosts[name] != nil {
		return nil, fmt.Errorf("host %s exists already", name)
	}
	h, err := newHost(n.prefix + name)
	if err != nil {
		return nil, err
	}
	h.forget = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.hosts, name)
	}
	n.hosts[name] = h
	return h, nil
}

// Lookup finds a host by name, nil if there is none.
func (n *Network) Lookup(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[name]
}

// Switch is the namespace that holds the bridges and their ports.
func (n *Network) Switch() *Host { return n.sw }

// Veth connects two hosts by a cable of their own, both ends up.
func (n *Network) Veth(a *Host, aName string, b *Host, bName string) error {
	if err := addVeth(a, aName, b, bName); err != nil {
		return err
	}
	if err := errors.Join(a.SetLink(aName, true), b.SetLink(bName, true)); err != nil {
		return err
	}
	return errors.Join(a.waitLink(aName), b.waitLink(bName))
}

// addVeth makes a pair of interfaces, both down. The hardware addresses follow from the names, so that they are the same in every run.
func addVeth(a *Host, aName string, b *Host, bName string) error {
	if err := validIfname(aName); err != nil {
		return err
	}
	if err := validIfname(bName); err != nil {
		return err
	}
	peer, err := os.Open(b.NSPath())
	if err != nil {
		return fmt.Errorf("connect %s of %s with %s of %s: %w", aName, a.name, bName, b.name, err)
	}
	defer peer.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = aName, macFor(a, aName)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerHardwareAddr: macFor(b, bName), PeerNamespace: netlink.NsFd(peer.Fd())}
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("connect %s of %s with %s of %s: %w", aName, a.name, bName, b.name, err)
	}
	return nil
}

func validIfname(name string) error {
	if !validName(name) || len(name) > 15 {
		return fmt.Errorf("interface name %q: use 1 to 15 letters, digits, '.', '-' and '_'", name)
	}
	return nil
}

// macFor is a locally administered unicast address that depends on nothing but the names.
func macFor(h *Host, ifname string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(h.name + "/" + ifname))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&0xfc | 0x02
	return mac
}
