package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
	"github.com/heraldlb/herald/speaker/decide"
)

// planL2 plans to move an address there and back, or to restart the speaker that answers.
func (x *exercise) planL2(p *picture.Picture, key config.Key, e decide.Explanation, o drillOptions) error {
	holders := p.Holders(e.Addr)
	if len(holders) == 0 {
		return fmt.Errorf("nobody answers for %s: kubectl herald explain service %s", e.Addr, key)
	}
	owner := holders[0].Node
	if o.by == "restart" {
		return x.planRestart(p, owner)
	}
	to := cmp.Or(o.node, p.Explain.Successor(e))
	if to == "" {
		return fmt.Errorf("no other node may answer for %s: kubectl herald explain service %s", e.Addr, key)
	}
	if to == owner {
		return fmt.Errorf("node %s answers for %s already: name another one with --node", to, e.Addr)
	}
	if e.First != "" {
		return fmt.Errorf("%s goes to %s by itself, its first choice, because of failbackDelay: a drill would not find it where it put it; --by restart works", e.Addr, e.First)
	}
	plan, err := planMove(p, key, to)
	if err != nil {
		return err
	}
	for a, from := range plan.owners { // of a Service with two addresses the other one stays, unless it is at the same node
		if from != owner {
			delete(plan.owners, a)
		}
	}
	back := movePlan{service: key, to: owner, owners: map[netip.Addr]string{}}
	for a := range plan.owners {
		back.owners[a] = to
	}
	home := func(ctx context.Context) error { return x.handOver(ctx, back) }
	x.steps = []step{
		{what: "move " + e.Addr.String() + " from " + owner + " to " + to, do: func(ctx context.Context) error { return x.handOver(ctx, plan) }, undo: home},
		{what: "move " + e.Addr.String() + " from " + to + " to " + owner, do: home, undo: home},
	}
	return nil
}

// handOver asks for a move and waits for it.
func (x *exercise) handOver(ctx context.Context, plan movePlan) error {
	r, err := x.carryOut(ctx, x.api, x.clock.Add(x.now().Sub(x.began)), plan, x.wait)
	if err == nil && !r.Done {
		err = fmt.Errorf("it was not reported within %s", x.wait)
	}
	return err
}

// planBGP plans to drain a node that announces, or to restart its speaker.
func (x *exercise) planBGP(p *picture.Picture, e decide.Explanation, o drillOptions) error {
	node := o.node
	for _, a := range e.Able {
		if node == "" || node == a.Node {
			node = a.Node
			break
		}
	}
	if !announcedBy(e, node) {
		return fmt.Errorf("node %q does not announce %s: kubectl herald explain service %s", node, e.Addr, e.Service)
	}
	if o.by == "restart" {
		return x.planRestart(p, node)
	}
	if len(e.Able) < 2 {
		return fmt.Errorf("node %s is the only one that announces %s: draining it would leave nobody", node, e.Addr)
	}
	again := func(ctx context.Context) error { return x.announceAgain(ctx, node) }
	x.steps = []step{
		{what: "drain " + node, do: func(ctx context.Context) error { return x.drainNode(ctx, node) }, undo: again},
		{what: "undrain " + node, do: again, undo: again},
	}
	return nil
}

func announcedBy(e decide.Explanation, node string) bool {
	for _, a := range e.Able {
		if a.Node == node {
			return true
		}
	}
	return false
}

// drainNode drains a node and waits until it announces nothing by BGP.
func (x *exercise) drainNode(ctx context.Context, node string) error {
	if _, err := x.api.Drain(ctx, node, true); err != nil {
		return err
	}
	return x.until(ctx, node, "it still announces something", func(s *v1beta1.SpeakerStatus) bool { return s != nil && prefixes(s) == 0 })
}

// announceAgain lets a node announce again and waits until it does.
func (x *exercise) announceAgain(ctx context.Context, node string) error {
	if _, err := x.api.Drain(ctx, node, false); err != nil {
		return err
	}
	return x.until(ctx, node, "it announces nothing yet", func(s *v1beta1.SpeakerStatus) bool { return s != nil && prefixes(s) > 0 })
}

// prefixes counts what a speaker tells its peers.
func prefixes(s *v1beta1.SpeakerStatus) int {
	n := 0
	if s.Status.BGP != nil {
		for _, b := range s.Status.BGP.Sessions {
			n += int(b.Advertised.IPv4 + b.Advertised.IPv6)
		}
	}
	return n
}

// planRestart plans to delete the speaker's Pod of a node; its DaemonSet makes another.
func (x *exercise) planRestart(p *picture.Picture, node string) error {
	if _, _, err := restartable(p, node); err != nil {
		return err
	}
	x.steps = []step{{what: "restart the speaker of " + node, do: func(ctx context.Context) error {
		now, _, err := x.look(ctx) // the Pod is another one each time
		if err != nil {
			return err
		}
		pod, before, err := restartable(now, node)
		if err != nil {
			return err
		}
		if err := x.api.DeletePod(ctx, pod.Namespace, pod.Name); err != nil {
			return err
		}
		return x.until(ctx, node, "no new speaker reports from there", func(s *v1beta1.SpeakerStatus) bool {
			return s != nil && !s.Status.StartedAt.Equal(before.Status.StartedAt)
		})
	}}}
	return nil
}

// restartable returns the speaker's Pod on a node, and what that speaker reports.
func restartable(p *picture.Picture, node string) (*corev1.Pod, *v1beta1.SpeakerStatus, error) {
	pod, report := p.SpeakerPod(node), p.Reports[node]
	if pod == nil || report == nil {
		return nil, nil, fmt.Errorf("no speaker is found on %s: kubectl herald status", node)
	}
	return pod, report.DeepCopy(), nil
}

// until waits until a speaker reports what is wanted.
func (x *exercise) until(ctx context.Context, node, otherwise string, so func(*v1beta1.SpeakerStatus) bool) error {
	ctx, cancel := context.WithTimeout(ctx, x.wait)
	defer cancel()
	for {
		s, err := x.api.Report(ctx, node)
		if err == nil && so(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s %s", x.wait, otherwise)
		case <-time.After(movePoll):
		}
	}
}
