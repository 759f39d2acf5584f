package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/bfd/udp"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/bgp/gobgp"
	"github.com/heraldlb/herald/speaker/inspect"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/member"
	"github.com/heraldlb/herald/speaker/paths"
)

// rooms is everything that a speaker runs.
type rooms struct {
	settings *settings
	version  string
	client   *kube.Client
	log      *slog.Logger
	source   *kube.Source
	inspect  *inspect.Watcher
	links    *link.Watcher
	gossip   *speaker.Keyed
	l2       *l2.Reconciler
	bfd      *bfd.Runner
	bgp      *bgp.Announcer
	recorder *speaker.Recorder
	claims   *speaker.ClaimFile // nil without a directory
	metrics  *speaker.Metrics
	speaker  *speaker.Speaker
}

// build makes everything once, in order of dependency. Nothing runs yet.
func build(s *settings, client *kube.Client, version string, log *slog.Logger) *rooms {
	r := &rooms{settings: s, version: version, client: client, log: log}
	started := time.Now()
	r.source = kube.NewSource(client, kube.SourceOptions{
		Namespace:         s.Namespace,
		LoadBalancerClass: s.LoadBalancerClass,
		Role:              kube.Speaker,
		Node:              s.node,
		GossipService:     s.gossipService,
		GossipSecret:      s.gossipSecret,
		GossipKey:         kube.GossipKeyEntry,
		StateDir:          s.stateDir,
		Log:               log.With("part", "source"),
	})
	r.links = link.New(link.Options{Exclude: s.excluded, Log: log.With("part", "link")})
	r.inspect = inspect.New()
	r.gossip = speaker.NewKeyed(r.gossipKey, r.openGossip, log.With("part", "gossip"))
	r.l2 = l2.New(l2.Options{Probe: s.conflictProbe, Log: log.With("part", "l2")})
	r.bfd = bfd.New(bfd.Options{Network: udp.Network{}, Log: log.With("part", "bfd")})
	r.bgp = bgp.New(bgp.Options{
		Node:      s.node,
		Router:    gobgp.New(gobgp.Options{Log: log.With("part", "bgp")}),
		DrainWait: s.bgpDrainWait,
		Watcher:   paths.Over(r.bfd), // which runs it
		Log:       log.With("part", "bgp"),
	})
	writer := kube.NewWriter(client, r.source)
	r.recorder = speaker.NewRecorder(version, started, func(ctx context.Context, status v1beta1.SpeakerStatusStatus) error {
		return writer.WriteSpeakerStatus(ctx, s.node, status)
	}, log.With("part", "status"))
	r.metrics = speaker.NewMetrics(speaker.MetricsOptions{
		Announcements: s.announcements, L2: r.l2, BGP: r.bgp, BFD: r.bfd, Gossip: r.gossip,
	})
	r.speaker = speaker.New(r.options(started))
	return r
}

// options are those of the owner loop.
func (r *rooms) options(started time.Time) speaker.Options {
	s := r.settings
	opt := speaker.Options{
		Node:            s.node,
		Started:         started,
		GossipPort:      s.gossipPort,
		IgnoreExcludeLB: s.ignoreExcludeLB,
		DrainOnCordon:   s.drainOnCordon,
		Source:          r.source,
		Links:           r.links,
		Gossip:          r.gossip,
		L2:              r.l2,
		BGP:             r.bgp,
		Reporter:        r.recorder,
		Inspect:         r.inspect,
		Metrics:         r.metrics,
		Log:             r.log.With("part", "speaker"),
	}
	if s.stateDir != "" {
		r.claims = speaker.NewClaimFile(s.stateDir, opt.Log)
		opt.Keeper = r.claims
	}
	return opt
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

func (r *rooms) placed() error {
	if r.speaker.Ready() {
		return nil
	}
	return errors.New("still listening to the other speakers")
}
