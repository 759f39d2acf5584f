// Command herald-controlplane is the laboratory's Kubernetes control plane in one binary: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kube-proxy and kubectl, chosen by the first argument or by the name it is
// called under. They share nearly all of their code, so one link is several times quicker and smaller than six.
//
// Only the chosen program's command is constructed: the others' flags and metrics are never registered, as several of
// them would claim the same names.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // time zones for CronJobs, on machines without a zone database

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// programs maps a program's name to what runs it with the given arguments (args[0] is the name) and returns the exit status.
func programs() map[string]func(args []string) int {
	return map[string]func([]string) int{
		"etcd":                    runEtcd,
		"kube-apiserver":          runCobra(apiserver.NewAPIServerCommand),
		"kube-controller-manager": runCobra(controllermanager.NewControllerManagerCommand),
		"kube-proxy":              runCobra(proxy.NewProxyCommand),
		"kube-scheduler":          runCobra(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
		"kubectl":                 runKubectl,
	}
}

func main() {
	run, args := choose(os.Args)
	if run == nil {
		fmt.Fprintf(os.Stderr, "usage: herald-controlplane PROGRAM [argument…]\nprograms: %s\n", strings.Join(names(), " "))
		os.Exit(2)
	}
	// The programs read the process's arguments themselves, and take their own name from the first.
	os.Args = args
	os.Exit(run(args))
}

// choose finds the program by the name the binary was called under, then by the first argument.
// It returns the arguments that the program should see, its own name first.
func choose(argv []string) (func([]string) int, []string) {
	all := programs()
	if run, ok := all[filepath.Base(argv[0])]; ok {
		return run, argv
	}
	if len(argv) > 1 {
		if run, ok := all[argv[1]]; ok {
			return run, argv[1:]
		}
	}
	return nil, nil
}

func names() []string {
	var list []string
	for name := range programs() {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// runCobra runs one of the Kubernetes daemons.
func runCobra(construct func() *cobra.Command) func([]string) int {
	return func(args []string) int {
		command := construct()
		command.SetArgs(args[1:])
		return cli.Run(command)
	}
}

// runEtcd runs etcd, which ends the process by itself when it fails.
func runEtcd(args []string) int {
	etcdmain.Main(args)
	return 0
}

// runKubectl runs kubectl. The log level is set before the command is built, as building it may already log.
func runKubectl(args []string) int {
	if _, err := logs.GlogSetter(cmd.GetLogVerbosity(args)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		cmdutil.CheckErr(err) // prints in kubectl's form and exits
	}
	return 0
}
