package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/heraldlb/herald/cmd/daemon"
	"github.com/heraldlb/herald/config/crd"
	"github.com/heraldlb/herald/config/kube"
)

const crdsUsage = `Usage: herald-controller crds apply|delete [flags]

apply brings the custom resource definitions in the cluster to those of this version; the chart does so before an upgrade.
delete deletes them, and with them every pool, peer and advertisement.

`

// jobs are what the program does for the chart instead of being the daemon, by the command's name.
func jobs() map[string]func(context.Context, []string, io.Writer) error {
	return map[string]func(context.Context, []string, io.Writer) error{"crds": crds, "namespace": namespace}
}

// crdVerbs are what can be done with the definitions.
func crdVerbs() map[string]func(context.Context, *kube.Client, crd.Definition) (string, error) {
	return map[string]func(context.Context, *kube.Client, crd.Definition) (string, error){
		"apply": func(ctx context.Context, c *kube.Client, d crd.Definition) (string, error) {
			changed, err := c.ApplyCRD(ctx, d)
			if changed {
				return "brought up to date", err
			}
			return "unchanged", err
		},
		"delete": func(ctx context.Context, c *kube.Client, d crd.Definition) (string, error) {
			return "deleted", c.DeleteCRD(ctx, d.Name)
		},
	}
}

// crds is the command "crds": a job of the chart, not the daemon.
func crds(ctx context.Context, args []string, out io.Writer) error {
	flags := pflag.NewFlagSet(name+" crds", pflag.ContinueOnError)
	flags.SetOutput(out)
	kubeconfig := flags.String("kubeconfig", os.Getenv(daemon.Variable("kubeconfig")), "kubeconfig `file`; empty: the credentials of the Pod")
	flags.Usage = func() { fmt.Fprint(out, crdsUsage+flags.FlagUsages()) }
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return daemon.ErrHelp
		}
		return err
	}
	do, ok := crdVerbs()[flags.Arg(0)]
	if !ok || flags.NArg() != 1 {
		return errors.New("crds: give apply or delete, see herald-controller crds --help")
	}
	client, err := kube.Connect(*kubeconfig)
	if err != nil {
		return err
	}
	return eachCRD(ctx, client, do, out)
}

// eachCRD goes on after an error, so that all that can be done is done.
func eachCRD(ctx context.Context, client *kube.Client, do func(context.Context, *kube.Client, crd.Definition) (string, error), out io.Writer) error {
	definitions, err := crd.Definitions()
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range definitions {
		done, err := do(ctx, client, d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "%s %s\n", d.Name, done)
	}
	return errors.Join(errs...)
}
