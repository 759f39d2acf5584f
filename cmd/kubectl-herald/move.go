package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/print"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
	"github.com/heraldlb/herald/config/parse"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/decide"
)

// moved is what move prints.
type moved struct {
	Service   string         `json:"service"`
	Node      string         `json:"node"`
	Addresses []movedAddress `json:"addresses"`
	Done      bool           `json:"done"` // the node reports to answer for all of them
}

// movedAddress is what became of one address.
type movedAddress struct {
	Address netip.Addr `json:"address"`
	From    string     `json:"from"`
	Done    bool       `json:"done"`    // the node reports to answer for it
	Seconds float64    `json:"seconds"` // from asking until that was reported; 0 for one that was there already
}

// How move waits.
const (
	moveWait = 30 * time.Second
	movePoll = 100 * time.Millisecond
	undoWait = 30 * time.Second // for what is to be put right again when the caller has gone
)

// move makes the verb move.
func (a *app) move() *cobra.Command {
	namespace, wait := "", moveWait
	c := &cobra.Command{
		Use: "move SERVICE NODE", Short: "Hand a Service's Layer 2 addresses to another node", Args: cobra.ExactArgs(2),
		Long: "Hand a Service's Layer 2 addresses to another node.\n\nThe Service gets the annotation " + parse.MoveAnnotation + " until that is done. The node that answers goes on\n" +
			"until the other one does, so nothing is lost; connections that are open reach another node then, and may break.\nNothing is written when the node may not have the addresses.",
		ValidArgsFunction: a.complete(serviceNames, nodeNames),
	}
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "`namespace` of a Service that is given by its name alone")
	c.Flags().DurationVar(&wait, "wait", wait, "how long to wait until the node answers; the other one is asked no longer")
	c.RunE = verb(func(ctx context.Context, args []string) error {
		p, api, err := a.look(ctx)
		if err != nil {
			return err
		}
		key := keyOf(args[0], cmp.Or(namespace, api.Namespace()))
		plan, err := planMove(p, key, args[1])
		if err != nil {
			return err
		}
		r, err := a.carryOut(ctx, api, p.Cluster.Now, plan, wait)
		if err != nil {
			return err
		}
		return a.print(r, r.Done, r.draw)
	})
	return c
}

// movePlan is what to ask of whom.
type movePlan struct {
	service config.Key
	to      string
	owners  map[netip.Addr]string // of the addresses that are announced by ARP and NDP
}

// planMove works out who has to hand which addresses over. An error says why that makes no sense, or would not be done.
func planMove(p *picture.Picture, key config.Key, node string) (movePlan, error) {
	svc, err := served(p, key)
	if err != nil {
		return movePlan{}, err
	}
	if p.Node(node) == nil {
		return movePlan{}, fmt.Errorf("there is no node %s: kubectl get nodes lists them", node)
	}
	if svc.Move.Until.After(p.Cluster.Now) {
		return movePlan{}, fmt.Errorf("the Service %s is being moved already: wait until %s, or take its annotation %s away",
			key, svc.Move.Until.Format(time.RFC3339), parse.MoveAnnotation)
	}
	plan := movePlan{service: key, to: node, owners: map[netip.Addr]string{}}
	routed := false
	for _, e := range p.Explain.Service(key) {
		if e.Protocol != decide.L2 {
			routed = routed || e.Protocol == decide.BGP
			continue
		}
		owner, err := mover(p, e, node)
		if err != nil {
			return movePlan{}, err
		}
		plan.owners[e.Addr] = owner
	}
	switch {
	case len(plan.owners) > 0:
		return plan, nil
	case routed:
		return movePlan{}, fmt.Errorf("the Service %s is announced by BGP, by every node that may: there is no one node to move it from. "+
			"kubectl herald drain NODE takes a node out; nodeSelectors of a BGPAdvertisement say which nodes announce", key)
	}
	return movePlan{}, fmt.Errorf("the Service %s has no address that is announced: kubectl herald explain service %s", key, key)
}

// served returns a Service that Herald serves.
func served(p *picture.Picture, key config.Key) (*config.Service, error) {
	svc := p.Service(key)
	if svc != nil {
		return svc, nil
	}
	if _, err := explained(p, key); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the Service %s is none of Herald's: kubectl herald explain service %s", key, key)
}

// mover returns the node that has to hand an address over, or why that would not help.
func mover(p *picture.Picture, e decide.Explanation, node string) (string, error) {
	holders := p.Holders(e.Addr)
	if e.Reason != decide.Announced || len(holders) == 0 {
		return "", fmt.Errorf("nobody answers for %s, so nobody can hand it over: kubectl herald explain service %s", e.Addr, e.Service)
	}
	owner := holders[0].Node
	switch {
	case owner == node:
	case !p.Explain.Gets(e, node):
		return "", fmt.Errorf("node %s may not answer for %s: %s", node, e.Addr, obstacle(p, e, node))
	case e.First != "" && e.First != node:
		return "", fmt.Errorf("%s would go back to %s, its first choice, because of failbackDelay in L2Advertisement %s: "+
			"take that out, or make %s the first choice with preferredNodeSelectors", e.Addr, e.First, strings.Join(e.Advertisements, ", "), node)
	}
	return owner, nil
}

// obstacle says what keeps a node from having an address.
func obstacle(p *picture.Picture, e decide.Explanation, node string) string {
	for _, l := range p.Explain.LeftOut(e) {
		if l.Node == node {
			return l.Why
		}
	}
	return "not every Service that shares the address may be announced from there"
}

// carryOut asks each node in turn to hand its addresses over, and waits until the new one reports to answer. now is the API server's time.
func (a *app) carryOut(ctx context.Context, api API, now time.Time, plan movePlan, wait time.Duration) (moved, error) {
	began := a.now()
	r := moved{Service: plan.service.String(), Node: plan.to, Done: true}
	for _, addr := range slices.SortedFunc(maps.Keys(plan.owners), netip.Addr.Compare) {
		r.Addresses = append(r.Addresses, movedAddress{Address: addr, From: plan.owners[addr], Done: plan.owners[addr] == plan.to})
	}
	for _, from := range slices.Compact(slices.Sorted(maps.Values(plan.owners))) {
		if from == plan.to {
			continue
		}
		asked := a.now()
		err := a.hand(ctx, api, plan, config.Move{From: from, To: plan.to, Until: now.Add(asked.Sub(began) + wait)}, wait)
		if errors.Is(err, errNotHanded) {
			r.Done = false
			continue
		}
		if err != nil {
			return r, err
		}
		took := a.now().Sub(asked).Seconds()
		for i := range r.Addresses {
			if r.Addresses[i].From == from {
				r.Addresses[i].Done, r.Addresses[i].Seconds = true, took
			}
		}
	}
	return r, nil
}

// errNotHanded says that time was up before a node had what it was to have.
var errNotHanded = errors.New("the node was not handed the addresses in time")

// hand asks one node to hand addresses over, and asks it no longer when that is done, when time is up or the caller goes.
func (a *app) hand(ctx context.Context, api API, plan movePlan, move config.Move, wait time.Duration) (err error) {
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWait)
		defer cancel()
		if e := api.Annotate(undo, plan.service, parse.MoveAnnotation, ""); e != nil && err == nil {
			err = e
		}
	}()
	if err := api.Annotate(ctx, plan.service, parse.MoveAnnotation, parse.FormatMove(move)); err != nil {
		return err
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		s, err := api.Report(ctx, plan.to)
		if err == nil && plan.handed(s, move.From) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			if err != nil {
				return err
			}
			return errNotHanded
		case <-time.After(movePoll):
		}
	}
}

// handed reports whether a speaker reports to answer for all that was at a node.
func (p movePlan) handed(s *v1beta1.SpeakerStatus, from string) bool {
	if s == nil || s.Status.L2 == nil {
		return false
	}
	for addr, owner := range p.owners {
		if owner == from && !slices.ContainsFunc(s.Status.L2.Addresses, func(h v1beta1.SpeakerL2Address) bool { return h.Address == addr.String() }) {
			return false
		}
	}
	return true
}

func (r moved) draw(c *print.Screen) {
	for _, one := range r.Addresses {
		text := one.Address.String() + " went from " + one.From + " to " + r.Node
		switch {
		case one.From == r.Node:
			text = one.Address.String() + " is at " + r.Node + " already"
		case one.Done:
			text += fmt.Sprintf(", reported after %.1f s", one.Seconds)
		default:
			text = one.Address.String() + " is still at " + one.From + ": look at kubectl herald explain service " + r.Service + ", and at the log of the speaker there"
		}
		c.Line(print.Yes(one.Done, text))
	}
}

func serviceNames(c *kube.Cluster) []string {
	var names []string
	for _, s := range c.Services {
		names = append(names, s.Namespace+"/"+s.Name)
	}
	return names
}
