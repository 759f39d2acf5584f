package ndp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/reconcile"
)

// groups keeps an interface in the solicited-node groups of the addresses it answers for. They are real memberships, which the kernel
// reports (MLD, RFC 3810), so that switches that snoop pass solicitations on. It has one owner.
type groups struct {
	index int // of the interface
	state *reconcile.State[netip.Addr, struct{}]
	shard map[netip.Addr]*shard
	all   []*shard
}

// shard is a socket that only holds memberships.
type shard struct{ fd, members int }

// perShard bounds the memberships of one socket. Their memory counts against net.core.optmem_max, which is 20 KiB on older kernels and is
// used up by some 360 groups there; also the kernel walks the list of a socket at each join.
const perShard = 256

func newGroups(index int) *groups {
	rules := reconcile.Rules[netip.Addr, struct{}]{
		Compare: netip.Addr.Compare,
		Equal:   func(_, _ struct{}) bool { return true },
		Order:   reconcile.AddFirst,
	}
	// Whoever calls set again does so after a back-off of its own, so each call tries everything: Min and Max are 0.
	return &groups{index: index, state: reconcile.New(rules, reconcile.Backoff{}), shard: map[netip.Addr]*shard{}}
}

// set joins the groups of the addresses that are not joined yet and leaves those of no address any more. Several addresses may share a
// group. When a group cannot be joined the others are all the same, and the error is a *frame.Unanswered with its addresses.
func (g *groups) set(addrs []netip.Addr) error {
	desired := make(map[netip.Addr]struct{}, len(addrs))
	for _, a := range addrs {
		desired[groupOf(a)] = struct{}{}
	}
	err := g.state.Apply(time.Time{}, desired, g.step).Err()
	if err == nil {
		return nil
	}
	missing := map[netip.Addr]struct{}{}
	for _, a := range addrs {
		if _, ok := g.state.Get(groupOf(a)); !ok {
			missing[a] = struct{}{}
		}
	}
	return &frame.Unanswered{Addrs: missing, Err: err}
}

// groupOf returns the solicited-node group of an address (RFC 4291 section 2.7.1).
func groupOf(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

func (g *groups) step(s reconcile.Step[netip.Addr, struct{}]) error {
	if s.Kind == reconcile.Remove {
		return g.leave(s.Key)
	}
	return g.join(s.Key)
}

func (g *groups) join(group netip.Addr) error {
	s, err := g.room()
	if err != nil {
		return err
	}
	if err := unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, g.request(group)); err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("join: %w (is IPv6 enabled on the interface?)", err)
		}
		return fmt.Errorf("join: %w", err)
	}
	s.members++
	g.shard[group] = s
	return nil
}

func (g *groups) leave(group netip.Addr) error {
	s := g.shard[group]
	err := unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, g.request(group))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) { // these say that it is left already
		return fmt.Errorf("leave: %w", err)
	}
	s.members--
	delete(g.shard, group)
	return nil
}

func (g *groups) request(group netip.Addr) *unix.IPv6Mreq {
	return &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)}
}

// room returns a socket with room for another membership.
func (g *groups) room() (*shard, error) {
	for _, s := range slices.Backward(g.all) {
		if s.members < perShard {
			return s, nil
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket for group memberships: %w", err)
	}
	s := &shard{fd: fd}
	g.all = append(g.all, s)
	return s, nil
}

// close ends all memberships.
func (g *groups) close() error {
	var errs []error
	for _, s := range g.all {
		errs = append(errs, unix.Close(s.fd))
	}
	g.all, g.shard = nil, nil
	return errors.Join(errs...)
}
