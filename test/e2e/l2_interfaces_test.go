package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/test/e2e/scene"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/probe"
)

const (
	extraPort = "lan2" // a second interface on the LAN, without an address
	vlan      = "lan2.7"
)

// TestInterfaces restricts an advertisement to interfaces that only one node has, which come, go, and come again, and changes that list.
func TestInterfaces(t *testing.T) {
	s := on(t)
	node := s.Node("node-2")
	s.special("interfaces: [lan2]")
	s.create("interfaces", scene.FromPool("special"))
	ips := s.withAddress("interfaces")
	s.nobody(ips...) // no node has it

	_, err := node.Host.Join(s.LAN, extraPort)
	s.must(err)
	t.Cleanup(func() { s.must(unplug(node.Host, extraPort)) })
	for _, ip := range ips {
		s.answeredBy(ip, macOf(s, node.Host, extraPort))
	}

	s.must(unplug(node.Host, extraPort))
	s.nobody(ips...)
	_, err = node.Host.Join(s.LAN, extraPort)
	s.must(err)
	for _, ip := range ips { // IPv6: the groups have to be joined again
		s.answeredBy(ip, macOf(s, node.Host, extraPort))
	}

	s.heard(func(heard *probe.Announcements) {
		s.special("interfaces: [eth*]")
		for _, ip := range ips {
			owner := s.owner(ip)
			mac, err := scene.MAC(s.Node(owner))
			s.must(err)
			if !announcedAt(heard, ip, mac) {
				t.Errorf("%s: nobody was told that eth0 of %s answers now", ip, owner)
			}
		}
	})
}

// TestVLAN answers on a VLAN's interface without an address, beside what the interface below it does.
func TestVLAN(t *testing.T) {
	s := on(t)
	node := s.Node("node-3")
	for _, h := range []*netlab.Host{node.Host, s.Client} {
		below, err := h.Interface("eth0")
		s.must(err)
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = vlan, below.Index
		err = h.Netlink().LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 7})
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this kernel has no VLAN interfaces")
		}
		s.must(err)
		t.Cleanup(func() { s.must(unplug(h, vlan)) })
		s.must(h.SetLink(vlan, true))
	}
	s.must(s.Client.AddAddr(vlan, netip.MustParsePrefix("192.168.107.50/24")))
	s.special("interfaces: [" + vlan + "]")
	s.create("vlan", scene.FromPool("special"))
	for _, ip := range s.withAddress("vlan") {
		if !ip.Is4() {
			continue // the client has no other subnet to ask from
		}
		s.eventually("an answer in the VLAN", func(ctx context.Context) error {
			answers, err := probe.Resolve(ctx, s.Client, vlan, ip, answerIn)
			if err == nil && (len(answers) != 1 || answers[0].MAC.String() != macOf(s, node.Host, vlan)) {
				err = fmt.Errorf("answered by %v", probe.MACs(answers))
			}
			return err
		})
		s.nobody(ip) // outside of it
	}
}

// unplug removes an interface; that it is gone already is no error.
func unplug(h *netlab.Host, ifname string) error {
	link, err := h.Netlink().LinkByName(ifname)
	if err != nil {
		return nil //nolint:nilerr // it is gone
	}
	return h.Netlink().LinkDel(link)
}

func macOf(s *stage, h *netlab.Host, ifname string) string {
	s.t.Helper()
	ifi, err := h.Interface(ifname)
	s.must(err)
	return ifi.HardwareAddr.String()
}

// answeredBy waits until one machine with this hardware address answers, and no other.
func (s *stage) answeredBy(ip netip.Addr, mac string) {
	s.t.Helper()
	s.eventually(mac+" to answer for "+ip.String(), func(ctx context.Context) error {
		answers, err := probe.Resolve(ctx, s.Client, "eth0", ip, answerIn)
		if err != nil {
			return err
		}
		if macs := probe.MACs(answers); len(macs) != 1 || macs[0] != mac {
			return fmt.Errorf("answered by %v", macs)
		}
		return nil
	})
}
