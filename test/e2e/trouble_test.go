package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// screenful is how many lines a person takes in at a glance.
const screenful = 40

// trouble is something that goes wrong, and what a user is told first who asks.
type trouble struct {
	name  string
	wrong func(s *stage, service string) // makes it go wrong for the time of the test
	ask   string                         // the verb of kubectl herald; "" = explain the Service
	first string                         // what is found first: about what, and the reason. SERVICE stands for the Service
	says  []string                       // words of what is found first, or of what to do about it
}

// TestTroubles provokes everything that users ask about, and asks: one screen has to say it, and what is to be done about it, first.
func TestTroubles(t *testing.T) {
	all := provoked()
	if len(all) < 20 {
		t.Fatalf("only %d troubles", len(all))
	}
	for i, one := range all {
		t.Run(one.name, func(t *testing.T) {
			s := on(t)
			service := fmt.Sprintf("trouble-%d", i+1)
			began := time.Now()
			one.wrong(s, service)
			text := s.asked(one, service)
			t.Logf("after %s:\n%s", time.Since(began).Round(10*time.Millisecond), text)
		})
	}
}

// asked asks until what is found first is what is wrong, and returns the screen.
func (s *stage) asked(one trouble, service string) (text string) {
	s.t.Helper()
	args := strings.Fields(one.ask)
	if len(args) == 0 {
		args = []string{"explain", "service", service}
	}
	want := strings.ReplaceAll(one.first, "SERVICE", "Service default/"+service)
	var last error // of a call that was not broken off
	s.eventually("kubectl herald "+strings.Join(args, " ")+" to say "+want, func(ctx context.Context) (err error) {
		defer func() {
			if ctx.Err() != nil && last != nil {
				err = last
			}
			last = err
		}()
		got, err := s.plugin(ctx, args...)
		if err != nil {
			return err
		}
		text = got.out
		found := first(text)
		if got.status != 1 || !strings.HasPrefix(found, want) {
			return fmt.Errorf("exit status %d, %q is first in\n%s%s", got.status, found, text, got.err)
		}
		for _, w := range one.says {
			if !strings.Contains(found, w) {
				return fmt.Errorf("%q is not said in %q", w, found)
			}
		}
		return nil
	})
	if n := strings.Count(text, "\n"); n > screenful {
		s.t.Errorf("%d lines are more than a screen:\n%s", n, text)
	}
	return text
}

// first returns the first error in what explain, status or check print: the finding, and what to do about it.
func first(text string) string {
	var found []string
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		rest, isError := strings.CutPrefix(line, "ERROR ")
		indented := strings.HasPrefix(line, "        ")
		switch {
		case isError && len(found) == 0 && !inside:
			inside = true
			if rest = strings.TrimSpace(rest); strings.Contains(rest, ": ") { // explain and status; check has the heading there
				found = append(found, rest)
			}
		case inside && indented && (len(found) == 0 || strings.HasPrefix(strings.TrimSpace(line), "-> ")):
			found = append(found, strings.TrimSpace(line))
		case inside:
			return strings.Join(found, " ")
		}
	}
	return strings.Join(found, " ")
}

// TestFirst reads screens.
func TestFirst(t *testing.T) {
	for text, want := range map[string]string{
		"Service a/b is not served\n\nWHY\nERROR   Service a/b: NoPool: no\n        -> make one\nERROR   x: Y: z\n":                                    "Service a/b: NoPool: no -> make one",
		"WHY\nWARNING x: Y: z\nERROR   Service a/b: NoPool: no\n\nREQUEST\n":                                                                           "Service a/b: NoPool: no",
		"ok      one\nERROR   the nodes\n          nodes: None: all of them\n          -> do something\n          nodes: More: other\nok      three\n": "nodes: None: all of them -> do something",
		"ok      one\n": "",
	} {
		if got := first(text); got != want {
			t.Errorf("%q has first %q, want %q", text, got, want)
		}
	}
}
