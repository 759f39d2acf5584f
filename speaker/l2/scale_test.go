package l2

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// crowd is a station that asks for many addresses and listens for answers and announcements.
type crowd struct {
	t    testing.TB
	conn frame.Conn
	mac  net.HardwareAddr
	six  bool
	took sync.WaitGroup

	mu   sync.Mutex
	asks map[netip.Addr]time.Time // when an address was asked for that was not answered yet
	lags []time.Duration          // from question to answer
	told map[netip.Addr]int       // announcements
	when [2]time.Time             // the first announcement of all, the first of the last address
	seen map[netip.Addr]string    // MAC last heard
}

// newCrowd returns a station on the interface.
func newCrowd(t testing.TB, ifi config.Interface, six bool) *crowd {
	t.Helper()
	protocol := unix.ETH_P_ARP
	if six {
		protocol = unix.ETH_P_IPV6
	}
	conn, err := frame.Listen(ifi, protocol)
	if err == nil {
		var all []bpf.RawInstruction
		if all, err = bpf.Assemble([]bpf.Instruction{bpf.RetConstant{Val: 2048}}); err == nil {
			err = conn.SetBPF(all)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(ifi.MAC)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, conn: conn, mac: mac, six: six, asks: map[netip.Addr]time.Time{}, told: map[netip.Addr]int{}, seen: map[netip.Addr]string{}}
	c.took.Go(c.listen)
	t.Cleanup(func() { conn.Close(); c.took.Wait() })
	return c
}

func (c *crowd) listen() {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		c.hear(buf[:n], time.Now())
	}
}

// hear takes an answer (to us) or an announcement (to everyone) down.
func (c *crowd) hear(b []byte, now time.Time) {
	var addr netip.Addr
	switch {
	case !c.six && len(b) >= 42:
		addr = netip.AddrFrom4([4]byte(b[28:32]))
	case c.six && len(b) >= 86 && b[20] == unix.IPPROTO_ICMPV6 && b[54] == 136:
		addr = netip.AddrFrom16([16]byte(b[62:78]))
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[addr] = net.HardwareAddr(b[6:12]).String()
	if b[0]&1 == 1 {
		if c.told[addr]++; c.told[addr] == 1 {
			c.when[1] = now
		}
		if c.when[0].IsZero() {
			c.when[0] = now
		}
		return
	}
	if at, ok := c.asks[addr]; ok {
		delete(c.asks, addr)
		c.lags = append(c.lags, now.Sub(at))
	}
}

// ask asks for an address.
func (c *crowd) ask(addr netip.Addr) {
	b := c.question(addr)
	c.mu.Lock()
	c.asks[addr] = time.Now()
	c.mu.Unlock()
	if err := frame.Send(c.conn, b); err != nil {
		c.t.Fatalf("ask for %v: %v", addr, err)
	}
}

// question builds the frame that asks for an address.
func (c *crowd) question(addr netip.Addr) []byte {
	if !c.six {
		b := slices.Concat([]byte{255, 255, 255, 255, 255, 255}, c.mac, []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, c.mac, []byte{192, 0, 2, 1}, make([]byte, 6))
		return append(b, addr.AsSlice()...)
	}
	src, group := netip.MustParseAddr("fe80::1:2:3"), addr.As16()
	dst := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: group[13], 14: group[14], 15: group[15]})
	body := &ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: c.mac}}}
	payload, err := ndp.MarshalMessageChecksum(body, src, dst)
	if err != nil {
		c.t.Fatal(err)
	}
	head := make([]byte, 8)
	head[0], head[6], head[7] = 6<<4, unix.IPPROTO_ICMPV6, 255
	binary.BigEndian.PutUint16(head[4:], uint16(len(payload)))
	to := net.HardwareAddr{0x33, 0x33, 0xff, group[13], group[14], group[15]}
	return slices.Concat(to, c.mac, []byte{0x86, 0xdd}, head, src.AsSlice(), dst.AsSlice(), payload)
}

// await waits until ok holds, which is called under the lock.
func (c *crowd) await(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 12_000 {
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done {
			return
		}
		<-tick.C
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Fatalf("%s: %d addresses announced, %d questions unanswered", what, len(c.told), len(c.asks))
}

// percentile sorts lags.
func percentile(lags []time.Duration, p int) time.Duration {
	slices.Sort(lags)
	return lags[(len(lags)-1)*p/100]
}

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

// BenchmarkTakeover measures from Set until the first announcement, until each address was announced and until all are answered for.
func BenchmarkTakeover(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		for _, six := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/IPv6=%v", n, six), func(b *testing.B) {
				near, far := nettest.Veth(b, "near0", "far0")
				addrs := many(n, six)
				r := runReal(b)
				var first, last, all time.Duration
				for b.Loop() {
					c := newCrowd(b, far, six)
					began := time.Now()
					r.Set(wishFor(addrs, near.Name), []config.Interface{near})
					awaitHeld(b, r, n)
					all += time.Since(began)
					c.await("announcements", func() bool { return len(c.told) == n })
					first, last = first+c.when[0].Sub(began), last+c.when[1].Sub(began)
					r.Set(nil, []config.Interface{near})
					awaitHeld(b, r, 0)
					c.conn.Close()
				}
				b.ReportMetric(float64(first.Microseconds())/1000/float64(b.N), "ms-first")
				b.ReportMetric(float64(last.Microseconds())/1000/float64(b.N), "ms-last")
				b.ReportMetric(float64(all.Microseconds())/1000/float64(b.N), "ms-answered")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkLatency asks for 1,000 addresses 5,000 times a second and reports how long answers take; with others keeping the processors busy
// too (a processor each, and as many again).
func BenchmarkLatency(b *testing.B) {
	for _, busy := range []int{0, 2, 4} {
		b.Run(fmt.Sprintf("busy=%d", busy), func(b *testing.B) {
			near, far := nettest.Veth(b, "near0", "far0")
			addrs := many(1000, false)
			r := runReal(b)
			r.Set(wishFor(addrs, near.Name), []config.Interface{near})
			awaitHeld(b, r, len(addrs))
			awaitQuiet(b, r, len(addrs))
			c := newCrowd(b, far, false)
			defer burn(b, busy)()
			next := time.Now()
			for i := 0; b.Loop(); i++ {
				c.ask(addrs[i%len(addrs)])
				if next = next.Add(200 * time.Microsecond); i%5 == 4 {
					<-time.After(time.Until(next))
				}
			}
			c.await("answers", func() bool { return len(c.asks) == 0 })
			b.ReportMetric(float64(percentile(c.lags, 50).Nanoseconds())/1e6, "ms-p50")
			b.ReportMetric(float64(percentile(c.lags, 99).Nanoseconds())/1e6, "ms-p99")
			b.ReportMetric(float64(percentile(c.lags, 100).Nanoseconds())/1e6, "ms-max")
		})
	}
}

// BenchmarkForeign sends requests for addresses that are others', and reports what one costs where nobody listens, where a responder has one
// address and where it has 10,000 with gaps between; and how often the responder was woken.
func BenchmarkForeign(b *testing.B) {
	for _, n := range []int{0, 1, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			near, far := nettest.Veth(b, "near0", "far0")
			addrs := many(2*n, false)
			for i := range n {
				addrs[i] = addrs[2*i]
			}
			r := runReal(b)
			r.Set(wishFor(addrs[:n], near.Name), []config.Interface{near})
			awaitHeld(b, r, n)
			awaitQuiet(b, r, n)
			c := newCrowd(b, far, false)
			question := c.question(netip.MustParseAddr("192.0.2.77"))
			before := usage(b)
			for b.Loop() {
				if err := frame.Send(c.conn, question); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((usage(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/frame")
		})
	}
}

// usage returns the processor time the process has used.
func usage(t testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// burn keeps processors busy with as many processes until stop is called.
func burn(t testing.TB, processes int) (stop func()) {
	t.Helper()
	var all []*exec.Cmd
	for range processes {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatalf("keep a processor busy: %v", err)
		}
		all = append(all, cmd)
	}
	return func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
}
