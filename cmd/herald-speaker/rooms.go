package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/bgp/gobgp"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/member"
)

// rooms is everything that a speaker runs.
type rooms struct {
	settings *settings
	version  string
	log      *slog.Logger
	source   *kube.Source
	links    *link.Watcher
	gossip   *speaker.Keyed
	l2       *l2.Reconciler
	bgp      *bgp.Announcer
	recorder *speaker.Recorder
	speaker  *speaker.Speaker
}

// build makes everything once, in order of dependency. Nothing runs yet.
func build(s *settings, client *kube.Client, version string, log *slog.Logger) *rooms {
	r := &rooms{settings: s, version: version, log: log}
	started := time.Now()
	r.source = kube.NewSource(client, kube.SourceOptions{
		Namespace:         s.Namespace,
		LoadBalancerClass: s.LoadBalancerClass,
		Role:              kube.Speaker,
		Node:              s.node,
		GossipService:     s.gossipService,
		GossipSecret:      s.gossipSecret,
		GossipKey:         kube.GossipKeyEntry,
		Log:               log.With("part", "source"),
	})
	r.links = link.New(link.Options{Exclude: s.excluded, Log: log.With("part", "link")})
	r.gossip = speaker.NewKeyed(r.gossipKey, r.openGossip, log.With("part", "gossip"))
	r.l2 = l2.New(l2.Options{Log: log.With("part", "l2")})
	r.bgp = bgp.New(bgp.Options{
		Node:   s.node,
		Router: gobgp.New(gobgp.Options{Log: log.With("part", "bgp")}),
		Log:    log.With("part", "bgp"),
	})
	writer := kube.NewWriter(client, r.source)
	r.recorder = speaker.NewRecorder(version, started, func(ctx context.Context, status v1beta1.SpeakerStatusStatus) error {
		return writer.WriteSpeakerStatus(ctx, s.node, status)
	}, log.With("part", "status"))
	r.speaker = speaker.New(speaker.Options{
		Node:            s.node,
		Started:         started,
		GossipPort:      s.gossipPort,
		IgnoreExcludeLB: s.ignoreExcludeLB,
		Source:          r.source,
		Links:           r.links,
		Gossip:          r.gossip,
		L2:              r.l2,
		BGP:             r.bgp,
		Reporter:        r.recorder,
		Log:             log.With("part", "speaker"),
	})
	return r
}

// gossipKey finds the key: in the Secret, else in the directory. What stands there is the same, but the kubelet brings it up to date a
// minute late, and it is there without the API server. It is nil while the key, or the address to gossip from, is unknown.
func (r *rooms) gossipKey() ([]byte, error) {
	if !r.bindAddress().IsValid() {
		return nil, nil
	}
	if key := r.source.GossipKey(); key != nil {
		return key, checkKey(key, "Secret "+r.settings.Namespace+"/"+r.settings.gossipSecret)
	}
	return keyFromDir(r.settings.gossipKeyDir)
}

// bindAddress is the flag's, else the first address of the Node; zero while that is unknown.
func (r *rooms) bindAddress() netip.Addr {
	if r.settings.bind.IsValid() {
		return r.settings.bind
	}
	for _, n := range r.source.Snapshot().Nodes {
		if n.Name == r.settings.node && len(n.Addresses) > 0 {
			return n.Addresses[0]
		}
	}
	return netip.Addr{}
}

func (r *rooms) openGossip(key []byte) *member.Member {
	return member.New(member.Options{
		Node:        r.settings.node,
		BindAddress: r.bindAddress(),
		Port:        r.settings.gossipPort,
		Key:         key,
		Log:         r.log.With("part", "gossip"),
	})
}

// serve runs everything until ctx ends. Then the speaker's addresses change hands first, and the rest stops after that.
func (r *rooms) serve(ctx context.Context) error {
	rest, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	registry := daemon.NewRegistry(r.version)
	if err := registry.Register(collector{r, newMetrics()}); err != nil {
		return err
	}
	health := daemon.Health(daemon.Check{Name: "source", Err: r.synced}, daemon.Check{Name: "gossip", Err: r.gossiping})
	return daemon.Run(
		rest, r.log,
		daemon.Task{Name: "source", Run: r.source.Run},
		daemon.Task{Name: "link", Run: r.links.Run},
		daemon.Task{Name: "gossip", Run: r.gossip.Run},
		daemon.Task{Name: "l2", Run: r.l2.Run},
		daemon.Task{Name: "bgp", Run: r.bgp.Run},
		daemon.Task{Name: "status", Run: r.recorder.Run},
		daemon.Task{Name: "health", Run: daemon.Server{Name: "health", Flag: "http-address", Address: r.settings.Listen(r.settings.HTTPAddress), Handler: health, Log: r.log}.Run},
		daemon.Task{Name: "metrics", Run: daemon.Server{Name: "metrics", Flag: "metrics-address", Address: r.settings.Listen(r.settings.MetricsAddress), Handler: daemon.Metrics(registry), Log: r.log}.Run},
		daemon.Task{Name: "speaker", Run: func(rest context.Context) error {
			deciding, cancel := context.WithCancel(rest)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			err := r.speaker.Run(deciding)
			if ctx.Err() != nil {
				r.farewell(rest)
				stop()
			}
			return err
		}},
	)
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

func (r *rooms) synced() error {
	if r.source.Snapshot().Synced {
		return nil
	}
	if err := r.source.Err(); err != nil {
		return err
	}
	return errors.New("still listing")
}

func (r *rooms) gossiping() error {
	view := r.gossip.View()
	switch {
	case view == nil:
		return errors.New("does not run: no key yet")
	case view.Trouble != "":
		return errors.New(view.Trouble)
	}
	return nil
}
