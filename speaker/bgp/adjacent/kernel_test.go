package adjacent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// inside is the Host of a network namespace.
type inside struct{ ns netns.NsHandle }

func (h inside) do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(h.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (h inside) Listen(iface string) (c Conn, mac net.HardwareAddr, err error) {
	err = h.do(func() error { c, mac, err = Kernel{}.Listen(iface); return err })
	return c, mac, err
}

func (h inside) Neighbors(iface string) (out []netip.Addr, err error) {
	err = h.do(func() error { out, err = Kernel{}.Neighbors(iface); return err })
	return out, err
}

func newNamespace(t *testing.T) inside {
	t.Helper()
	var ns netns.NsHandle
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		ns, err = netns.New()
	}()
	<-done
	if errors.Is(err, syscall.EPERM) {
		t.Skip("needs the privilege to make network namespaces (CAP_SYS_ADMIN)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return inside{ns}
}

// TestTwoFindersFindEachOther puts one at each end of a cable.
func TestTwoFindersFindEachOther(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	up := func(name string) func() error {
		return func() error {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		}
	}
	for _, err := range []error{
		a.do(func() error {
			return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1", PeerNamespace: netlink.NsFd(int(b.ns))})
		}),
		a.do(up("eth0")), b.do(up("eth1")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ends := []*Finder{On(a, "eth0", slog.New(slog.DiscardHandler)), On(b, "eth1", slog.New(slog.DiscardHandler))}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, f := range ends {
		wg.Go(func() { f.Run(ctx) })
	}
	defer wg.Wait()
	defer cancel()
	began := time.Now()
	for i, f := range ends {
		other := []inside{b, a}[i]
		name := []string{"eth1", "eth0"}[i]
		var want netip.Addr
		deadline := time.After(2 * time.Minute)
		for {
			got, err := f.Router()
			if err == nil {
				must := other.do(func() error { want = linkLocal(name); return nil })
				if must != nil || got.WithZone("") != want {
					t.Errorf("end %d found %s, want %s (%v)", i, got, want, must)
				}
				break
			}
			select {
			case <-f.Changed():
			case <-deadline:
				t.Fatalf("end %d found nobody: %v", i, err)
			}
		}
	}
	t.Logf("both found %s after the cable was there (duplicate address detection included)", time.Since(began).Round(time.Millisecond))
}

func linkLocal(name string) netip.Addr {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}
	}
	addrs, _ := ifi.Addrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsLinkLocalUnicast() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	h := newNamespace(t)
	if _, _, err := h.Listen("eth7"); err == nil || err.Error() != "this node has no interface eth7" {
		t.Errorf("error %v", err)
	}
	if _, _, err := h.Listen("lo"); err == nil || err.Error() != "the interface lo has no IPv6 link-local address" {
		t.Errorf("error %v", err)
	}
}
