package controller

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/kube"
)

// objects writes what is seen on config objects themselves: whether they are in force, and how full the pools are.
type objects struct {
	source  Source
	writer  Writer
	metrics *Metrics
	log     *slog.Logger
	quiet   time.Time // no log line before this
}

// write brings all config objects up to date. It goes on after an error, so that one object does not hold up the others.
func (o *objects) write(ctx context.Context) error {
	in := o.source.Snapshot()
	counts := o.metrics.pools()
	if in == nil || !in.Synced || counts == nil {
		return nil
	}
	var errs []error
	problems := byObject(in.Problems)
	for _, object := range in.Objects {
		if want := readiness(object, problems[object.Ref]); want != object.Ready {
			errs = append(errs, o.writer.WriteReady(ctx, object.Ref, object.Generation, want))
		}
	}
	for _, p := range in.Pools {
		if want, ok := counts[p.Name]; ok && want != p.Status {
			errs = append(errs, o.writer.WritePoolStatus(ctx, p.Name, want))
		}
	}
	return o.judge(ctx, errs)
}

// judge returns what is worth another try.
func (o *objects) judge(ctx context.Context, errs []error) error {
	var rest []error
	for _, err := range errs {
		if err != nil && !kube.IsNotFound(err) {
			rest = append(rest, err)
		}
	}
	if len(rest) == 0 || ctx.Err() != nil {
		return nil
	}
	if now := time.Now(); !kube.IsConflict(rest[0]) && now.After(o.quiet) {
		o.quiet = now.Add(failureLog)
		o.log.Warn("writing the status of config objects failed; trying on", "err", rest[0], "failing", len(rest))
	}
	return errors.Join(rest[0])
}

func byObject(problems []config.Problem) map[config.Ref][]config.Problem {
	out := make(map[config.Ref][]config.Problem)
	for _, p := range problems {
		out[p.Ref] = append(out[p.Ref], p)
	}
	return out
}

// maxProblems bounds the length of a message.
const maxProblems = 10

// readiness is the Ready condition of an object: False as soon as anything is wrong with it, and then what is wrong first.
func readiness(o config.Object, problems []config.Problem) config.Condition {
	c := config.Condition{Status: "True", Reason: "Ready", ObservedGeneration: o.Generation}
	if len(problems) == 0 {
		return c
	}
	worst := problems[0]
	var text []string
	for i, p := range problems {
		if worst.Warning && !p.Warning {
			worst = p
		}
		if i == maxProblems {
			text = append(text, "and more")
		}
		if i < maxProblems {
			text = append(text, message(p))
		}
	}
	c.Status, c.Reason, c.Message = "False", worst.Reason, strings.Join(text, "; ")
	switch {
	case worst.LastGood:
		c.Message += " (the last good version stays in force)"
	case worst.Warning:
		c.Message += " (the object is in force all the same)"
	}
	return c
}

func message(p config.Problem) string {
	if p.Field == "" {
		return p.Message
	}
	return p.Field + ": " + p.Message
}
