package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sysctl sets a network sysctl of the host; the key is written with dots, as sysctl(8) takes it.
func (h *Host) Sysctl(key, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
	return h.Do(func() error {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("%s: set %s=%s: %w", h.name, key, value, err)
		}
		return nil
	})
}

// EnableForwarding makes the host forward packets of both families, and spread flows over equal next hops by address and port.
func (h *Host) EnableForwarding() error {
	for _, key := range []string{
		"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding",
		"net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy",
	} {
		if err := h.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	return nil
}

// Interface describes one of the host's interfaces as it is now.
func (h *Host) Interface(ifname string) (*net.Interface, error) {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("%s: interface %s: %w", h.name, ifname, err)
	}
	a := link.Attrs()
	return &net.Interface{Index: a.Index, MTU: a.MTU, Name: a.Name, HardwareAddr: a.HardwareAddr, Flags: a.Flags}, nil
}

// Addrs returns the addresses of an interface, of both families, link-local ones included.
func (h *Host) Addrs(ifname string) ([]netip.Prefix, error) {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("%s: interface %s: %w", h.name, ifname, err)
	}
	list, err := h.nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("%s: addresses of %s: %w", h.name, ifname, err)
	}
	prefixes := make([]netip.Prefix, 0, len(list))
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			bits, _ := a.Mask.Size()
			prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return prefixes, nil
}

// SetLink sets an interface of the host up or down.
func (h *Host) SetLink(ifname string, up bool) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("%s: interface %s: %w", h.name, ifname, err)
	}
	set := h.nl.LinkSetDown
	if up {
		set = h.nl.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("%s: set %s up=%t: %w", h.name, ifname, up, err)
	}
	return nil
}

// linkLimit is how long an interface may take from "up" to working.
const linkLimit = 10 * time.Second

// waitLink waits until an interface that was set up sends and receives: the kernel brings it into service a moment later, and drops
// what is sent before.
func (h *Host) waitLink(ifname string) error {
	deadline := time.Now().Add(linkLimit)
	for {
		link, err := h.nl.LinkByName(ifname)
		if err != nil {
			return fmt.Errorf("%s: interface %s: %w", h.name, ifname, err)
		}
		state := link.Attrs().OperState
		if state == netlink.OperUp {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: interface %s stays %s", h.name, ifname, state)
		}
		time.Sleep(time.Millisecond)
	}
}

// AddAddr gives an interface an address; an IPv6 one is usable at once, without duplicate address detection.
func (h *Host) AddAddr(ifname string, prefix netip.Prefix) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("%s: interface %s: %w", h.name, ifname, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := h.nl.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("%s: add %s to %s: %w", h.name, prefix, ifname, err)
	}
	return nil
}

// DelAddr takes an address away from an interface.
func (h *Host) DelAddr(ifname string, prefix netip.Prefix) error {
	link, err := h.nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("%s: interface %s: %w", h.name, ifname, err)
	}
	if err := h.nl.AddrDel(link, &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
		return fmt.Errorf("%s: remove %s from %s: %w", h.name, prefix, ifname, err)
	}
	return nil
}

// AddRoute sends dst to a gateway; "0.0.0.0/0" and "::/0" are the default routes. An existing route to dst is replaced.
func (h *Host) AddRoute(dst netip.Prefix, via netip.Addr) error {
	r := &netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()}
	if err := h.nl.RouteReplace(r); err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", h.name, dst, via, err)
	}
	return nil
}

// DelRoute removes the route to dst.
func (h *Host) DelRoute(dst netip.Prefix) error {
	if err := h.nl.RouteDel(&netlink.Route{Dst: ipNet(dst.Masked())}); err != nil {
		return fmt.Errorf("%s: remove route %s: %w", h.name, dst, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
