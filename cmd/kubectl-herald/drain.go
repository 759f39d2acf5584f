package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
)

// drained is what drain and undrain print.
type drained struct {
	Node    string `json:"node"`
	Drain   bool   `json:"drain"`
	Changed bool   `json:"changed"` // the taint was set or taken away; else it was so before
	Left    int    `json:"left"`    // what the node still announced when the waiting ended: L2 addresses, and prefixes told to peers
}

// How drain waits.
const (
	drainWait = time.Minute
	drainPoll = 500 * time.Millisecond
)

// drain makes the verb drain, or undrain.
func (a *app) drain(drain bool) *cobra.Command {
	wait := time.Duration(0)
	c := &cobra.Command{
		Use: "undrain NODE", Short: "Let a drained node announce again", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(nodeNames),
	}
	if drain {
		c.Use, c.Short = "drain NODE", "Let other nodes announce what a node announces, and give it nothing new"
		c.Long = c.Short + ".\n\nThe node gets the taint " + parse.DrainTaint + " (effect PreferNoSchedule: its Pods stay). Nothing else is written."
		c.Flags().DurationVar(&wait, "wait", drainWait, "how long to wait until the node announces nothing; 0: not at all")
	}
	c.RunE = verb(func(ctx context.Context, args []string) error {
		api, err := a.open(a.access)
		if err != nil {
			return err
		}
		r := drained{Node: args[0], Drain: drain}
		if r.Changed, err = api.Drain(ctx, r.Node, drain); err != nil {
			return err
		}
		if drain && wait > 0 {
			if r.Left, err = a.emptied(ctx, api, r.Node, wait); err != nil {
				return err
			}
		}
		return a.print(r, r.Left == 0, r.draw)
	})
	return c
}

func nodeNames(c *kube.Cluster) []string {
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// emptied waits until a node's speaker reports that it announces nothing, and returns what is left when time is up.
func (a *app) emptied(ctx context.Context, api API, node string, wait time.Duration) (left int, err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for seen := false; ; {
		s, err := api.Report(ctx, node)
		switch {
		case err == nil:
			seen, left = true, announces(s)
			if left == 0 {
				return 0, nil
			}
		case ctx.Err() == nil || !seen:
			return 0, fmt.Errorf("the node has the taint; whether it still announces something is not known: %w", err)
		}
		select {
		case <-ctx.Done():
			return left, nil
		case <-time.After(drainPoll):
		}
	}
}

// announces counts what a speaker reports to announce.
func announces(s *v1beta1.SpeakerStatus) int {
	n := 0
	if s == nil {
		return n
	}
	if s.Status.L2 != nil {
		n += len(s.Status.L2.Addresses)
	}
	if s.Status.BGP != nil {
		for _, b := range s.Status.BGP.Sessions {
			n += int(b.Advertised.IPv4 + b.Advertised.IPv6)
		}
	}
	return n
}

func (r drained) draw(c *print.Screen) {
	var text []string
	switch {
	case r.Drain && r.Changed:
		text = append(text, "node "+r.Node+" drains")
	case r.Drain:
		text = append(text, "node "+r.Node+" was drained already")
	case r.Changed:
		text = append(text, "node "+r.Node+" may announce again")
	default:
		text = append(text, "node "+r.Node+" was not drained")
	}
	if r.Left > 0 {
		text = append(text, fmt.Sprintf("it still announces %d addresses or prefixes: kubectl herald vips shows them", r.Left))
	}
	c.Line(print.Yes(r.Left == 0, strings.Join(text, "; ")))
}
