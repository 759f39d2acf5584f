// Package daemon is what Herald's daemons have in common: flags with environment fallbacks, logging, health and metrics servers, and a
// group of things that run until a signal comes. Only commands import it.
package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// namespaceFile holds the namespace of the Pod a process runs in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Common are the settings of every daemon.
type Common struct {
	Kubeconfig        string
	Namespace         string
	LoadBalancerClass string
	LogLevel          string
	LogFormat         string
	HTTPAddress       string
	MetricsAddress    string
	MetricsSecure     bool
	MetricsCertDir    string
	ListenAddress     []string
}

// Defaults are the defaults that differ between daemons.
type Defaults struct {
	HTTPAddress    string
	MetricsAddress string
}

// Add defines the common flags.
func (c *Common) Add(flags *pflag.FlagSet, d Defaults) {
	flags.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig `file`; empty: the credentials of the Pod")
	flags.StringVar(&c.Namespace, "namespace", defaultNamespace(namespaceFile), "`namespace` that Herald runs in")
	flags.StringVar(&c.LoadBalancerClass, "load-balancer-class", "", "serve Services with this `class`; empty: those without one")
	flags.Var(newChoice(&c.LogLevel, "info", "debug", "info", "warn", "error"), "log-level", "debug, info, warn or error")
	flags.Var(newChoice(&c.LogFormat, "text", "text", "json"), "log-format", "text or json")
	flags.StringVar(&c.HTTPAddress, "http-address", d.HTTPAddress, "`address` to serve /healthz and /readyz on; empty: none")
	flags.StringVar(&c.MetricsAddress, "metrics-address", d.MetricsAddress, "`address` to serve /metrics on; empty: none")
	flags.BoolVar(&c.MetricsSecure, "metrics-secure", true, "serve /metrics by HTTPS, to those whose bearer token may get it, as the API server says; false: by HTTP, to everybody")
	flags.StringVar(&c.MetricsCertDir, "metrics-cert-dir", "", "`directory` with tls.crt and tls.key for that; empty, or as long as they are missing: a certificate made at start")
	flags.StringSliceVar(&c.ListenAddress, "listen-address", nil, "IP `addresses` to serve on, beside those of the loopback interface, where the addresses above give only a port; none: all")
}

// Listen returns where to serve what a flag gives as an address. A mere port is that of the addresses of --listen-address, when there are any,
// and of the loopback interface, where kubectl port-forward comes in.
func (c *Common) Listen(address string) []string {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "" || len(c.ListenAddress) == 0 {
		return []string{address}
	}
	var all []string
	for _, ip := range append(slices.Clone(c.ListenAddress), loopbacks()...) {
		if at := net.JoinHostPort(ip, port); !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

func loopbacks() []string { return []string{"127.0.0.1", "::1"} }

// choice is the value of a flag that takes one of several words, so that a wrong one is refused where it was given.
type choice struct {
	value *string
	words []string
}

func newChoice(value *string, preset string, words ...string) *choice {
	*value = preset
	return &choice{value, words}
}

// String implements pflag.Value.
func (c *choice) String() string { return *c.value }

// Type implements pflag.Value.
func (c *choice) Type() string { return "string" }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("must be one of %s", strings.Join(c.words, ", "))
	}
	*c.value = s
	return nil
}

// defaultNamespace reads the namespace of the Pod; outside of one it is herald-system.
func defaultNamespace(file string) string {
	if data, err := os.ReadFile(file); err == nil {
		if name := strings.TrimSpace(string(data)); name != "" {
			return name
		}
	}
	return "herald-system"
}

// ErrHelp is returned by Parse when help or the version was asked for, and has been printed.
var ErrHelp = pflag.ErrHelp

// Parse reads the command line and then, for each flag that is not on it, the environment variable HERALD_ with the flag's name in capitals
// and underscores. It adds --version. lookup is os.LookupEnv.
func Parse(flags *pflag.FlagSet, args []string, lookup func(string) (string, bool), version string, out io.Writer) error {
	show := flags.Bool("version", false, "print the version and exit")
	flags.SetOutput(out)
	flags.SortFlags = false
	flags.Usage = func() { usage(flags, out) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return ErrHelp
		}
		return err
	}
	if *show {
		fmt.Fprintln(out, flags.Name(), version)
		return ErrHelp
	}
	if rest := flags.Args(); len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q: everything is set by flags, see --help", rest[0])
	}
	return fromEnvironment(flags, lookup)
}

func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := Variable(f.Name)
		value, ok := lookup(name)
		if f.Changed || !ok || f.Name == "version" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("environment variable %s: %w", name, err))
		}
	})
	return errors.Join(errs...)
}

// Variable returns the name of the environment variable that stands in for a flag.
func Variable(flag string) string {
	return "HERALD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func usage(flags *pflag.FlagSet, out io.Writer) {
	fmt.Fprintf(out, "Usage: %s [flags]\n\nEach flag may be given as an environment variable instead: --log-level as %s. A flag wins.\n\n%s",
		flags.Name(), Variable("log-level"), flags.FlagUsagesWrapped(120))
}
