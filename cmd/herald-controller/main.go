// Command herald-controller gives Services of type LoadBalancer their addresses. Several replicas may run; one of them leads.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/controller"
)

const name = "herald-controller"

var version string // set by the linker

func main() {
	os.Exit(daemon.Main(os.Stderr, name, run))
}

// settings are the flags.
type settings struct {
	daemon.Common
	lease           string
	identity        string
	gossipSecret    string
	ignoreExcludeLB bool
	drainOnCordon   bool
}

func parse(args []string, lookup func(string) (string, bool), version string) (*settings, error) {
	s := &settings{}
	host, err := os.Hostname()
	if err != nil {
		host = name
	}
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	s.Add(flags, daemon.Defaults{HTTPAddress: ":9473", MetricsAddress: ":9472"})
	flags.StringVar(&s.lease, "leader-election-id", name, "`name` of the Lease by which replicas agree who leads")
	flags.StringVar(&s.identity, "identity", host, "`name` of this replica, different for each; by default that of the host, which in a Pod is the Pod's")
	flags.StringVar(&s.gossipSecret, "gossip-secret", "herald-gossip", "`name` of the Secret for the speakers' gossip key, made when there is none")
	flags.BoolVar(&s.ignoreExcludeLB, "ignore-exclude-lb", false, "give the value that the speakers have, so that conditions explain what they do")
	flags.BoolVar(&s.drainOnCordon, "drain-on-cordon", false, "give the value that the speakers have, so that conditions explain what they do")
	return s, daemon.Parse(flags, args, lookup, version, os.Stdout)
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 {
		if job, ok := jobs()[os.Args[1]]; ok {
			return job(ctx, os.Args[2:], os.Stdout)
		}
	}
	v := daemon.Version(version)
	s, err := parse(os.Args[1:], os.LookupEnv, v)
	if err != nil {
		return err
	}
	log, err := s.Logger(os.Stderr)
	if err != nil {
		return err
	}
	kube.RouteClientLog(log)
	client, err := kube.Connect(s.Kubeconfig)
	if err != nil {
		return err
	}
	log.Info("starting", "version", v, "namespace", s.Namespace, "loadBalancerClass", s.LoadBalancerClass, "identity", s.identity)
	return serve(ctx, s, client, v, log)
}

// gossipKeySize is that of AES-256 in bytes.
const gossipKeySize = 32

// serve builds everything, in order of dependency, and runs it.
func serve(ctx context.Context, s *settings, client *kube.Client, version string, log *slog.Logger) error {
	source := kube.NewSource(client, kube.SourceOptions{
		Namespace: s.Namespace, LoadBalancerClass: s.LoadBalancerClass, Role: kube.Controller, Log: log.With("part", "source"),
	})
	events := kube.NewEvents(client, kube.EventsOptions{
		Component: "heraldlb.io/controller", Instance: s.identity, Log: log.With("part", "events"),
	})
	metrics := controller.NewMetrics()
	ctl := controller.New(controller.Options{
		Source: source, Writer: kube.NewWriter(client, source), Events: events, Metrics: metrics,
		IgnoreExcludeLB: s.ignoreExcludeLB, DrainOnCordon: s.drainOnCordon, Log: log.With("part", "controller"),
		Elect: func(ctx context.Context, lead func(context.Context)) error {
			return client.Elect(ctx, kube.ElectOptions{
				Namespace: s.Namespace, Lease: s.lease, Identity: s.identity, Log: log.With("part", "election"),
			}, lead)
		},
		EnsureKey: func(ctx context.Context) error {
			return client.EnsureSecret(ctx, s.Namespace, s.gossipSecret, kube.GossipKeyEntry, newKey)
		},
	})
	registry := daemon.NewRegistry(version)
	registry.MustRegister(metrics, kube.NewMetrics(client, source))
	health := daemon.Health(daemon.Check{Name: "source", Err: func() error { return synced(source) }})
	servers, err := s.Servers(health, registry, client, log)
	if err != nil {
		return err
	}
	return daemon.Run(
		ctx, log,
		append(
			servers,
			daemon.Task{Name: "source", Run: source.Run},
			daemon.Task{Name: "events", Run: events.Run},
			daemon.Task{Name: "controller", Run: ctl.Run},
		)...,
	)
}

// synced says what is missing before this replica could lead. An API server that is away later does not make it less ready.
func synced(source *kube.Source) error {
	if source.Snapshot().Synced {
		return nil
	}
	if err := source.Err(); err != nil {
		return err
	}
	return errors.New("still listing")
}

// newKey makes a gossip key.
func newKey() []byte {
	key := make([]byte, gossipKeySize)
	_, _ = rand.Read(key) // never fails
	return key
}
