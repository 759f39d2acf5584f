// Command herald-speaker announces the addresses of Services from the node it runs on: by ARP and NDP, and by BGP.
package main

import (
	"context"
	"os"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
)

const name = "herald-speaker"

var version string // set by the linker

func main() {
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
