// Command herald-speaker announces the addresses of Services from the node it runs on: by ARP and NDP, and by BGP.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
)

const name = "herald-speaker"

var version string // set by the linker

// collectAt is by how many percent memory may grow before garbage is collected, where GOGC does not say so. Most of what a speaker has is what
// it knows of Services, and it is quiet most of the time: memory counts for more than the processor time.
const collectAt = 25

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	os.Exit(daemon.Main(os.Stderr, name, run))
}

func run(ctx context.Context) error {
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
	log.Info("starting", "version", v, "node", s.node, "namespace", s.Namespace, "loadBalancerClass", s.LoadBalancerClass)
	return build(s, client, v, log).serve(ctx)
}
