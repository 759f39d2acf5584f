package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/demo"
	"github.com/heraldlb/herald/test/lab/router"
)

// runDemo shows Herald at work; it fails unless everything it wants to show was seen.
func runDemo(args []string) error {
	flags := flag.NewFlagSet("herald-lab demo", flag.ExitOnError)
	kind := flags.String("router", "", "kind of router: frr or gobgp (default: frr if it is installed and usable)")
	namespace := flags.String("namespace", "", "namespace that Herald is installed into (default: herald-system)")
	dir := flags.String("dir", "", "directory for logs and files, kept afterwards (default: a temporary one, removed afterwards)")
	race := flags.Bool("race", false, "build Herald with the race detector")
	verbose := flags.Bool("v", false, "log what the kubelets do")
	if err := flags.Parse(args); err != nil {
		return err
	}
	lab.Enter(lab.Build{Herald: true, Race: *race, Progress: os.Stdout})
	log := newLogger(os.Stderr, *verbose)
	klog.SetSlogLogger(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return demo.Run(ctx, os.Stdout, demo.Options{Router: router.Kind(*kind), Namespace: *namespace, Dir: *dir, Log: log})
}
