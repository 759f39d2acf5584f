package arp

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// What is asked of others stays in the kernel: of 20,000 requests for neighbouring addresses none reaches the socket.
func TestForeignRequestsWakeNobody(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	b := &bench{heard: newHeard(), mac: mac(near.MAC), Client: nettest.OpenClient(t, far, unix.ETH_P_ARP)}
	r, err := Open(b.options(near))
	if err != nil {
		t.Fatal(err)
	}
	b.r = r
	ctx, cancel := context.WithCancel(t.Context())
	done := startRun(ctx, r)
	b.set(t, vip, vip2, sentinel)
	for i := range 20_000 {
		b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, netip.AddrFrom4([4]byte{192, 0, 2, []byte{9, 11, 13}[i%3]})))
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
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// While addresses come and go, one that stays is answered each time: exchanging the filter loses no frame.
func TestNoFrameIsLostWhileTheSetChanges(t *testing.T) {
	inWorlds(t, func(t *testing.T, b *bench) {
		for i := range 300 {
			addrs := []netip.Addr{vip, sentinel}
			for j := range i % 100 {
				addrs = append(addrs, netip.AddrFrom4([4]byte{198, 51, byte(j), byte(i)}))
			}
			b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip))
			b.set(t, addrs...)
		}
		b.until(t)
		if n := b.count.Requests.Load(); n != 301 {
			t.Errorf("%d requests arrived, want 301", n)
		}
	})
}

// Questions that waited for long are not answered: the process was frozen, and another may have the address by now.
func TestOldQuestionsAreNotAnswered(t *testing.T) {
	near, far := nettest.Veth(t, "near0", "far0")
	b := &bench{heard: newHeard(), mac: mac(near.MAC), Client: nettest.OpenClient(t, far, unix.ETH_P_ARP)}
	r, err := Open(b.options(near))
	if err != nil {
		t.Fatal(err)
	}
	b.r = r
	b.set(t, vip, sentinel)
	<-time.After(3 * time.Second) // the kernel begins to stamp frames a little after it was asked to
	for range 100 {
		b.Send(packetOf(t, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip))
	}
	<-time.After(1100 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	done := startRun(ctx, r)
	if diff := cmp.Diff([]string{}, b.until(t)); diff != "" {
		t.Errorf("frames (-want +got):\n%s", diff)
	}
	stats, err := r.conn.(*frame.Socket).Stats()
	if err != nil || stats.Packets != 101 || stats.Drops != 0 {
		t.Errorf("the socket got %d frames and dropped %d (%v), want 101", stats.Packets, stats.Drops, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
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
		r, err := Open((&bench{}).options(near))
		if err == nil {
			r.Close()
		}
		result <- err
	}()
	if err := <-result; !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v, want fs.ErrPermission", err)
	}
}

func BenchmarkAnswer(b *testing.B) {
	near, far := nettest.Veth(b, "near0", "far0")
	bench := &bench{heard: newHeard(), mac: mac(near.MAC), Client: nettest.OpenClient(b, far, unix.ETH_P_ARP)}
	r, err := Open(bench.options(near))
	if err != nil {
		b.Fatal(err)
	}
	bench.r = r
	ctx, cancel := context.WithCancel(b.Context())
	done := startRun(ctx, r)
	bench.set(b, vip)
	request := packetOf(b, ethernet.Broadcast, arp.OperationRequest, peerMAC, peer, vip)
	for b.Loop() {
		bench.Send(request)
		bench.Next()
	}
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
