package live

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/heraldlb/herald/test/observe"
)

// mayBeEmpty says of which queries ("file: panel: reference") nothing comes on a bad day, and why that is right. There is none: the day is bad enough.
var mayBeEmpty = map[string]string{}

// chosen puts in what a user's choice and Grafana put in for variables.
func chosen(expr string) string {
	return strings.NewReplacer(
		"$__rate_interval", rateInterval, "$job", "herald",
		"$cluster", ".*", "$namespace", ".*", "$node", ".*", "$peer", ".*", "$pod", ".*",
	).Replace(expr)
}

// query names a query of a panel.
func query(d observe.Dashboard, p observe.Panel, target observe.Target) string {
	return fmt.Sprintf("%s: %s: %s", d.File, p.Title, target.RefID)
}

// askAll asks everything that a dashboard asks, and returns what has no data.
func (s *stage) askAll(ctx context.Context, d observe.Dashboard) error {
	var errs []error
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			name := query(d, p, target)
			found, err := s.ask(ctx, target)
			switch {
			case err != nil:
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			case found == 0 && mayBeEmpty[name] == "":
				errs = append(errs, fmt.Errorf("%s: no data: %s", name, chosen(target.Expr)))
			}
		}
	}
	return errors.Join(errs...)
}

// ask returns how many numbers a query gives.
func (s *stage) ask(ctx context.Context, target observe.Target) (n int, err error) {
	ask := s.prometheus.lately
	if target.Instant {
		ask = s.prometheus.instant
	}
	lines, err := ask(ctx, chosen(target.Expr))
	for _, line := range lines {
		n += line.numbers()
	}
	return n, err
}

// askVariables asks for the values of what can be chosen.
func (s *stage) askVariables(ctx context.Context, d observe.Dashboard) error {
	definition := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	var errs []error
	for _, v := range d.Templating.List {
		if v.Type != "query" || v.Name == "cluster" { // one cluster, which has no name here
			continue
		}
		found := definition.FindStringSubmatch(v.Definition)
		if found == nil {
			errs = append(errs, fmt.Errorf("%s: variable %s is %q", d.File, v.Name, v.Definition))
			continue
		}
		values, err := s.prometheus.values(ctx, found[2], chosen(found[1]))
		if err == nil && len(values) == 0 {
			err = errors.New("nothing to choose")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: variable %s: %w", d.File, v.Name, err))
		}
	}
	return errors.Join(errs...)
}
