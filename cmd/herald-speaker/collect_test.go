package main

import (
	"context"
	"runtime"
	"slices"
	"testing"
)

func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for inUse, want := range map[uint64]int{0: 400, mib: 400, 4 * mib: 300, 12 * mib: 100, 24 * mib: 50, 48 * mib: 25, 80 * mib: 25, 1 << 40: 25} {
		if got := percentFor(inUse); got != want {
			t.Errorf("%d bytes: %d %%, want %d %%", inUse, got, want)
		}
	}
}

// TestCollect has real collections, after which it is told of other sizes.
func TestCollect(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sizes := []uint64{12 << 20, 12 << 20, 48 << 20}
	asked, done := make(chan struct{}, len(sizes)), make(chan struct{})
	var got []int
	go func() {
		defer close(done)
		collect(ctx, func() uint64 {
			size := sizes[0]
			if len(sizes) > 1 {
				sizes = sizes[1:]
			}
			select {
			case asked <- struct{}{}:
			default: // the runtime collects more often than this test
			}
			return size
		}, func(percent int) { got = append(got, percent) })
	}()
	for range cap(asked) {
		<-asked
		runtime.GC()
	}
	cancel()
	<-done
	if !slices.Equal(got, []int{100, 25}) {
		t.Errorf("set %v %%", got)
	}
}

func TestInUse(t *testing.T) {
	runtime.GC()
	if n := inUse(); n < 1<<20 || n > 1<<30 {
		t.Errorf("%d bytes are in use", n)
	}
}
