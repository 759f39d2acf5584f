package ndp

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// What is asked of others, and all other IPv6 traffic, stays in the kernel: none of it reaches the socket.
func TestForeignTrafficWakesNobody(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	b := newBench()
	b.mac, b.Client = mac(near.MAC), nettest.OpenClient(t, far, unix.ETH_P_IPV6)
	r, err := Open(b.options(near))
	if err != nil {
		t.Fatal(err)
	}
	b.r = r
	ctx, cancel := context.WithCancel(t.Context())
	done := startRun(ctx, r)
	b.set(t, vip, vip2, sentinel)
	foreign := [][]byte{
		ns(t, nil, peerMAC, peer, between, peerMAC),
		na(t, peerMAC, peer, between, peerMAC),
		edit(ns(t, nil, peerMAC, peer, vip, peerMAC), 14+6, unix.IPPROTO_UDP),
		edit(ns(t, nil, peerMAC, peer, vip, peerMAC), 14+7, 64),
		build(t, multicastMAC(allNodes), peerMAC, peer, allNodes, &ndp.RouterSolicitation{}),
		ns(t, otherMAC, peerMAC, peer, vip, nil),
	}
	for i := range 12_000 {
		b.Send(foreign[i%len(foreign)])
	}
	b.until(t)
	stats, err := r.conn.(*frame.Socket).Stats()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Packets != 1 || stats.Drops != 0 {
		t.Errorf("the socket got %d frames and dropped %d, want the one that was for us", stats.Packets, stats.Drops)
	}
	cancel()
	if err := errors.Join(<-done, r.Close()); err != nil {
		t.Error(err)
	}
}

// A link-local address is not needed: where the interface has none, or only a tentative one, answers come all the same.
func TestWithoutLinkLocal(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		if name := b.r.opt.Interface.Name; name != "" {
			link := nettest.Link(t, name)
			addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range addrs {
				if err := netlink.AddrDel(link, &a); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.set(t, vip, vip2, between, sentinel)
		b.Send(ns(t, nil, peerMAC, peer, between, peerMAC))
		if diff := cmp.Diff([]string{b.answer(peerMAC, peer, between, true)}, b.until(t)); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
	})
}

// Without CAP_NET_RAW the error can be told from others, for the operator's sake.
func TestOpenWithoutCapability(t *testing.T) {
	near, _ := nettest.Veth(t, "near0", "far0")
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread that gave up its capabilities ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			result <- err
			return
		}
		r, err := Open(newBench().options(near))
		if err == nil {
			r.Close()
		}
		result <- err
	}()
	if err := <-result; !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want fs.ErrPermission", err)
	}
}
