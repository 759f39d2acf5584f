package ndp

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/l2/frame"
)

// groups keeps an interface in the solicited-node groups of the addresses it answers for. They are real memberships, which the kernel
// reports (MLD, RFC 3810), so that switches that snoop pass solicitations on. Joining takes the kernel some 80 µs, thousands of times that
// in a takeover, so it is done in portions. It has one owner.
type groups struct {
	index  int // of the interface
	wanted []frame.Answer
	uses   map[netip.Addr]int    // how many wanted addresses a group has; never 0
	in     map[netip.Addr]*shard // the socket that holds the membership
	todo   []netip.Addr          // groups to look at: each is joined or left, whatever is not as it should be
	failed map[netip.Addr]error  // groups that could not be joined or left
	all    []*shard
}

// shard is a socket that only holds memberships.
type shard struct{ fd, members int }

// perShard bounds the memberships of one socket. Their memory counts against net.core.optmem_max, which is 20 KiB on older kernels and is
// used up by some 360 groups there; also the kernel walks the list of a socket at each join.
const perShard = 256

func newGroups(index int) *groups {
	return &groups{index: index, uses: map[netip.Addr]int{}, in: map[netip.Addr]*shard{}, failed: map[netip.Addr]error{}}
}

// want replaces the addresses (sorted) whose groups are to be joined; work does it. What failed before is to be tried again. Several
// addresses may share a group.
func (g *groups) want(list []frame.Answer) {
	old := g.wanted
	g.wanted = list
	for len(old) > 0 || len(list) > 0 {
		switch {
		case len(list) == 0 || len(old) > 0 && old[0].Addr.Less(list[0].Addr):
			g.count(groupOf(old[0].Addr), -1)
			old = old[1:]
		case len(old) == 0 || list[0].Addr.Less(old[0].Addr):
			g.count(groupOf(list[0].Addr), +1)
			list = list[1:]
		default:
			old, list = old[1:], list[1:]
		}
	}
	for group := range g.failed {
		g.todo = append(g.todo, group)
	}
	clear(g.failed)
}

// count changes how many addresses use the group, and takes down when that is to have it joined or left.
func (g *groups) count(group netip.Addr, change int) {
	n := g.uses[group] + change
	if n == 0 {
		delete(g.uses, group)
	} else {
		g.uses[group] = n
	}
	if _, in := g.in[group]; in != (n > 0) {
		g.todo = append(g.todo, group)
	}
}

// work joins and leaves groups until limit of them are done, and returns how many are left to look at. When none is, the error tells of
// those that could not be joined or left; the others are, all the same.
func (g *groups) work(limit int) (left int, err error) {
	for ; limit > 0 && len(g.todo) > 0; limit-- {
		group := g.todo[0]
		g.todo = g.todo[1:]
		delete(g.failed, group)
		if err := g.settle(group); err != nil {
			g.failed[group] = err
		}
	}
	if len(g.todo) > 0 {
		return len(g.todo), nil
	}
	g.todo = nil // its memory
	return 0, g.trouble()
}

// trouble returns one of the errors of the groups that failed, which are likely to be the same, and how many there are.
func (g *groups) trouble() error {
	for _, group := range slices.SortedFunc(maps.Keys(g.failed), netip.Addr.Compare) {
		return fmt.Errorf("%d groups: %v: %w", len(g.failed), group, g.failed[group])
	}
	return nil
}

// settle brings the membership of one group in line with its use.
func (g *groups) settle(group netip.Addr) error {
	_, in := g.in[group]
	switch wanted := g.uses[group] > 0; {
	case wanted && !in:
		return g.join(group)
	case in && !wanted:
		return g.leave(group)
	}
	return nil
}

// joined reports whether the group of the address is joined.
func (g *groups) joined(a netip.Addr) bool {
	if len(g.todo) == 0 && len(g.failed) == 0 {
		return true
	}
	_, ok := g.in[groupOf(a)]
	return ok
}

// groupOf returns the solicited-node group of an address (RFC 4291 section 2.7.1).
func groupOf(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
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
	g.in[group] = s
	return nil
}

func (g *groups) leave(group netip.Addr) error {
	s := g.in[group]
	err := unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, unix.IPV6_LEAVE_GROUP, g.request(group))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) { // these say that it is left already
		return fmt.Errorf("leave: %w", err)
	}
	s.members--
	delete(g.in, group)
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
	g.all, g.in = nil, nil
	return errors.Join(errs...)
}
