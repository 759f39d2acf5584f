package gobgp

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
)

// counter is a router that counts the routes it is told, and reads as fast as it can; hung, it reads nothing.
type counter struct {
	announced, withdrawn, updates atomic.Int64
	hung                          atomic.Bool
	listener                      net.Listener
}

func startCounter(tb testing.TB, address string) *counter {
	tb.Helper()
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		tb.Fatal(err)
	}
	c := &counter{listener: l}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.serve(conn)
		}
	}()
	tb.Cleanup(func() { l.Close(); <-done })
	return c
}

func (c *counter) port() uint16 { return uint16(c.listener.Addr().(*net.TCPAddr).Port) }

func (c *counter) serve(conn net.Conn) {
	defer conn.Close()
	if _, err := conn.Write(append(mustSerialize(routerOpen(64513).message()), keepalive()...)); err != nil {
		return
	}
	in, buf := bufio.NewReaderSize(conn, 1<<16), make([]byte, packet.BGP_MAX_MESSAGE_LENGTH)
	for {
		for c.hung.Load() {
			time.Sleep(time.Millisecond)
		}
		f, err := readFrame(in, buf)
		if err != nil {
			return
		}
		if f.kind == packet.BGP_MSG_UPDATE {
			withdrawn, _, _ := cut(f.body)
			c.updates.Add(1)
			c.withdrawn.Add(int64(prefixes(withdrawn)))
			c.announced.Add(int64(offered(f.body)))
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFourPeers tells 10,000 routes to 4 peers, one of them hung if so named, then one more, then takes all back.
func BenchmarkFourPeers(b *testing.B) {
	const size = 10_000
	for _, hung := range []bool{false, true} {
		b.Run(fmt.Sprintf("hung=%v", hung), func(b *testing.B) {
			var counters []*counter
			var d bgp.Desired
			var names []string
			for i := range 4 {
				c := startCounter(b, fmt.Sprintf("127.0.18.%d", i+1))
				name := fmt.Sprint("p", i)
				counters, names = append(counters, c), append(names, name)
				d.Peers = append(d.Peers, configPeer(name, fmt.Sprintf("127.0.18.%d", i+1), "127.0.17.9", c.port(), 64512, 64513, config.IPv4))
			}
			a, stop := stoppableAnnouncer(Options{}, 0)
			defer stop(nil)
			a.Set(d)
			for _, c := range names {
				wait(b, func() bool { return sessionOf(a, c).State == "Established" })
			}
			if hung {
				counters[3].hung.Store(true)
				defer counters[3].hung.Store(false)
				counters = counters[:3]
			}
			all, more := manyRoutes(size, names...), manyRoutes(size+1, names...)
			var load, one, withdraw, spent time.Duration
			for b.Loop() {
				reset(counters)
				d.Routes = all
				before := cpu()
				load += took(b, a, d, counters, func(c *counter) bool { return c.announced.Load() == size })
				spent += cpu() - before
				reset(counters)
				d.Routes = more
				one += took(b, a, d, counters, func(c *counter) bool { return c.announced.Load() == 1 })
				for _, c := range counters {
					if n := c.updates.Load(); n != 1 {
						b.Fatalf("one more route is %d UPDATEs, want 1", n)
					}
				}
				d.Routes = nil
				withdraw += took(b, a, d, counters, func(c *counter) bool { return c.withdrawn.Load() == size+1 })
			}
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
			b.ReportMetric(ms(load), "ms/load")
			b.ReportMetric(ms(one), "ms/one-more")
			b.ReportMetric(ms(withdraw), "ms/withdraw")
			b.ReportMetric(ms(spent), "cpu-ms/load")
			a.Set(bgp.Desired{Peers: d.Peers, Routes: all})
			for _, c := range names[:len(counters)] {
				wait(b, func() bool { return sessionOf(a, c).Advertised[config.IPv4] == size })
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapAlloc)/1e6, "MB-heap")
		})
	}
}

func reset(counters []*counter) {
	for _, c := range counters {
		c.announced.Store(0)
		c.withdrawn.Store(0)
		c.updates.Store(0)
	}
}

// took sets what is desired and returns how long it takes until all counters are satisfied.
func took(b *testing.B, a *bgp.Announcer, d bgp.Desired, counters []*counter, ok func(*counter) bool) time.Duration {
	began := time.Now()
	a.Set(d)
	for _, c := range counters {
		wait(b, func() bool { return ok(c) })
	}
	return time.Since(began)
}

func wait(b *testing.B, cond func() bool) {
	b.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			b.Fatal("gave up waiting")
		}
		runtime.Gosched()
		time.Sleep(50 * time.Microsecond)
	}
}

// BenchmarkResolve is what every change costs one session: resolving 10,000 paths and comparing them with what was sent.
func BenchmarkResolve(b *testing.B) {
	var adv bgp.Advert
	for _, page := range manyRoutes(10_000, "p") {
		var paths []bgp.Path
		for _, r := range page {
			paths = append(paths, bgp.Path{Prefix: r.Prefix, RouteAttributes: rich})
		}
		adv.Paths = append(adv.Paths, paths)
	}
	l := bgp.Local{Address: netip.MustParseAddr("10.0.0.5"), Families: bgp.Families{IPv4: true}}
	sent, _ := adv.Resolve(l)
	b.ReportAllocs()
	for b.Loop() {
		want, _ := adv.Resolve(l)
		if announce, withdraw := bgp.Diff(sent, want); announce != nil || withdraw != nil {
			b.Fatal("differs")
		}
	}
}
