package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/cmd/kubectl-herald/drill"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/v1beta1"
)

// Exit statuses.
const (
	wellDone   = 0
	somewrong  = 1 // something is wrong, with the cluster or with asking it
	wrongUsage = 2
)

// API is what the plugin asks of an API server.
type API interface {
	Read(context.Context) (*kube.Cluster, error)
	Drain(ctx context.Context, node string, drain bool) (changed bool, err error)
	Report(ctx context.Context, node string) (*v1beta1.SpeakerStatus, error)
	Annotate(ctx context.Context, service config.Key, name, value string) error
	Foreign(ctx context.Context, group string) ([][]byte, error)
	ConfigMap(ctx context.Context, namespace, name string) ([]byte, error)
	DeletePod(ctx context.Context, namespace, name string) error
	Namespace() string
}

// open connects to a real one.
func open(a kube.Access) (API, error) { return kube.Open(a) }

// app is one call of the plugin.
type app struct {
	in       io.Reader
	out, err io.Writer
	colour   bool
	version  string
	now      func() time.Time
	terminal bool // there is somebody to ask
	connect  func(target string) func(context.Context) error
	listen   func(netip.Addr) (*drill.ARP, error)
	open     func(kube.Access) (API, error)

	// Flags.
	access    kube.Access
	output    string
	installed string // namespace of Herald
	class     string
	classSet  bool
}

// errUnwell ends a verb that has printed what is wrong.
var errUnwell = errors.New("something is wrong")

// failure is an error that came up while a verb ran; others are of the command line.
type failure struct{ error }

// Unwrap returns the error itself.
func (f failure) Unwrap() error { return f.error }

// run runs one command line and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	err := root.ExecuteContext(ctx)
	_, ran := errors.AsType[failure](err)
	switch {
	case err == nil:
		return wellDone
	case errors.Is(err, errUnwell):
		return somewrong
	case ran:
		fmt.Fprintln(a.err, "error:", err)
		return somewrong
	}
	fmt.Fprintf(a.err, "error: %v\nSee kubectl herald --help\n", err)
	return wrongUsage
}

// timeout bounds one request unless --request-timeout says otherwise.
const timeout = 30 * time.Second

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-herald",
		Short:         "Look at Herald, understand it, mend it",
		Long:          "See what Herald does in this cluster, why, and what is in the way.\n\nExit status: 0 all is well, 1 something is wrong, 2 wrong usage.",
		Version:       a.version,
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl herald"},
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.access.Kubeconfig, "kubeconfig", "", "kubeconfig `file`")
	flags.StringVar(&a.access.Context, "context", "", "`name` of the kubeconfig context")
	flags.StringVarP(&a.access.Server, "server", "s", "", "`address` of the API server")
	flags.DurationVar(&a.access.Timeout, "request-timeout", timeout, "longest `time` for one request; 0: for ever")
	flags.StringVar(&a.installed, "herald-namespace", "", "`namespace` that Herald runs in; found by the chart's labels when not given")
	flags.StringVar(&a.class, "load-balancer-class", "", "`class` that Herald serves; read off its Pods when not given")
	flags.StringVarP(&a.output, "output", "o", print.Formats()[0], strings.Join(print.Formats(), ", "))
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(print.Formats(), cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that is not there only
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		a.classSet = c.Flags().Changed("load-balancer-class")
		if !slices.Contains(print.Formats(), a.output) {
			return fmt.Errorf("--output %q: must be one of %s", a.output, strings.Join(print.Formats(), ", "))
		}
		return nil
	}
	root.AddCommand(a.status(), a.vips(), a.explain(), a.bgp(), a.check(), a.lint(), a.drain(true), a.drain(false), a.move(), a.drill(), a.migrate())
	return root
}

// verb makes what a command runs: its errors are told from those of the command line.
func verb(run func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := run(c.Context(), args)
		if err != nil && !errors.Is(err, errUnwell) {
			return failure{err}
		}
		return err
	}
}

// look reads the cluster and judges it.
func (a *app) look(ctx context.Context) (*picture.Picture, API, error) {
	api, err := a.open(a.access)
	if err != nil {
		return nil, nil, err
	}
	c, err := api.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	options := picture.Options{Namespace: a.installed}
	if a.classSet {
		options.Class = &a.class
	}
	return picture.New(c, options), api, nil
}

// print prints a result; well says what the exit status says.
func (a *app) print(value any, well bool, draw func(*print.Screen)) error {
	if err := (print.Printer{Out: a.out, Format: a.output, Colour: a.colour}).Print(value, draw); err != nil {
		return err
	}
	if !well {
		return errUnwell
	}
	return nil
}
