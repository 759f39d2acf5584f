package udp

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/bfd"
)

// BenchmarkDetection measures how long a failure goes unnoticed: of the neighbour (FRR is killed) and of the path (all packets are lost,
// between two of us). One round needs some seconds: run it with -benchtime 10x.
func BenchmarkDetection(b *testing.B) {
	for _, interval := range []time.Duration{50 * ms, 300 * ms} {
		b.Run(fmt.Sprintf("neighbour/%sx3", interval), func(b *testing.B) {
			c := newCable(b)
			conf := fmt.Sprintf(" peer 10.9.0.5\n  transmit-interval %[1]d\n  receive-interval %[1]d\n exit\n", interval.Milliseconds())
			detections(b, func(r *runner) (start, end func()) {
				f := startFRR(b, c, conf)
				r.Set([]bfd.Want{{Key: "1", Peer: addr(far4), Profile: profile(interval)}})
				r.settled("1", interval, 3*interval)
				return f.kill, func() {}
			})
		})
		b.Run(fmt.Sprintf("path/%sx3", interval), func(b *testing.B) {
			c := newCable(b)
			far := start(b, elsewhere{c.do})
			far.Set([]bfd.Want{{Key: "1", Peer: addr(near4), Profile: profile(interval)}})
			detections(b, func(r *runner) (start, end func()) {
				r.Set([]bfd.Want{{Key: "1", Peer: addr(far4), Profile: profile(interval)}})
				r.settled("1", interval, 3*interval)
				var undo func()
				return func() { undo = c.sever() }, func() { undo() }
			})
		})
	}
}

// detections runs rounds: prepare brings the session up and returns what breaks it and what mends it.
func detections(b *testing.B, prepare func(*runner) (start, end func())) {
	r := start(b, Network{})
	var all []time.Duration
	for b.Loop() {
		fail, mend := prepare(r)
		losses := r.of("1").Losses
		phase := time.After(time.Duration(len(all)*37%100) * ms) // not always at the same point between two packets
		<-phase
		began := time.Now()
		fail()
		r.until("1", "loss", func(s bfd.Status) bool { return s.Losses > losses })
		all = append(all, time.Since(began))
		mend()
	}
	slices.Sort(all)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(all[len(all)/2])/1e6, "ms-median")
	b.ReportMetric(float64(all[len(all)-1])/1e6, "ms-max")
}

// BenchmarkCPU measures the processor time of one end of one session, and whether all stay up. An iteration is a second.
func BenchmarkCPU(b *testing.B) {
	for _, interval := range []time.Duration{50 * ms, 300 * ms} {
		for _, sessions := range []int{1, 20, 100} {
			b.Run(fmt.Sprintf("%sx3/%d", interval, sessions), func(b *testing.B) {
				c := newCable(b)
				near, far := start(b, Network{}), start(b, elsewhere{c.do})
				var wantNear, wantFar []bfd.Want
				for i := range sessions {
					n, f := fmt.Sprintf("fd09::1:%x", i), fmt.Sprintf("fd09::2:%x", i)
					setAddresses(b, nearIF, n+"/64")
					c.do(func() { setAddresses(b, farIF, f+"/64") })
					w := bfd.Want{Key: n, Peer: addr(f), Local: addr(n), Profile: profile(interval)}
					wantNear = append(wantNear, w)
					w.Peer, w.Local = w.Local, w.Peer
					wantFar = append(wantFar, w)
				}
				near.Set(wantNear)
				far.Set(wantFar)
				for _, w := range wantNear {
					near.settled(w.Key, interval, 3*interval)
					far.settled(w.Key, interval, 3*interval)
				}
				began := cpuTime(b)
				seconds := 0
				for b.Loop() {
					<-time.After(time.Second)
					seconds++
				}
				used := cpuTime(b) - began
				losses := uint64(0)
				for _, s := range append(near.Sessions(), far.Sessions()...) {
					losses += s.Losses
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(used.Seconds()*1e6/float64(2*sessions*seconds), "µs-CPU/s/session")
				b.ReportMetric(float64(losses), "losses")
			})
		}
	}
}

// cpuTime returns the processor time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
