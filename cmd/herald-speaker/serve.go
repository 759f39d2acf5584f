package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/speaker/bgp"
)

// serve runs everything until ctx ends. Then the speaker takes its leave, whichever it is, and the rest stops after that.
func (r *rooms) serve(ctx context.Context) error {
	rest, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	registry := daemon.NewRegistry(r.version)
	registry.MustRegister(r.metrics, kube.NewMetrics(r.client, r.source))
	servers, err := r.settings.Servers(r.health(), registry, r.client, r.log)
	if err != nil {
		return err
	}
	tasks := append(r.tasks(), servers...)
	tasks = append(tasks, daemon.Task{Name: "speaker", Run: func(rest context.Context) error { return r.decide(ctx, rest, stop) }})
	return daemon.Run(rest, r.log, tasks...)
}

// tasks are the rooms that run.
func (r *rooms) tasks() []daemon.Task {
	out := []daemon.Task{
		{Name: "source", Run: r.source.Run},
		{Name: "link", Run: r.links.Run},
		{Name: "inspect", Run: r.inspect.Run},
		{Name: "gossip", Run: r.gossip.Run},
		{Name: "l2", Run: r.l2.Run},
		{Name: "bgp", Run: func(ctx context.Context) error { return untilFarewell(ctx, r.bgp.Run) }},
		{Name: "status", Run: r.recorder.Run},
		{Name: "memory", Run: func(ctx context.Context) error { tidy(ctx, r.speaker.Ready, debug.FreeOSMemory); return nil }},
	}
	if os.Getenv("GOGC") == "" {
		out = append(out, daemon.Task{Name: "collector", Run: func(ctx context.Context) error { collect(ctx, inUse, setPercent); return nil }})
	}
	if r.claims != nil {
		out = append(out, daemon.Task{Name: "claims", Run: r.claims.Run})
	}
	return out
}

// errFarewell is the cause of the end of the rest when this speaker stops for good.
var errFarewell = errors.New("the speaker stops for good")

// untilFarewell runs BGP. Only a farewell takes routes back: when anything else ends this process, such as a part of it that fails, it is started
// again.
func untilFarewell(ctx context.Context, run func(context.Context) error) error {
	routing, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		if cause := context.Cause(ctx); errors.Is(cause, errFarewell) {
			cancel(cause)
			return
		}
		cancel(bgp.ErrRestarting)
	})()
	return run(routing)
}

// health answers whether this speaker is ready.
func (r *rooms) health() http.Handler {
	return daemon.Health(
		daemon.Check{Name: "source", Err: r.synced}, daemon.Check{Name: "gossip", Err: r.gossiping}, daemon.Check{Name: "speaker", Err: r.placed},
	)
}

// decide runs the owner loop until ctx ends and what that means is known; it takes its leave and stops the rest.
func (r *rooms) decide(ctx, rest context.Context, stop context.CancelCauseFunc) error {
	deciding, cancel := context.WithCancel(rest)
	defer cancel()
	why := make(chan string, 1)
	defer context.AfterFunc(ctx, func() { // meanwhile all goes on
		why <- r.leaves(rest)
		cancel()
	})()
	err := r.speaker.Run(deciding)
	if ctx.Err() == nil || err != nil {
		return err
	}
	if end := <-why; end != "" {
		r.log.Info("stopping for good", "why", end)
		r.farewell(rest)
		stop(errFarewell)
		return nil
	}
	r.log.Info("stopping, to be back soon: nothing is withdrawn")
	r.speaker.Pause(rest)
	stop(bgp.ErrRestarting)
	return nil
}

// leaves says why this speaker is not coming back; "" when it is.
func (r *rooms) leaves(ctx context.Context) string {
	if r.settings.daemonSet == "" {
		return "no --daemon-set to come back by"
	}
	return r.client.Leaves(ctx, r.settings.Namespace, r.settings.daemonSet, r.settings.node)
}

// Bounds of a farewell.
const (
	leaveMost  = 500 * time.Millisecond
	reportMost = 2 * time.Second
)

// farewell hands the addresses over and says goodbye.
func (r *rooms) farewell(ctx context.Context) {
	r.speaker.Retire(ctx)
	leaving, cancel := context.WithTimeout(ctx, leaveMost)
	defer cancel()
	if err := r.gossip.Leave(leaving); err != nil {
		r.log.Warn("leaving", "error", err)
	}
	reporting, done := context.WithTimeout(ctx, reportMost)
	defer done()
	r.recorder.Flush(reporting)
}
