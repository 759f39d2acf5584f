package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/lint"
	"github.com/heraldlb/herald/cmd/kubectl-herald/manifest"
	"github.com/heraldlb/herald/cmd/kubectl-herald/migrate"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
)

// migrated is what migrate prints as JSON.
type migrated struct {
	Whole   bool             `json:"whole"` // nothing is lost
	Objects []map[string]any `json:"objects"`
	Notes   []migrate.Note   `json:"notes"`
}

// migrate makes the verb migrate.
func (a *app) migrate() *cobra.Command {
	parent := &cobra.Command{
		Use: "migrate", Short: "Print Herald's objects for those of another load balancer", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return fmt.Errorf("%s: say from what: metallb", c.Name()) },
	}
	var files []string
	live := false
	c := &cobra.Command{
		Use: "metallb (-f FILE... | --live)", Args: cobra.NoArgs, Short: "Print Herald's objects for MetalLB's",
		Long: "Print Herald's objects for MetalLB's, from files or as they are in the cluster, for kubectl apply. Nothing is written.\n\n" +
			"What is not carried over as it was stands beside it as a comment, with the reason. -o table lists every field with what becomes of it,\n" +
			"-o json has both. Exit status 1: something is lost.",
		RunE: func(c *cobra.Command, args []string) error {
			if live == (len(files) > 0) {
				return errors.New("give either --live, or files with -f")
			}
			return verb(func(ctx context.Context, _ []string) error {
				return a.runMigrate(ctx, files, c.Flags().Changed("output"))
			})(c, args)
		},
	}
	c.Flags().StringSliceVarP(&files, "filename", "f", nil, "`file`, directory or -; may be repeated")
	c.Flags().BoolVar(&live, "live", false, "take the objects from the cluster, and look at its Services")
	parent.AddCommand(c)
	return parent
}

// runMigrate migrates files, or the cluster where there are none. As a table it is printed only when that is asked for.
func (a *app) runMigrate(ctx context.Context, files []string, chosen bool) error {
	in := migrate.Input{Namespace: a.installed}
	read := a.readLive
	if len(files) > 0 {
		read = func(_ context.Context, in *migrate.Input) (err error) {
			in.Documents, err = a.readFiles(files)
			return err
		}
	}
	if err := read(ctx, &in); err != nil {
		return err
	}
	if len(in.Documents) == 0 {
		return errors.New("there is nothing of MetalLB's")
	}
	r := migrate.MetalLB(in)
	if err := a.judged(r); err != nil {
		return err
	}
	if a.output == "yaml" || !chosen {
		text, err := r.YAML()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprint(a.out, migratedHead+text); err != nil {
			return err
		}
		if !r.Whole() {
			return errUnwell
		}
		return nil
	}
	value := migrated{Whole: r.Whole(), Notes: r.Sorted()}
	for _, o := range r.Objects {
		value.Objects = append(value.Objects, o.Value())
	}
	return a.print(value, value.Whole, value.draw)
}

const migratedHead = "# Made of MetalLB's objects by kubectl herald migrate metallb. docs/migration.md says how to change over.\n"

// readFiles reads files and directories.
func (a *app) readFiles(files []string) ([]manifest.Document, error) {
	var docs []manifest.Document
	for _, name := range files {
		more, err := a.readFile(name)
		if err != nil {
			return nil, err
		}
		docs = append(docs, more...)
	}
	return docs, nil
}

// readLive reads what the cluster has of MetalLB's, and its Services.
func (a *app) readLive(ctx context.Context, in *migrate.Input) error {
	api, err := a.open(a.access)
	if err != nil {
		return err
	}
	cluster, err := api.Read(ctx)
	if err != nil {
		return err
	}
	in.Services, in.Namespaces = cluster.Services, cluster.Namespaces
	if p := picture.New(cluster, picture.Options{Namespace: a.installed}); in.Namespace == "" {
		in.Namespace = p.Install.Namespace
	}
	take := func(text []byte) error {
		docs, err := manifest.Read("the cluster", bytes.NewReader(text))
		in.Documents = append(in.Documents, docs...)
		return err
	}
	for _, group := range migrate.Groups() {
		lists, err := api.Foreign(ctx, group)
		if err != nil {
			return err
		}
		for _, text := range lists {
			if err := take(text); err != nil {
				return err
			}
		}
	}
	namespaces := []string{"metallb-system"}
	for _, d := range in.Documents {
		namespaces = append(namespaces, d.Metadata.Namespace)
	}
	slices.Sort(namespaces)
	for _, ns := range slices.Compact(namespaces) {
		for _, name := range migrate.ConfigMaps() {
			text, err := api.ConfigMap(ctx, ns, name)
			if err == nil && text != nil {
				err = take(text)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// judged takes in what lint has to say of the result.
func (a *app) judged(r *migrate.Result) error {
	l, err := lint.Judge(r.Documents(), a.class)
	if err != nil {
		return err
	}
	for _, f := range l.Findings {
		v := migrate.Todo
		if f.Level == finding.Error {
			v = migrate.Lost
		}
		r.Notes = append(r.Notes, migrate.Note{Verdict: v, Object: "Herald's " + f.About, Message: strings.TrimSpace(f.Reason + ": " + f.Message)})
	}
	return nil
}

// draw lists every field, what is lost first.
func (m migrated) draw(c *print.Screen) {
	var rows [][]print.Cell
	for _, n := range m.Notes {
		style := print.Plain
		switch n.Verdict {
		case migrate.Lost:
			style = print.Bad
		case migrate.Todo:
			style = print.Odd
		case migrate.Carried:
			style = print.Good
		case migrate.Changed:
		}
		rows = append(rows, []print.Cell{{Text: string(n.Verdict), Style: style}, print.C(n.Object), print.C(n.Field), print.C(n.Message)})
	}
	c.Table([]string{"VERDICT", "OBJECT", "FIELD", "MESSAGE"}, rows)
	c.Line(print.C(fmt.Sprintf("%d objects made: ", len(m.Objects))), print.Yes(m.Whole, map[bool]string{true: "nothing is lost", false: "something is lost"}[m.Whole]))
}
