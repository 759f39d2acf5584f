package l2

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/nettest"
	"github.com/heraldlb/herald/speaker/link"
)

// The address of a Service changes: the old one is not answered for any more when the new one is announced.
func TestAddressChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA)}
		w.set([]decide.L2Address{wished("192.0.2.1", "eth0")}, links)
		pass(3 * time.Second)
		synctest.Wait()
		w.take()
		w.set([]decide.L2Address{wished("192.0.2.9", "eth0")}, links)
		w.check("changed", "eth0 ARP 192.0.2.9 at "+macA)
		w.said("the new one alone", "3s eth0 ARP 192.0.2.9 at "+macA)
	})
}

// The interfaces an address is answered on change: the old one falls silent, the new one announces.
func TestInterfacesOfAddressChange(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		links := []config.Interface{up("eth0", 2, macA), up("eth1", 3, macB)}
		w.set([]decide.L2Address{wished("2001:db8::1", "eth0"), wished("2001:db8::2", "eth0")}, links)
		pass(3 * time.Second)
		synctest.Wait()
		w.take()
		w.set([]decide.L2Address{wished("2001:db8::1", "eth1"), wished("2001:db8::2", "eth0")}, links)
		w.check("moved", "eth1 NDP 2001:db8::1 at "+macB, "eth0 NDP 2001:db8::2 at "+macA)
		w.said("on the new one alone", "3s eth1 NDP 2001:db8::1 at "+macB)
	})
}

// follow has a reconciler answer for addresses on whatever of the interfaces the watcher finds, as the speaker's loop does.
func follow(t *testing.T, addrs []netip.Addr, interfaces ...string) *Reconciler {
	t.Helper()
	nettest.Need(t)
	r, w := runReal(t), link.New(link.Options{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- w.Run(ctx) }()
	go func() {
		for {
			r.Set(wishFor(addrs, interfaces...), w.Interfaces())
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-w.Changed():
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// announced waits until the station has heard each address announced from the MAC since it last forgot.
func (c *crowd) announced(what string, addrs []netip.Addr, mac string) {
	c.t.Helper()
	c.await(what, func() bool {
		for _, a := range addrs {
			if c.told[a] == 0 || c.seen[a] != mac {
				return false
			}
		}
		return true
	})
}

// forget forgets what was heard.
func (c *crowd) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.told)
	clear(c.seen)
}

// What happens to an interface at runtime, seen from the segment: after each change the addresses are announced from what is there then.
func TestInterfaceThroughItsLife(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(fmt.Sprint("IPv6 ", six), func(t *testing.T) {
			near, far := nettest.Veth(t, "near0", "far0")
			addrs := many(3, six)
			c := newCrowd(t, far, six)
			r := follow(t, addrs, "near0", "near1", "br0")
			c.announced("at first", addrs, near.MAC)

			c.forget()
			const mac = "02:00:00:00:00:77"
			hw, err := net.ParseMAC(mac)
			if err != nil {
				t.Fatal(err)
			}
			do(t, "change the MAC", netlink.LinkSetHardwareAddr(nettest.Link(t, "near0"), hw))
			c.announced("with another MAC", addrs, mac)

			awaitHeld(t, r, 3)
			do(t, "take the carrier", netlink.LinkSetDown(nettest.Link(t, "far0")))
			awaitHeld(t, r, 0)
			nettest.Up(t, "far0")
			c = newCrowd(t, far, six) // the socket fell with the link; of several announcements some come after it is open
			c.announced("with carrier again", addrs, mac)

			awaitHeld(t, r, 3)
			c.forget()
			do(t, "rename", netlink.LinkSetName(nettest.Link(t, "near0"), "near1"))
			c.announced("under another name", addrs, mac)
			awaitOn(t, r, 3, "near1")

			c.forget()
			attrs := netlink.NewLinkAttrs()
			attrs.Name, attrs.HardwareAddr = "br0", net.HardwareAddr{2, 0, 0, 0, 0, 0x78}
			do(t, "make a bridge", netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
			t.Cleanup(func() { nettest.Remove(t, "br0"); nettest.Remove(t, "near1") })
			nettest.Up(t, "br0")
			do(t, "make it a port", netlink.LinkSetMaster(nettest.Link(t, "near1"), nettest.Link(t, "br0")))
			c.announced("as the port of a bridge", addrs, "02:00:00:00:00:78")
			awaitOn(t, r, 3, "br0")
		})
	}
}

// awaitOn waits until exactly n addresses are answered for, on one interface.
func awaitOn(t *testing.T, r *Reconciler, n int, name string) {
	t.Helper()
	await(t, r, func() bool { h := r.Actual(); return len(h) == n && h[0].Interface == name && h[n-1].Interface == name })
}

func do(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Several interfaces on one segment: what one says it says with its own MAC.
func TestSeveralInterfacesOnOneSegment(t *testing.T) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "switch0"
	nettest.Need(t)
	do(t, "make a bridge", netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	t.Cleanup(func() { nettest.Remove(t, "switch0") })
	nettest.Up(t, "switch0")
	var links []config.Interface
	for _, name := range []string{"near0", "near1", "client0"} {
		near, port := nettest.Veth(t, name, "p"+name)
		do(t, "plug it in", netlink.LinkSetMaster(nettest.Link(t, port.Name), nettest.Link(t, "switch0")))
		links = append(links, near)
	}
	addrs := many(2, false)
	client := nettest.OpenClient(t, links[2], 0x0806)
	r := runReal(t)
	desired := wishFor(addrs[:1], "near0", "near1")
	r.Set(append(desired, wishFor(addrs[1:], "near1")...), links[:2])
	awaitHeld(t, r, 3)

	asker := newCrowd(t, links[2], false)
	asker.ask(addrs[0])
	from := map[string]bool{}
	for len(from) < 2 {
		b := client.Next()
		source, sender := net.HardwareAddr(b[6:12]).String(), net.HardwareAddr(b[22:28]).String()
		addr := netip.AddrFrom4([4]byte(b[28:32]))
		switch {
		case source != sender:
			t.Fatalf("a frame from %s says %v is at %s", source, addr, sender)
		case addr == addrs[1] && source != links[1].MAC:
			t.Fatalf("%v is announced from %s, want %s", addr, source, links[1].MAC)
		case addr == addrs[0]:
			from[source] = true
		}
	}
	if !from[links[0].MAC] || !from[links[1].MAC] {
		t.Errorf("heard from %v, want both interfaces", from)
	}
}

// A kernel on the segment has the addresses already: it is found, and not interfered with. A free address beside them is taken.
func TestKernelUsesIt(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	client := newKernelClient(t, far.Name, "192.0.2.10/24", "2001:db8::10/64")
	var desired []decide.L2Address
	for _, s := range []string{"192.0.2.10", "192.0.2.11", "2001:db8::10", "2001:db8::11"} {
		a := probed(s, "near0")
		desired = append(desired, a)
	}
	r := runReal(t)
	began := time.Now()
	r.Set(desired, []config.Interface{near})
	awaitHeld(t, r, 2)
	t.Logf("free addresses are answered for after %v", time.Since(began))
	await(t, r, func() bool { return len(r.Conflicts()) == 2 })
	for i, c := range r.Conflicts() {
		if want := desired[2*i].Addr; c.Addr != want || c.MAC != far.MAC || !c.Unanswered {
			t.Errorf("conflict %+v, want %v unanswered because of %s", c, want, far.MAC)
		}
	}
	for i, h := range r.Actual() {
		if want := desired[2*i+1].Addr; h.Address != want {
			t.Errorf("answering for %v, want %v", h.Address, want)
		}
	}
	client.awaitNeighbour("the free one", desired[1].Addr, near.MAC, true)
	client.awaitNeighbour("the free one", desired[3].Addr, near.MAC, true)
}

// A stand-in's answers are believed by kernels.
func TestKernelBelievesStandIn(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	client := newKernelClient(t, far.Name, "192.0.2.100/24", "2001:db8::100/64")
	var desired []decide.L2Address
	for _, s := range []string{"192.0.2.10", "2001:db8::10"} {
		a := wished(s, "near0")
		a.Taken, a.For, a.MACs = decide.StandIn, "other", []string{macX}
		desired = append(desired, a)
	}
	r := runReal(t)
	r.Set(desired, []config.Interface{near})
	for _, d := range desired {
		client.awaitNeighbour("standing in", d.Addr, macX, true)
	}
	desired = slices.Clone(desired)
	for i := range desired {
		desired[i].Taken, desired[i].For, desired[i].MACs = decide.TookOver, "", nil
	}
	r.Set(desired, []config.Interface{near})
	for _, d := range desired {
		client.awaitNeighbour("in its own name", d.Addr, near.MAC, false)
	}
}
