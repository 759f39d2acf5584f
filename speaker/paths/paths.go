// Package paths has the paths to BGP routers watched by BFD. It is the one room that knows both, and translates between them.
package paths

import (
	"context"

	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/bgp"
)

// Watcher is a bgp.Watcher that watches by BFD.
type Watcher struct{ runner *bfd.Runner }

// Over returns a Watcher that uses the runner and runs it.
func Over(r *bfd.Runner) Watcher { return Watcher{r} }

// Run implements bgp.Watcher.
func (w Watcher) Run(ctx context.Context) error { return w.runner.Run(ctx) }

// Changed implements bgp.Watcher.
func (w Watcher) Changed() <-chan struct{} { return w.runner.Changed() }

// Set implements bgp.Watcher.
func (w Watcher) Set(list []bgp.Watch) {
	wants := make([]bfd.Want, 0, len(list))
	for _, x := range list {
		wants = append(wants, bfd.Want{
			Key:       x.Peer,
			Peer:      x.Router,
			Local:     x.Local,
			Interface: x.Interface,
			VRF:       x.Device,
			Multihop:  x.MultiHop,
			Profile:   x.Profile,
		})
	}
	w.runner.Set(wants)
}

// Sights implements bgp.Watcher.
func (w Watcher) Sights() map[string]bgp.Sight {
	out := map[string]bgp.Sight{}
	for _, s := range w.runner.Sessions() {
		out[s.Key] = bgp.Sight{State: s.State.String(), ID: s.Discriminator, Losses: s.Losses, LastError: s.LastError}
	}
	return out
}
