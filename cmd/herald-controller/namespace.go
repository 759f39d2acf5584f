package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/kube"
)

const namespaceUsage = `Usage: herald-controller namespace --namespace NAME KEY=VALUE... [flags]

gives a namespace labels; the chart does so when podSecurityLabels is enabled.

`

// namespace is the command "namespace": a job of the chart, not the daemon.
func namespace(ctx context.Context, args []string, out io.Writer) error {
	flags := pflag.NewFlagSet(name+" namespace", pflag.ContinueOnError)
	flags.SetOutput(out)
	kubeconfig := flags.String("kubeconfig", os.Getenv(daemon.Variable("kubeconfig")), "kubeconfig `file`; empty: the credentials of the Pod")
	which := flags.String("namespace", os.Getenv(daemon.Variable("namespace")), "`name` of the namespace")
	flags.Usage = func() { fmt.Fprint(out, namespaceUsage+flags.FlagUsages()) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return daemon.ErrHelp
		}
		return err
	}
	labels, err := labelsOf(flags.Args())
	if err != nil || *which == "" || len(labels) == 0 {
		return errors.Join(errors.New("namespace: give --namespace and labels, see herald-controller namespace --help"), err)
	}
	client, err := kube.Connect(*kubeconfig)
	if err != nil {
		return err
	}
	if err := client.LabelNamespace(ctx, *which, labels); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s labelled\n", *which)
	return err
}

// labelsOf reads KEY=VALUE arguments.
func labelsOf(args []string) (map[string]string, error) {
	labels := make(map[string]string, len(args))
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", a)
		}
		labels[key] = value
	}
	return labels, nil
}
