package main

import (
	"context"
	"time"
)

const (
	tidyLook  = 250 * time.Millisecond
	tidyAfter = 500 * time.Millisecond // what is ready still has to be told to the neighbours
)

// tidy calls free once, a moment after ready: to read all there is takes twice the memory that it takes to know it, and a speaker that is
// quiet from then on would keep that for minutes. It returns when ctx ends.
func tidy(ctx context.Context, ready func() bool, free func()) {
	tick := time.NewTicker(tidyLook)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(tidyAfter):
	}
	free()
	<-ctx.Done()
}
