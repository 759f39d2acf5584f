package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Memory may grow by so much before garbage is collected: by a quarter, as most of what a speaker has is what it knows of Services, and by 12 MiB
// at least, as collecting takes time in proportion to what there is, however little has become garbage.
const (
	growthLeast = 12 << 20 // bytes
	growthShare = 4        // 1/4
	percentMost = 400      // the runtime takes the percentage also for its smallest heap of 4 MiB
)

// collect sets when garbage is collected, anew after each collection, until ctx ends. get returns how many bytes were in use then, and set
// takes the percentage by which they may grow.
func collect(ctx context.Context, get func() uint64, set func(percent int)) {
	last := 0
	for {
		if p := percentFor(get()); p != last {
			set(p)
			last = p
		}
		select {
		case <-ctx.Done():
			return
		case <-collected():
		}
	}
}

// percentFor returns the percentage by which memory may grow.
func percentFor(inUse uint64) int {
	growth := max(growthLeast, inUse/growthShare)
	return int(min(percentMost, 100*growth/max(1, inUse)))
}

// collected returns a channel that is closed after the next collection.
func collected() <-chan struct{} {
	done := make(chan struct{})
	sentinel := new([4]uintptr) // no smaller: the runtime may put tiny ones together with others, and they never go
	runtime.AddCleanup(sentinel, func(done chan struct{}) { close(done) }, done)
	return done
}

// inUse returns how many bytes the last collection found in use: the runtime takes its percentage of those.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}

// setPercent is for collect.
func setPercent(percent int) { debug.SetGCPercent(percent) }
