package ndp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// joined returns the groups the kernel has for the interface, as far as the test's addresses can have made them: the interface's own
// address has one too, whenever the kernel gets round to it.
func joined(t *testing.T, name string) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 2 && f[1] == name && strings.HasPrefix(f[2], "ff0200000000000000000001ff00") {
			got[f[2]] = true
		}
	}
	return got
}

func wanted(addrs []netip.Addr) map[string]bool {
	want := map[string]bool{}
	for _, a := range addrs {
		want[fmt.Sprintf("%x", groupOf(a).As16())] = true
	}
	return want
}

// set joins the groups of the addresses and leaves all others, in portions.
func (g *groups) set(addrs []netip.Addr) error {
	addrs = slices.Compact(slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare))
	list := make([]frame.Answer, len(addrs))
	for i, a := range addrs {
		list[i].Addr = a
	}
	g.want(list)
	for {
		if left, err := g.work(100); left == 0 {
			return err
		}
	}
}

// From any set of addresses to any other, the kernel has exactly their groups; addresses may share one, and sockets are filled up again.
func TestGroupsFollowAddresses(t *testing.T) {
	near, _ := nettest.Veth(t, "near0", "far0")
	g := newGroups(near.Index)
	rnd := rand.New(rand.NewPCG(3, 4))
	most := 0
	for range 12 {
		var addrs []netip.Addr
		for range rnd.IntN(3 * perShard) {
			b := netip.MustParseAddr("2001:db8::").As16()
			b[7], b[14], b[15] = byte(rnd.IntN(3)), byte(rnd.IntN(4)), byte(rnd.IntN(256))
			addrs = append(addrs, netip.AddrFrom16(b))
		}
		if err := g.set(addrs); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wanted(addrs), joined(t, near.Name)); diff != "" {
			t.Fatalf("groups (-want +got):\n%s", diff)
		}
		most = max(most, len(wanted(addrs)))
	}
	if limit := most/perShard + 2; len(g.all) > limit {
		t.Errorf("%d sockets for at most %d groups, want at most %d", len(g.all), most, limit)
	}
	if err := g.close(); err != nil {
		t.Fatal(err)
	}
	if left := joined(t, near.Name); len(left) > 0 {
		t.Errorf("left in %v", left)
	}
}

func TestGroupsWithoutIPv6(t *testing.T) {
	near, _ := nettest.Veth(t, "near0", "far0")
	g := newGroups(near.Index + 1000)
	defer g.close()
	if err := g.set([]netip.Addr{vip, vip2}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("joining on an interface that does not exist: %v", err)
	}
	g.index = near.Index
	if err := g.set([]netip.Addr{vip, vip2}); err != nil { // tried again at once
		t.Errorf("after it appeared: %v", err)
	}
}

func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			near, _ := nettest.Veth(b, "near0", "far0")
			addrs := make([]netip.Addr, n)
			for i := range addrs {
				addrs[i] = netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
			}
			for b.Loop() {
				g := newGroups(near.Index)
				if err := g.set(addrs); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				g.close()
				b.StartTimer()
			}
		})
	}
}

func TestGroupOf(t *testing.T) {
	for _, a := range []netip.Addr{vip, netip.MustParseAddr("fe80::1234:5678"), netip.MustParseAddr("2001:db8::ff:ffff")} {
		want, err := ndp.SolicitedNodeMulticast(a) // the library as oracle
		if got := groupOf(a); err != nil || got != want {
			t.Errorf("group of %v is %v, want %v (%v)", a, got, want, err)
		}
	}
}

// The addresses whose group is not joined are named; the others are in force.
func TestGroupsPartly(t *testing.T) {
	near, _ := nettest.Veth(t, "near0", "far0")
	g := newGroups(near.Index)
	defer g.close()
	if err := g.set([]netip.Addr{vip}); err != nil {
		t.Fatal(err)
	}
	g.index += 1000
	if err := g.set([]netip.Addr{vip, vip2}); !errors.Is(err, unix.ENODEV) || !g.joined(vip) || g.joined(vip2) {
		t.Errorf("error %v, %v joined %v, %v joined %v; want the first alone", err, vip, g.joined(vip), vip2, g.joined(vip2))
	}
	g.index -= 1000
	if err := g.set([]netip.Addr{vip2}); err != nil || !g.joined(vip2) {
		t.Errorf("tried again: %v, joined %v", err, g.joined(vip2))
	}
}
