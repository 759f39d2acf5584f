// Command kubectl-herald is a plugin of kubectl: it shows what Herald does in a cluster, explains why, and finds what is in the way. It reads
// the objects that the daemons read and asks the same pure rooms; only drain, undrain, move and drill write anything.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/cmd/kubectl-herald/drill"
)

var version string // set by the linker

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, plain := os.LookupEnv("NO_COLOR")
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, version: daemon.Version(version), open: open,
		now: time.Now, connect: drill.TCP, listen: drill.OpenARP, terminal: term.IsTerminal(int(os.Stdin.Fd())),
		colour: !plain && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(os.Stdout.Fd())),
	}
	os.Exit(a.run(ctx, os.Args[1:]))
}
