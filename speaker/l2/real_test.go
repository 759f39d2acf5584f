package l2

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// runReal runs a reconciler on real interfaces until the test ends.
func runReal(t testing.TB) *Reconciler {
	t.Helper()
	r := New(Options{Log: slog.New(slog.DiscardHandler), Probe: true})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// await waits until ok holds, and looks whenever the reconciler has something new.
func await(t testing.TB, r *Reconciler, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !ok() {
		select {
		case <-r.Changed():
		case <-deadline:
			t.Fatalf("%d addresses are answered for, conflicts %v", len(r.Actual()), r.Conflicts())
		}
	}
}

// awaitHeld waits until exactly n addresses are answered for.
func awaitHeld(t testing.TB, r *Reconciler, n int) {
	t.Helper()
	await(t, r, func() bool { return len(r.Actual()) == n })
}

// kernelClient is another network namespace on the segment, with the kernel's own ARP and NDP.
type kernelClient struct {
	t  *testing.T
	do func(func())
}

func newKernelClient(t *testing.T, name string, addrs ...string) *kernelClient {
	c := &kernelClient{t: t, do: nettest.Elsewhere(t, name)}
	c.do(func() {
		for _, s := range addrs {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				t.Error(err)
				return
			}
			a.Flags = unix.IFA_F_NODAD
			link, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.AddrAdd(link, a)
			}
			if err == nil {
				err = netlink.LinkSetUp(link)
			}
			if err != nil {
				t.Errorf("client address %s: %v", s, err)
			}
		}
	})
	return c
}

// awaitNeighbour waits until the client's kernel has the MAC for the address; asking has it look for it.
func (c *kernelClient) awaitNeighbour(what string, addr netip.Addr, mac string, asking bool) {
	c.t.Helper()
	got := ""
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 6000 {
		c.do(func() {
			if asking {
				ask(addr)
			}
			got = neighbour(addr)
		})
		if got == mac {
			return
		}
		<-tick.C
	}
	c.t.Errorf("%s: the client has %q for %v, want %s", what, got, addr, mac)
}

// askUntil has the client's kernel forget the addresses and look for them anew until ok.
func (c *kernelClient) askUntil(ok func() bool, addrs ...netip.Addr) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 6000 {
		c.do(func() {
			list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
			for i := range list {
				if a, ok := netip.AddrFromSlice(list[i].IP); ok && slices.Contains(addrs, a.Unmap()) {
					err = errors.Join(err, netlink.NeighDel(&list[i]))
				}
			}
			if err != nil && !errors.Is(err, unix.ENOENT) {
				c.t.Errorf("forget neighbours: %v", err)
			}
			for _, a := range addrs {
				ask(a)
			}
		})
		if ok() {
			return
		}
		<-tick.C
	}
	c.t.Error("the client's questions do not arrive")
}

// ask has the kernel look for the address.
func ask(addr netip.Addr) {
	if conn, err := net.Dial("udp", netip.AddrPortFrom(addr, 9).String()); err == nil {
		_, _ = conn.Write([]byte("?")) // nobody need listen: what counts is the question for the address
		conn.Close()
	}
}

func neighbour(addr netip.Addr) string {
	list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return err.Error()
	}
	for _, n := range list {
		if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == addr {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// Clients are kernels: they must believe our answers, and our announcements when the MAC changes.
func TestKernelBelievesUs(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	client := newKernelClient(t, far.Name, "192.0.2.100/24", "2001:db8::100/64")
	vip4, vip6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	desired := []decide.L2Address{{Addr: vip4, Interfaces: []string{"near0"}}, {Addr: vip6, Interfaces: []string{"near0"}}}
	r := runReal(t)
	r.Set(desired, []config.Interface{near})
	client.awaitNeighbour("ARP", vip4, near.MAC, true)
	client.awaitNeighbour("NDP", vip6, near.MAC, true)
	client.askUntil(func() bool { // what it knows may come from an announcement, so have it forget and ask
		return !slices.ContainsFunc(r.Counts(), func(c Count) bool { return c.Requests == 0 })
	}, vip4, vip6)
	client.awaitNeighbour("ARP", vip4, near.MAC, true)
	client.awaitNeighbour("NDP", vip6, near.MAC, true)

	moved := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	if err := netlink.LinkSetHardwareAddr(nettest.Link(t, "near0"), moved); err != nil {
		t.Fatal(err)
	}
	near.MAC = moved.String()
	r.Set(desired, []config.Interface{near})
	client.awaitNeighbour("gratuitous ARP", vip4, near.MAC, false)
	client.awaitNeighbour("unsolicited NA", vip6, near.MAC, false)
	if c := r.Conflicts(); len(c) != 0 {
		t.Errorf("conflicts with nobody: %v", c)
	}
	for _, c := range r.Counts() {
		if c.Gratuitous == 0 || c.SendErrors > 0 || c.Malformed > 0 {
			t.Errorf("counts %+v", c)
		}
	}
}

// A kernel that takes an address of ours is heard.
func TestKernelConflict(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	vip4, vip6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	r := runReal(t)
	r.Set([]decide.L2Address{{Addr: vip4, Interfaces: []string{"near0"}}, {Addr: vip6, Interfaces: []string{"near0"}}}, []config.Interface{near})
	awaitHeld(t, r, 2)
	client := newKernelClient(t, far.Name, "192.0.2.10/24", "2001:db8::10/64")
	client.do(func() { // it asks for others in the name of our addresses
		for _, to := range []string{"192.0.2.99:9", "[2001:db8::99]:9"} {
			if conn, err := net.Dial("udp", to); err != nil {
				t.Error(err)
			} else {
				_, _ = conn.Write([]byte("?")) // it is the question for the address that counts
				conn.Close()
			}
		}
	})
	await(t, r, func() bool { return len(r.Conflicts()) == 2 })
	for _, c := range r.Conflicts() {
		if c.MAC != far.MAC || c.Interface != "near0" {
			t.Errorf("conflict %+v, want one with %s", c, far.MAC)
		}
	}
}

// An interface that goes and comes back, with another index, is answered on again.
func TestInterfaceComesBack(t *testing.T) {
	near, _ := nettest.Veth(t, "near0", "far0")
	desired := []decide.L2Address{{Addr: netip.MustParseAddr("192.0.2.10"), Interfaces: []string{"near0"}}, {Addr: netip.MustParseAddr("2001:db8::10"), Interfaces: []string{"near0"}}}
	r := runReal(t)
	r.Set(desired, []config.Interface{near})
	awaitHeld(t, r, 2)
	nettest.Remove(t, "near0")
	awaitHeld(t, r, 0) // it finds out by itself
	near, _ = nettest.Veth(t, "near0", "far0")
	r.Set(desired, []config.Interface{near})
	awaitHeld(t, r, 2)
}

// awaitQuiet waits until n addresses of one protocol have been announced as often as a takeover asks for.
func awaitQuiet(t testing.TB, r *Reconciler, n int) {
	t.Helper()
	frames := uint64(n * bursts)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 6000 {
		done := n == 0
		for _, c := range r.Counts() {
			done = done || c.Gratuitous >= frames && (c.Protocol == NDP || c.Gratuitous >= 2*frames)
		}
		if done {
			return
		}
		<-tick.C
	}
	t.Fatalf("not announced often enough: %+v", r.Counts())
}
