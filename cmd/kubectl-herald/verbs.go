package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/check"
	"github.com/heraldlb/herald/cmd/kubectl-herald/explain"
	"github.com/heraldlb/herald/cmd/kubectl-herald/lint"
	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/show"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "The whole installation at a glance, what is wrong first", Args: cobra.NoArgs,
		RunE: verb(func(ctx context.Context, _ []string) error {
			p, _, err := a.look(ctx)
			if err != nil {
				return err
			}
			s := show.MakeStatus(p)
			return a.print(s, s.Healthy, s.Draw(p.Cluster.Now))
		}),
	}
}

func (a *app) vips() *cobra.Command {
	return &cobra.Command{
		Use: "vips", Aliases: []string{"addresses"}, Short: "Every address: whose it is, who announces it, how, since when", Args: cobra.NoArgs,
		RunE: verb(func(ctx context.Context, _ []string) error {
			p, _, err := a.look(ctx)
			if err != nil {
				return err
			}
			list := show.MakeVIPs(p)
			well := !slices.ContainsFunc(list, func(v show.VIP) bool { return !v.Up })
			return a.print(list, well, show.DrawVIPs(list, p.Cluster.Now))
		}),
	}
}

func (a *app) bgp() *cobra.Command {
	return &cobra.Command{
		Use: "bgp", Aliases: []string{"sessions"}, Short: "The BGP sessions of every node", Args: cobra.NoArgs,
		RunE: verb(func(ctx context.Context, _ []string) error {
			p, _, err := a.look(ctx)
			if err != nil {
				return err
			}
			list := show.MakeSessions(p)
			well := !slices.ContainsFunc(list, func(s show.Session) bool { return s.State != picture.Established && !s.NoReporter })
			return a.print(list, well, show.DrawSessions(list, p.Cluster.Now))
		}),
	}
}

func (a *app) explain() *cobra.Command {
	parent := &cobra.Command{
		Use: "explain", Short: "Why something is as it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return fmt.Errorf("%s: say what: service NAMESPACE/NAME", c.Name())
		},
	}
	namespace := ""
	service := &cobra.Command{
		Use: "service NAMESPACE/NAME", Aliases: []string{"svc", "services"}, Args: cobra.ExactArgs(1),
		Short: "The chain from a Service's request to its announcement, and what breaks it",
		RunE: verb(func(ctx context.Context, args []string) error {
			p, api, err := a.look(ctx)
			if err != nil {
				return err
			}
			if namespace == "" {
				namespace = api.Namespace()
			}
			r, err := explained(p, keyOf(args[0], namespace))
			if err != nil {
				return err
			}
			return a.print(r, r.Healthy, r.Draw)
		}),
		ValidArgsFunction: a.complete(serviceNames),
	}
	service.Flags().StringVarP(&namespace, "namespace", "n", "", "`namespace` of a Service that is given by its name alone")
	parent.AddCommand(service)
	return parent
}

func keyOf(arg, namespace string) config.Key {
	if ns, name, ok := strings.Cut(arg, "/"); ok {
		return config.Key{Namespace: ns, Name: name}
	}
	return config.Key{Namespace: namespace, Name: arg}
}

// explained explains a Service, Herald's or not.
func explained(p *picture.Picture, key config.Key) (explain.Report, error) {
	if svc := p.Service(key); svc != nil {
		return explain.Service(p, svc), nil
	}
	i := slices.IndexFunc(p.Cluster.Services, func(s *corev1.Service) bool { return s.Namespace == key.Namespace && s.Name == key.Name })
	if i < 0 {
		return explain.Report{}, fmt.Errorf("no Service %s of type LoadBalancer: see kubectl -n %s get service %s", key, key.Namespace, key.Name)
	}
	return explain.Stranger(p, p.Cluster.Services[i]), nil
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Look for what usually goes wrong around Herald, also before it is installed", Args: cobra.NoArgs,
		RunE: verb(func(ctx context.Context, _ []string) error {
			p, _, err := a.look(ctx)
			if err != nil {
				return err
			}
			r := check.Cluster(p, a.version)
			return a.print(r, r.Healthy, r.Draw)
		}),
	}
}

func (a *app) lint() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use: "lint -f FILE", Args: cobra.NoArgs, Short: "Judge objects from files as Herald would, without a cluster",
		Long: "Judge objects from files as the API server and Herald would, without a cluster. Services, Nodes, Namespaces and ServiceCIDRs among\n" +
			"them are taken in: what they would be given, and what pools must keep clear of. A directory stands for its *.yaml, *.yml and *.json\n" +
			"files, - for the standard input.",
		RunE: verb(func(context.Context, []string) error {
			docs, err := a.readFiles(files)
			if err != nil {
				return err
			}
			r, err := lint.Judge(docs, a.class)
			if err != nil {
				return err
			}
			return a.print(r, r.Healthy, r.Draw)
		}),
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "`file`, directory or -; may be repeated")
	_ = c.MarkFlagRequired("filename") // fails for a flag that is not there only
	return c
}

// readFile reads a file, a directory's files, or the standard input.
func (a *app) readFile(name string) ([]manifest.Document, error) {
	if name == "-" {
		return manifest.Read("standard input", a.in)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return manifest.Read(name, f)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var docs []manifest.Document
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		more, err := a.readFile(filepath.Join(name, e.Name()))
		if err != nil {
			return nil, err
		}
		docs = append(docs, more...)
	}
	return docs, nil
}

// complete offers names from the cluster, for each argument those of its kind. What cannot be read offers nothing.
func (a *app) complete(names ...func(*kube.Cluster) []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(names) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		api, err := a.open(a.access)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		cluster, err := api.Read(c.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all := names[len(args)](cluster)
		return slices.DeleteFunc(all, func(n string) bool { return !strings.HasPrefix(n, begun) }), cobra.ShellCompDirectiveNoFileComp
	}
}
