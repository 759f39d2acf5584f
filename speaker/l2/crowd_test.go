package l2

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
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
