package l2

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// many returns n addresses, spread so that each has a group of its own.
func many(n int, six bool) []netip.Addr {
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if six {
			out[i] = netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		}
	}
	return out
}

func wishFor(addrs []netip.Addr, interfaces ...string) []decide.L2Address {
	out := make([]decide.L2Address, len(addrs))
	for i, a := range addrs {
		out[i] = decide.L2Address{Addr: a, Interfaces: interfaces, Taken: decide.TookOver}
	}
	return out
}

// Ten thousand addresses on one interface: every one is announced, without waiting until the interface is in all their groups, and every one
// is answered for. No frame finds the queues full.
func TestTenThousand(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", six), func(t *testing.T) {
			const n = 10_000
			near, far := nettest.Veth(t, "near0", "far0")
			c, addrs := newCrowd(t, far, six), many(n, six)
			r := runReal(t)
			began := time.Now()
			r.Set(wishFor(addrs, near.Name), []config.Interface{near})
			awaitHeld(t, r, n)
			held := time.Now()
			c.await("announcements", func() bool { return len(c.told) == n })
			t.Logf("first announcement after %v, the last address's after %v; all answered for after %v",
				c.when[0].Sub(began), c.when[1].Sub(began), held.Sub(began))
			if six && c.when[0].After(held) {
				t.Error("no announcement before all groups were joined")
			}
			for i, a := range addrs {
				c.ask(a)
				if i%100 == 99 {
					c.await("answers", func() bool { return len(c.asks) == 0 })
				}
			}
			c.await("answers", func() bool { return len(c.asks) == 0 })
			awaitQuiet(t, r, n)
			for _, count := range r.Counts() {
				if count.SendErrors > 0 || count.Requests < n || count.Replies != count.Requests {
					t.Errorf("counts %+v", count)
				}
			}
		})
	}
}

// So it is with several interfaces at once, and with one whose queue is short: what finds no room there is sent later.
func TestManyOnSeveralInterfaces(t *testing.T) {
	const n = 3000
	addrs := many(n, false)
	var crowds []*crowd
	var links []config.Interface
	var names []string
	for i := range 3 {
		near, far := nettest.Veth(t, fmt.Sprint("near", i), fmt.Sprint("far", i))
		links, names = append(links, near), append(names, near.Name)
		crowds = append(crowds, newCrowd(t, far, false))
	}
	narrow(t, names[2])
	r := runReal(t)
	r.Set(wishFor(addrs, names...), links)
	awaitHeld(t, r, 3*n)
	for i, c := range crowds {
		c.await("announcements on "+names[i], func() bool { return len(c.told) == n })
	}
	for _, c := range r.Counts() {
		if c.Interface != names[2] && c.SendErrors > 0 {
			t.Errorf("counts %+v", c)
		}
		t.Logf("%+v", c)
	}
}

// narrow gives an interface a queue that holds few frames and empties slowly.
func narrow(t *testing.T, name string) {
	t.Helper()
	attrs := netlink.QdiscAttrs{LinkIndex: nettest.Link(t, name).Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	if err := netlink.QdiscAdd(&netlink.Tbf{QdiscAttrs: attrs, Rate: 500_000, Limit: 4000, Buffer: 2000}); err != nil {
		t.Logf("this kernel has no token bucket: %v", err)
	}
}

// An interface that is made anew is in the groups of the addresses it answered for before.
func TestGroupsComeBack(t *testing.T) {
	const n = 600 // more than one socket holds
	addrs := many(n, true)
	r := runReal(t)
	for range 2 {
		near, _ := nettest.Veth(t, "near0", "far0")
		r.Set(wishFor(addrs, near.Name), []config.Interface{near})
		awaitHeld(t, r, n)
		b, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]bool{}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == near.Name {
				in[f[2]] = true
			}
		}
		missing := 0
		for i := range n {
			if !in[fmt.Sprintf("ff0200000000000000000001ff%06x", i)] {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("not in %d of %d groups", missing, n)
		}
		nettest.Remove(t, "near0")
		awaitHeld(t, r, 0)
	}
}
