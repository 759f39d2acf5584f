package paths

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/bgp"
)

// deaf is a network in which no port can be opened; it notes which ones were wanted.
type deaf struct{ ports chan bfd.Port }

func (d deaf) Listen(p bfd.Port) (bfd.Listener, error) {
	select {
	case d.ports <- p:
	default:
	}
	return nil, errors.New("the port is taken")
}

func (d deaf) Dial(bfd.Endpoint) (bfd.Sender, error) { return nil, errors.New("no way") }

// TestWatcher: what BGP wants watched is what BFD is asked for, and what BFD says is told by the peer's name.
func TestWatcher(t *testing.T) {
	d := deaf{make(chan bfd.Port, 8)}
	var w bgp.Watcher = Over(bfd.New(bfd.Options{Network: d, Log: slog.New(slog.DiscardHandler)}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.Set([]bgp.Watch{{
		Peer: "far", Router: netip.MustParseAddr("2001:db8::1"), Device: "blue", MultiHop: true, Profile: config.BFDProfile{DetectMultiplier: 3},
	}})
	if got, want := <-d.ports, (bfd.Port{Family: config.IPv6, Multihop: true, VRF: "blue"}); got != want {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	deadline := time.After(time.Minute)
	for !strings.Contains(w.Sights()["far"].LastError, "the port is taken") {
		select {
		case <-w.Changed():
		case <-deadline:
			t.Fatalf("sights %+v", w.Sights())
		}
	}
	if s := w.Sights()["far"]; s.State != "Down" || s.Losses != 0 {
		t.Errorf("sight %+v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
