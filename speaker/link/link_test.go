package link

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

func TestMain(m *testing.M) { os.Exit(nettest.Main(m)) }

func TestDefaultExclude(t *testing.T) {
	exclude, err := ParseExclude(DefaultExclude)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"lo": true, "docker0": true, "br-0123456789ab": true, "veth1a2b": true, "cali123": true, "cilium_host": true, "lxc_health": true,
		"kube-ipvs0": true, "flannel.1": true, "cni0": true, "wg0": true, "tunl0": true, "nodelocaldns": true, "virbr0": true,
		"eth0": false, "eno1": false, "enp3s0f0": false, "bond0": false, "bond0.100": false, "br0": false, "br-lan": false, "vlan10": false,
		"team0": false, "wlan0": false, "ens192": false, "lo1": false, "em1": false, "br-ex": false,
	} {
		if got := excluded(name, exclude); got != want {
			t.Errorf("%s excluded: %v, want %v", name, got, want)
		}
	}
	if _, err := ParseExclude("eth0, ("); err == nil {
		t.Error("a bad expression is no error")
	}
	if list, err := ParseExclude(" "); err != nil || len(list) != 0 {
		t.Errorf("an empty list gives %v, %v", list, err)
	}
}

const (
	upFlags = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOWER_UP | unix.IFF_BROADCAST | unix.IFF_MULTICAST
	testMAC = "02:00:00:00:00:01"
)

func attrs(name string, index int, change func(*netlink.LinkAttrs)) netlink.LinkAttrs {
	a := netlink.LinkAttrs{Name: name, Index: index, EncapType: "ether", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, RawFlags: upFlags}
	if change != nil {
		change(&a)
	}
	return a
}

func flags(f uint32) func(*netlink.LinkAttrs) { return func(a *netlink.LinkAttrs) { a.RawFlags = f } }

func master(i int) func(*netlink.LinkAttrs) { return func(a *netlink.LinkAttrs) { a.MasterIndex = i } }

func TestUsable(t *testing.T) {
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: attrs("eth1", 11, nil)},
		&netlink.Device{LinkAttrs: attrs("eth0", 10, nil)},
		&netlink.Device{LinkAttrs: attrs("lo", 1, flags(upFlags|unix.IFF_LOOPBACK))},
		&netlink.Device{LinkAttrs: attrs("noarp", 2, flags(upFlags|unix.IFF_NOARP))},
		&netlink.Device{LinkAttrs: attrs("ppp", 3, flags(upFlags|unix.IFF_POINTOPOINT))},
		&netlink.Device{LinkAttrs: attrs("tun", 4, func(a *netlink.LinkAttrs) { a.EncapType = "none"; a.HardwareAddr = nil })},
		&netlink.Bond{LinkAttrs: attrs("bond0", 20, nil)},
		&netlink.Device{LinkAttrs: attrs("port1", 21, master(20))},
		&netlink.Bridge{LinkAttrs: attrs("br0", 22, nil)},
		&netlink.Device{LinkAttrs: attrs("port2", 23, master(22))},
		&netlink.Vrf{LinkAttrs: attrs("vrf0", 24, flags(upFlags|unix.IFF_NOARP))},
		&netlink.Device{LinkAttrs: attrs("inVRF", 25, master(24))},
		&netlink.Device{LinkAttrs: attrs("portOfUnknown", 26, master(99))},
		&netlink.Vlan{LinkAttrs: attrs("bond0.7", 27, nil)},
		&netlink.GenericLink{LinkAttrs: attrs("team0", 40, nil), LinkType: "team"},
		&netlink.Device{LinkAttrs: attrs("teamPort", 41, master(40))},
		&netlink.Vlan{LinkAttrs: attrs("port1.9", 42, nil)}, // a VLAN on a bond's port is no port itself
		&netlink.Vlan{LinkAttrs: attrs("vlanInVRF", 43, master(24))},
		&netlink.Vlan{LinkAttrs: attrs("vlanInBridge", 44, master(22))},
		&netlink.Bond{LinkAttrs: attrs("bondInBridge", 45, master(22))},
		&netlink.Bridge{LinkAttrs: attrs("bridgeInVRF", 46, master(24))},
		&netlink.Macvlan{LinkAttrs: attrs("macvlan0", 47, nil)},
		&netlink.Device{LinkAttrs: attrs("inOVS", 48, master(49))},
		&netlink.GenericLink{LinkAttrs: attrs("ovs-system", 49, flags(unix.IFF_BROADCAST)), LinkType: "openvswitch"},
		&netlink.Device{LinkAttrs: attrs("down", 30, flags(unix.IFF_BROADCAST))},
		&netlink.Device{LinkAttrs: attrs("nocarrier", 31, flags(unix.IFF_UP|unix.IFF_BROADCAST))},
		&netlink.Device{LinkAttrs: attrs("dormant", 32, flags(unix.IFF_UP|unix.IFF_LOWER_UP))},
		&netlink.Veth{LinkAttrs: attrs("skipme", 33, nil)},
	}
	addr := func(index int, s string) netlink.Addr {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		a.LinkIndex = index
		return *a
	}
	addrs := []netlink.Addr{
		addr(10, "2001:db8::5/64"), addr(10, "192.0.2.7/24"), addr(10, "192.0.2.8/24"), addr(10, "fe80::1/64"), addr(10, "169.254.1.1/16"),
		addr(10, "198.51.100.1/32"), addr(10, "2001:db8:1::1/128"), addr(1, "127.0.0.1/8"), addr(30, "203.0.113.1/24"), addr(21, "10.0.0.1/8"),
	}
	subnets := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}
	want := []config.Interface{
		{Name: "bond0", Index: 20, MAC: testMAC, Up: true},
		{Name: "bond0.7", Index: 27, MAC: testMAC, Up: true},
		{Name: "br0", Index: 22, MAC: testMAC, Up: true},
		{Name: "bridgeInVRF", Index: 46, MAC: testMAC, Up: true},
		{Name: "dormant", Index: 32, MAC: testMAC},
		{Name: "down", Index: 30, MAC: testMAC, Subnets: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
		{Name: "eth0", Index: 10, MAC: testMAC, Up: true, Subnets: subnets},
		{Name: "eth1", Index: 11, MAC: testMAC, Up: true},
		{Name: "inVRF", Index: 25, MAC: testMAC, Up: true},
		{Name: "macvlan0", Index: 47, MAC: testMAC, Up: true},
		{Name: "nocarrier", Index: 31, MAC: testMAC},
		{Name: "ovs-system", Index: 49, MAC: testMAC},
		{Name: "port1.9", Index: 42, MAC: testMAC, Up: true},
		{Name: "team0", Index: 40, MAC: testMAC, Up: true},
		{Name: "vlanInVRF", Index: 43, MAC: testMAC, Up: true},
	}
	got := usable(links, addrs, []*regexp.Regexp{regexp.MustCompile("^skip")})
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

// patience is how long something may take that normally takes milliseconds: the machine may be very busy.
const patience = 2 * time.Minute

// run starts a watcher that ends with the test.
func run(t *testing.T, exclude ...*regexp.Regexp) *Watcher {
	t.Helper()
	w := New(Options{Exclude: exclude, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

// await waits until the named interface is as ok wants it; nil stands for an interface that is not published.
func await(t *testing.T, w *Watcher, what, name string, ok func(*config.Interface) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		var ifi *config.Interface
		if i := slices.IndexFunc(w.Interfaces(), func(i config.Interface) bool { return i.Name == name }); i >= 0 {
			ifi = &w.Interfaces()[i]
		}
		if ok(ifi) {
			return
		}
		select {
		case <-w.Changed():
		case <-deadline:
			t.Fatalf("%s: still %+v", what, ifi)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func there(up bool) func(*config.Interface) bool {
	return func(i *config.Interface) bool { return i != nil && i.Up == up }
}
func gone(i *config.Interface) bool { return i == nil }

func TestWatchLife(t *testing.T) {
	nettest.Need(t)
	w := run(t, regexp.MustCompile("^far"))
	near, far := nettest.Veth(t, "near0", "far0")
	await(t, w, "appears", "near0", there(true))
	await(t, w, "excluded", "far0", gone)

	must(t, netlink.LinkSetDown(nettest.Link(t, far.Name)))
	await(t, w, "carrier lost", "near0", there(false))
	nettest.Up(t, far.Name)
	await(t, w, "carrier back", "near0", there(true))
	must(t, netlink.LinkSetDown(nettest.Link(t, near.Name)))
	await(t, w, "set down", "near0", there(false))
	nettest.Up(t, near.Name)
	await(t, w, "set up", "near0", there(true))

	for n, s := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		addr, err := netlink.ParseAddr(s)
		must(t, err)
		must(t, netlink.AddrAdd(nettest.Link(t, "near0"), addr))
		await(t, w, s, "near0", func(i *config.Interface) bool { return i != nil && len(i.Subnets) == n+1 })
	}

	must(t, netlink.LinkSetHardwareAddr(nettest.Link(t, "near0"), net.HardwareAddr{2, 0, 0, 0, 0, 9}))
	await(t, w, "another MAC", "near0", func(i *config.Interface) bool { return i != nil && i.MAC == "02:00:00:00:00:09" })

	must(t, netlink.LinkSetName(nettest.Link(t, "near0"), "near1"))
	await(t, w, "new name", "near1", func(i *config.Interface) bool { return i != nil && i.Index == near.Index })
	await(t, w, "old name", "near0", gone)
	nettest.Remove(t, "near1")
	await(t, w, "removed", "near1", gone)
}

// A loss of carrier that is over when the watcher looks is told of all the same.
func TestWatchShortLoss(t *testing.T) {
	nettest.Need(t)
	w := run(t)
	_, far := nettest.Veth(t, "near0", "far0")
	await(t, w, "appears", "near0", there(true))
	link := nettest.Link(t, far.Name)
	stirred := func() (n uint64, up bool) {
		for _, i := range w.Interfaces() {
			if i.Name == "near0" {
				n, up = i.Stirred, i.Up
			}
		}
		return n, up
	}
	before, _ := stirred()
	deadline := time.After(patience)
	for n, up := stirred(); n == before || !up; n, up = stirred() { // one that the watcher sees itself does not count
		must(t, netlink.LinkSetDown(link))
		must(t, netlink.LinkSetUp(link))
		select {
		case <-deadline:
			t.Fatalf("stirred %d times, at first %d; up: %v", n, before, up)
		default:
		}
	}
}

func TestStirred(t *testing.T) {
	message := func(kind uint16, flags uint32, event uint32) syscall.NetlinkMessage {
		info := nl.NewIfInfomsg(unix.AF_UNSPEC)
		info.Index, info.Flags = 7, flags
		data := append(info.Serialize(), nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(1500)).Serialize()...)
		if event > 0 {
			data = append(data, nl.NewRtAttr(unix.IFLA_EVENT, nl.Uint32Attr(event)).Serialize()...)
		}
		return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data}
	}
	cut := message(unix.RTM_NEWLINK, upFlags, unix.IFLA_EVENT_NOTIFY_PEERS)
	cut.Data = cut.Data[:len(cut.Data)-2]
	short := message(unix.RTM_NEWLINK, 0, 0)
	short.Data = short.Data[:10]
	for _, tt := range []struct {
		name    string
		message syscall.NetlinkMessage
		want    bool
	}{
		{"nothing special", message(unix.RTM_NEWLINK, upFlags, 0), false},
		{"a virtual machine has moved", message(unix.RTM_NEWLINK, upFlags, unix.IFLA_EVENT_NOTIFY_PEERS), true},
		{"a bond has changed over", message(unix.RTM_NEWLINK, upFlags, unix.IFLA_EVENT_BONDING_FAILOVER), true},
		{"another event", message(unix.RTM_NEWLINK, upFlags, unix.IFLA_EVENT_FEATURES), false},
		{"no carrier", message(unix.RTM_NEWLINK, unix.IFF_UP|unix.IFF_BROADCAST, 0), true},
		{"set down", message(unix.RTM_NEWLINK, unix.IFF_BROADCAST, 0), true},
		{"removed", message(unix.RTM_DELLINK, 0, 0), false},
		{"an address", message(unix.RTM_NEWADDR, 0, 0), false},
		{"cut", cut, false},
		{"too short", short, false},
	} {
		index, got := stirred(tt.message)
		if got != tt.want || got && index != 7 {
			t.Errorf("%s: stirred %v (link %d), want %v", tt.name, got, index, tt.want)
		}
	}
}

func TestWatchBridgePorts(t *testing.T) {
	nettest.Need(t)
	w := run(t)
	nettest.Veth(t, "near0", "far0")
	la := netlink.NewLinkAttrs()
	la.Name = "br0"
	must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la}))
	t.Cleanup(func() { nettest.Remove(t, "br0") })
	nettest.Up(t, "br0")
	await(t, w, "before it is a port", "near0", there(true))
	must(t, netlink.LinkSetMaster(nettest.Link(t, "near0"), nettest.Link(t, "br0")))
	await(t, w, "port", "near0", gone)
	await(t, w, "bridge", "br0", there(true))
	must(t, netlink.LinkSetNoMaster(nettest.Link(t, "near0")))
	await(t, w, "port no more", "near0", there(true))
}

// More changes than a socket can hold notifications of: in the end the picture is right.
func TestWatchStorm(t *testing.T) {
	nettest.Need(t)
	w := run(t)
	nettest.Veth(t, "near0", "far0")
	link := nettest.Link(t, "near0")
	for i := range 500 {
		addr, err := netlink.ParseAddr(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String() + "/24")
		must(t, err)
		must(t, netlink.AddrAdd(link, addr))
	}
	await(t, w, "all subnets", "near0", func(i *config.Interface) bool { return i != nil && len(i.Subnets) == 500 })
}

func TestSubscriptionTellsOfItsEnd(t *testing.T) {
	nettest.Need(t)
	sub, err := subscribe()
	must(t, err)
	sub.socket.Close()
	select {
	case err := <-sub.failed:
		if err == nil {
			t.Error("no error though the socket is gone")
		}
	case <-time.After(patience):
		t.Fatal("the reader does not notice")
	}
	sub.stop()
}
