package l2

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/l2/frame"
	"github.com/heraldlb/herald/speaker/l2/nettest"
)

// BenchmarkSetToAnswering measures from Set until the new address is answered, among n others, and the processor time it takes.
func BenchmarkSetToAnswering(b *testing.B) {
	for _, n := range []int{0, 300, 3000, 10_000} {
		for _, family := range []string{"ARP", "NDP"} {
			b.Run(fmt.Sprint(family, "/", n), func(b *testing.B) { benchSet(b, n, family == "NDP") })
		}
	}
}

func benchSet(b *testing.B, n int, six bool) {
	near, _ := nettest.Veth(b, "near0", "far0")
	r := runReal(b)
	links := []config.Interface{near}
	desired := wishFor(many(n+1, six), near.Name)
	r.Set(desired[:n], links)
	awaitHeld(b, r, n)
	awaitQuiet(b, r, n)
	var cpu time.Duration
	for b.Loop() {
		before := usage(b)
		r.Set(desired, links)
		awaitHeld(b, r, n+1)
		cpu += usage(b) - before
		b.StopTimer()
		r.Set(desired[:n], links)
		awaitHeld(b, r, n)
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Microseconds())/1000/float64(b.N), "ms-cpu")
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
