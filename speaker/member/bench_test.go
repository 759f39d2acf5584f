package member

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// BenchmarkCluster runs clusters of several sizes in one process over loopback, with the intervals that they would have, and tells what each member
// costs when nothing happens, when all know each other, when all know that one has died, and how many live ones were found dead meanwhile.
//
//	go test -run '^$' -bench Cluster -benchtime 1x ./speaker/member
func BenchmarkCluster(b *testing.B) {
	for _, n := range []int{5, 20, 50, 100} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			for range b.N {
				benchCluster(b, n)
			}
		})
	}
}

const quietFor = 10 * time.Second

func benchCluster(b *testing.B, n int) {
	began := time.Now()
	all := clusterWith(b, n, func(m *Member) {
		m.pace = func(int) profile { return profileFor(n) } // each is made before it knows of the others
	})
	b.ReportMetric(time.Since(began).Seconds(), "s/join")
	gone := func() (lines int) {
		for _, r := range all {
			lines += strings.Count(r.log.String(), "speaker is gone") + strings.Count(r.log.String(), "speaker seems gone")
		}
		return lines
	}
	before, used := gone(), processorTime(b)
	<-time.After(quietFor)
	share := float64(processorTime(b)-used) / float64(quietFor) / float64(n)
	b.ReportMetric(100*share, "%core/member")
	b.ReportMetric(float64(gone()-before), "falsely-dead")
	first, last := death(b, all, n/2)
	b.ReportMetric(float64(first.Milliseconds()), "ms/first-knows")
	b.ReportMetric(float64(last.Milliseconds()), "ms/all-know")
	for _, r := range all {
		r.stop()
	}
}

// death ends a member, and returns how long it takes until the first and until the last of the others knows.
func death(b *testing.B, all []*run, victim int) (first, last time.Duration) {
	b.Helper()
	all[victim].stop()
	began := time.Now()
	took := make([]time.Duration, len(all))
	var g errgroup.Group
	for i, r := range all {
		if i == victim {
			continue
		}
		g.Go(func() error {
			end := time.After(patience)
			for r.View().Alive == len(all) {
				select {
				case <-r.Changed():
				case <-end:
					return fmt.Errorf("%s does not notice", r.opt.Node)
				}
			}
			took[i] = time.Since(began)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	took = slices.Delete(took, victim, victim+1)
	return slices.Min(took), slices.Max(took)
}

// processorTime is that of this process.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
