package netlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
)

// Segment is an Ethernet segment: a bridge without spanning tree and without multicast snooping.
type Segment struct {
	net    *Network
	bridge netlink.Link
	mu     sync.Mutex // one change of the frame filters at a time
	ports  []*Port
}

// Port is one host's cable to a segment.
type Port struct {
	seg    *Segment
	host   *Host
	ifname string
	link   netlink.Link // the segment's end
	drops  []string     // nftables matches; guarded by seg.mu
}

// Segment makes a segment.
func (n *Network) Segment(name string) (*Segment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.segments[name] != nil {
		return nil, fmt.Errorf("segment %s exists already", name)
	}
	if err := validIfname(name); err != nil {
		return nil, fmt.Errorf("segment: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, macFor(n.sw, name)
	snooping := false
	if err := n.sw.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return nil, fmt.Errorf("make segment %s: %w", name, err)
	}
	link, err := n.sw.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("make segment %s: %w", name, err)
	}
	if err := n.sw.nl.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("make segment %s: %w", name, err)
	}
	s := &Segment{net: n, bridge: link}
	n.segments[name] = s
	return s, nil
}

func (s *Segment) close() error { return s.net.sw.nl.LinkDel(s.bridge) }

// Join gives the host an interface on the segment, with the addresses, and sets it up.
func (h *Host) Join(s *Segment, ifname string, addrs ...netip.Prefix) (*Port, error) {
	port, err := s.plug(h, ifname)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if err := h.AddAddr(ifname, a); err != nil {
			return nil, err
		}
	}
	return port, nil
}

func (s *Segment) plug(h *Host, ifname string) (*Port, error) {
	s.net.mu.Lock()
	s.net.ports++
	name := fmt.Sprintf("port%d", s.net.ports)
	s.net.mu.Unlock()
	sw := s.net.sw
	if err := addVeth(sw, name, h, ifname); err != nil {
		return nil, err
	}
	link, err := sw.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("plug %s of %s: %w", ifname, h.name, err)
	}
	p := &Port{seg: s, host: h, ifname: ifname, link: link}
	if err := errors.Join(sw.nl.LinkSetAlias(link, h.name+"/"+ifname), sw.nl.LinkSetMaster(link, s.bridge), sw.nl.LinkSetUp(link)); err != nil {
		return nil, fmt.Errorf("plug %s of %s: %w", ifname, h.name, err)
	}
	if err := h.SetLink(ifname, true); err != nil {
		return nil, err
	}
	if err := errors.Join(h.waitLink(ifname), sw.waitLink(name)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.ports = append(s.ports, p)
	s.mu.Unlock()
	return p, nil
}

// Host is the host at the port.
func (p *Port) Host() *Host { return p.host }

// Ifname is the interface at the port, as the host names it.
func (p *Port) Ifname() string { return p.ifname }

// SwitchIfname is the segment's end of the cable, in [Network.Switch].
func (p *Port) SwitchIfname() string { return p.link.Attrs().Name }

// Cut pulls the cable: the host loses the carrier.
func (p *Port) Cut() error { return p.explain("cut", p.seg.net.sw.nl.LinkSetDown(p.link)) }

// Restore undoes [Port.Cut].
func (p *Port) Restore() error { return p.explain("restore", p.seg.net.sw.nl.LinkSetUp(p.link)) }

// Block drops all frames in both directions, and the host does not notice: its carrier stays.
func (p *Port) Block() error { return p.explain("block", p.seg.net.sw.nl.LinkSetNoMaster(p.link)) }

// Unblock undoes [Port.Block].
func (p *Port) Unblock() error {
	return p.explain("unblock", p.seg.net.sw.nl.LinkSetMaster(p.link, p.seg.bridge))
}

// Lose drops each frame, in either direction, with the given probability (0 to 1; 0 ends it).
func (p *Port) Lose(ctx context.Context, probability float64) error {
	const steps = 10000
	if probability < 0 || probability > 1 {
		return fmt.Errorf("loss of %v: give a probability between 0 and 1", probability)
	}
	switch below := int(probability*steps + 0.5); below {
	case 0:
		return p.Drop(ctx)
	case steps:
		return p.Drop(ctx, "")
	default:
		return p.Drop(ctx, fmt.Sprintf("numgen random mod %d < %d", steps, below))
	}
}

// Drop drops the frames, in either direction, that one of the nftables matches fits, for example "udp dport 7947"; "" fits all. The host's
// carrier stays. It replaces what Drop or [Port.Lose] asked for before; without matches everything passes. It needs nft.
func (p *Port) Drop(ctx context.Context, matches ...string) error {
	s := p.seg
	s.mu.Lock()
	defer s.mu.Unlock()
	before := p.drops
	p.drops = matches
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	var errs strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(s.ruleset()), &errs
	if err := s.net.sw.Run(cmd); err != nil {
		p.drops = before
		return p.explain("filter", fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(errs.String())))
	}
	return nil
}

// ruleset is the whole nftables table of the segment, from the ports' wishes; loaded in one transaction.
func (s *Segment) ruleset() string {
	var b strings.Builder
	table := "bridge " + s.bridge.Attrs().Name
	fmt.Fprintf(&b, "table %[1]s\ndelete table %[1]s\ntable %[1]s {\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n", table)
	for _, p := range s.ports {
		for _, m := range p.drops {
			fmt.Fprintf(&b, "\t\tiifname %[1]s %[2]s drop\n\t\toifname %[1]s %[2]s drop\n", p.SwitchIfname(), m)
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

func (p *Port) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s of %s: %w", what, p.ifname, p.host.name, err)
}
