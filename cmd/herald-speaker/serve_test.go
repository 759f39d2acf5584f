package main

import (
	"context"
	"errors"
	"testing"

	"github.com/heraldlb/herald/speaker/bgp"
)

// TestOnlyAFarewellTakesRoutesBack: whatever else ends the process, it is started again.
func TestOnlyAFarewellTakesRoutesBack(t *testing.T) {
	for _, tt := range []struct {
		cause error
		keeps bool
	}{
		{errFarewell, false},
		{bgp.ErrRestarting, true},
		{errors.New("gossip: the key has 31 bytes"), true},
		{nil, true},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var got error
		err := untilFarewell(ctx, func(ctx context.Context) error {
			if ctx.Err() != nil {
				t.Errorf("%v: ended before its time", tt.cause)
			}
			cancel(tt.cause)
			<-ctx.Done()
			got = context.Cause(ctx)
			return nil
		})
		if err != nil || errors.Is(got, bgp.ErrRestarting) != tt.keeps {
			t.Errorf("%v: BGP ends because of %q, %v; want routes to be kept: %v", tt.cause, got, err, tt.keeps)
		}
	}
}
