// Command herald-lab runs Herald's laboratory by hand.
//
//	herald-lab up                    bring it up with Herald's programs built, and keep it until Ctrl-C
//	herald-lab enter HOST [COMMAND]  run a command, or a shell, in a host of the laboratory that is up
//	herald-lab down                  end the laboratory that is up
//	herald-lab demo                  show Herald at work, and check what is seen
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/heraldlb/herald/test/lab"
	"github.com/heraldlb/herald/test/lab/build"
	"github.com/heraldlb/herald/test/lab/kubelet"
	"github.com/heraldlb/herald/test/lab/netlab"
	"github.com/heraldlb/herald/test/lab/router"
)

const usage = `usage: herald-lab COMMAND

  up [flags]               bring the laboratory up and keep it until Ctrl-C (flags: herald-lab up -h)
  enter HOST [COMMAND…]    run a command, or a shell, in a host of the laboratory that is up:
                           node-1 node-2 node-3 control router client client-far switch
  down                     end the laboratory that is up
  build                    build what takes long, the control plane, ahead of time, and print where it is
  demo [flags]             show Herald at work, and check what is seen (flags: herald-lab demo -h)
`

func main() {
	kubelet.Shim() // containers start as this program
	if err := run(os.Args[1:]); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "herald-lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch verb {
	case "up":
		return up(args[1:])
	case "enter":
		return enter(args[1:])
	case "down":
		return down()
	case "build":
		return buildAhead()
	case "demo":
		return runDemo(args[1:])
	}
	fmt.Fprint(os.Stderr, usage)
	if verb == "help" || verb == "-h" || verb == "--help" {
		return nil
	}
	return fmt.Errorf("unknown command %q", verb)
}

// buildAhead builds the control plane unless the cache holds it, and prints the path of its program.
func buildAhead() error {
	made, err := build.MakeControlPlane(context.Background(), build.Options{Progress: os.Stderr})
	if err != nil {
		return err
	}
	fmt.Println(made.Binary)
	return nil
}

// up brings a laboratory up and waits to be told to end it.
func up(args []string) error {
	flags := flag.NewFlagSet("herald-lab up", flag.ExitOnError)
	nodes := flags.Int("nodes", 3, "number of nodes")
	kind := flags.String("router", "", "kind of router: frr or gobgp (default: frr if it is installed and usable)")
	dir := flags.String("dir", "", "directory for logs and files, kept afterwards (default: a temporary one, removed afterwards)")
	race := flags.Bool("race", false, "build Herald with the race detector")
	verbose := flags.Bool("v", false, "log what the kubelets do")
	if err := flags.Parse(args); err != nil {
		return err
	}
	lab.Enter(lab.Build{Herald: true, Race: *race})
	log := newLogger(os.Stderr, *verbose)
	klog.SetSlogLogger(log)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := lab.Start(ctx, lab.Options{Nodes: *nodes, Router: router.Kind(*kind), Dir: *dir, Progress: os.Stdout, Log: log})
	if err != nil {
		return err
	}
	err = serve(ctx, os.Stdout, l)
	fmt.Println("ending the laboratory")
	return errors.Join(err, l.Close())
}

func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// serve lets other shells find the laboratory, says how, and waits.
func serve(ctx context.Context, out io.Writer, l *lab.Lab) error {
	pid, err := netlab.InitPID()
	if err != nil {
		return err
	}
	forget, err := remember(state{Init: pid, Outer: lab.OuterPID(), Dir: l.Dir()})
	if err != nil {
		return err
	}
	defer forget()
	var names []string
	for _, n := range l.Nodes {
		names = append(names, n.Name)
	}
	fmt.Fprintf(out, `
The laboratory is up. In another shell:

  export KUBECONFIG=%[1]s
  export PATH=%[2]s:$PATH                  # kubectl, kubectl herald and helm of the right versions
  helm install herald %[3]s --namespace herald-system --create-namespace
  kubectl get nodes -o wide

  # a shell in a host: %[5]s, control, router, client, client-far or switch
  %[4]s enter node-1
  %[4]s enter client curl http://192.168.100.200/

LAN 192.168.100.0/24 fd00:100::/64 (nodes from .11, client .50, router .1), behind the router 172.30.0.0/24 fd00:30::/64
(client-far .50); the router's AS is %[6]d and takes neighbours of AS %[7]d. Logs are in %[8]s.

Ctrl-C or "%[4]s down" ends it.
`, l.KubeconfigPath(), l.BinDir(), l.Chart(), program(), strings.Join(names, ", "), lab.RouterASN, lab.NodeASN, l.Dir())
	<-ctx.Done()
	return nil
}

// program returns how the user called this program, as far as it can be called again that way.
func program() string {
	if strings.Contains(os.Args[0], "/go-build") { // go run: gone when it ends
		return "go run ./test/lab/cmd/herald-lab"
	}
	return os.Args[0]
}

// enter runs a command, or a shell, in a host.
func enter(args []string) error {
	if len(args) == 0 {
		return errors.New("enter: which host? (node-1, control, router, client, client-far, switch)")
	}
	s, err := recall()
	if err != nil {
		return err
	}
	command := args[1:]
	if len(command) == 0 {
		shell := os.Getenv("SHELL")
		if shell == "" {
			shell = "/bin/sh"
		}
		command = []string{shell}
	}
	cmd, err := netlab.JoinCommand(s.Init, args[0], command...)
	if err != nil {
		return err
	}
	return cmd.Run()
}

// down ends the laboratory that is up and waits until it is gone.
func down() error {
	s, err := recall()
	if err != nil {
		return err
	}
	if s.Outer <= 1 {
		return errors.New("the laboratory does not say which process to end")
	}
	return s.end()
}
