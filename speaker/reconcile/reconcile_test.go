package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func rules(o Order) Rules[string, int] {
	return Rules[string, int]{Compare: strings.Compare, Equal: func(a, b int) bool { return a == b }, Order: o}
}

func TestDiff(t *testing.T) {
	actual := map[string]int{"a": 1, "b": 2, "c": 3, "z": 9}
	desired := map[string]int{"b": 2, "c": 4, "d": 5, "e": 6}
	for _, tt := range []struct {
		name  string
		order Order
		want  string
	}{
		{"add first", AddFirst, "add d 0>5; add e 0>6; change c 3>4; remove a 1>0; remove z 9>0"},
		{"remove first", RemoveFirst, "remove a 1>0; remove z 9>0; change c 3>4; add d 0>5; add e 0>6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := gocmp.Diff(tt.want, text(rules(tt.order).Diff(actual, desired))); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
	if got := rules(AddFirst).Diff(actual, maps.Clone(actual)); len(got) != 0 {
		t.Errorf("equal sets differ by %v", got)
	}
}

func text(steps []Step[string, int]) string {
	parts := make([]string, len(steps))
	for i, s := range steps {
		parts[i] = fmt.Sprintf("%v %s %d>%d", s.Kind, s.Key, s.Old, s.New)
	}
	return strings.Join(parts, "; ")
}

func TestBackoff(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 10 * time.Second}
	var got []time.Duration
	for n := 1; n <= 7; n++ {
		got = append(got, b.After(n)/time.Second)
	}
	if diff := gocmp.Diff([]time.Duration{1, 2, 4, 8, 10, 10, 10}, got); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
	if got := b.After(1 << 20); got != b.Max {
		t.Errorf("after very many failures %v, want %v", got, b.Max)
	}
	if got := (Backoff{Min: time.Minute, Max: time.Second}).After(1); got != time.Second {
		t.Errorf("Max below Min gives %v, want Max", got)
	}
}

// world is a model of what a reconciler acts on. It objects to steps that do not fit what is there.
type world struct {
	t    *testing.T
	have map[string]int
	fail func(key string) bool
	log  []string
}

var errInjected = errors.New("injected")

func (w *world) do(s Step[string, int]) error {
	old, ok := w.have[s.Key]
	if s.Kind == Add && ok || s.Kind != Add && (!ok || old != s.Old) {
		w.t.Fatalf("step %v %s %d>%d does not fit what is there: %v", s.Kind, s.Key, s.Old, s.New, w.have)
	}
	w.log = append(w.log, s.Kind.String()+" "+s.Key)
	if w.fail != nil && w.fail(s.Key) {
		return errInjected
	}
	if s.Kind == Remove {
		delete(w.have, s.Key)
	} else {
		w.have[s.Key] = s.New
	}
	return nil
}

// From any state any other is reached, in any order, with failures and losses on the way.
func TestWalk(t *testing.T) {
	for _, order := range []Order{AddFirst, RemoveFirst} {
		for seed := range uint64(30) {
			walk(t, order, rand.New(rand.NewPCG(seed, 7)))
		}
	}
}

func walk(t *testing.T, order Order, rnd *rand.Rand) {
	w := &world{t: t, have: map[string]int{}}
	s := New(rules(order), Backoff{Min: time.Second, Max: time.Minute})
	now := time.Unix(0, 0)
	for range 100 {
		desired := randomSet(rnd)
		w.fail = func(string) bool { return rnd.IntN(3) == 0 }
		s.Apply(now, desired, w.do)
		same(t, s, w.have)
		for k := range maps.Clone(w.have) {
			if rnd.IntN(8) == 0 {
				delete(w.have, k)
				s.Lost(now, k)
			}
		}
		now = now.Add(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		if rnd.IntN(3) > 0 {
			continue // on to the next state before this one is reached
		}
		w.fail = nil
		for next := now; !next.IsZero(); { // each wait is enough: after it the step is taken
			now = next
			next = s.Apply(now, desired, w.do).Next
		}
		if diff := gocmp.Diff(desired, w.have); diff != "" {
			t.Fatalf("not reached (-want +got):\n%s", diff)
		}
		same(t, s, w.have)
	}
}

func randomSet(rnd *rand.Rand) map[string]int {
	set := map[string]int{}
	for range rnd.IntN(8) {
		set[string(rune('a'+rnd.IntN(10)))] = rnd.IntN(3)
	}
	return set
}

func same(t *testing.T, s *State[string, int], have map[string]int) {
	t.Helper()
	if diff := gocmp.Diff(have, s.Actual()); diff != "" {
		t.Fatalf("what it remembers differs from what is there (-there +remembered):\n%s", diff)
	}
	if s.Len() != len(have) {
		t.Fatalf("Len %d, want %d", s.Len(), len(have))
	}
}

func TestBackoffHoldsOnlyTheFailedKey(t *testing.T) {
	w := &world{t: t, have: map[string]int{}}
	w.fail = func(k string) bool { return k == "bad" }
	s := New(rules(AddFirst), Backoff{Min: time.Second, Max: time.Minute})
	now := time.Unix(100, 0)
	out := s.Apply(now, map[string]int{"bad": 1, "good": 1}, w.do)
	if out.Done != 1 || len(out.Failed) != 1 || !out.Next.Equal(now.Add(time.Second)) || !errors.Is(out.Err(), errInjected) {
		t.Fatalf("first outcome %+v", out)
	}
	w.log = nil
	s.Apply(now.Add(time.Millisecond), map[string]int{"bad": 1, "good": 2, "more": 1}, w.do)
	if diff := gocmp.Diff([]string{"add more", "change good"}, w.log); diff != "" {
		t.Errorf("while the failed key waits (-want +got):\n%s", diff)
	}
	w.log = nil
	out = s.Apply(now.Add(2*time.Millisecond), map[string]int{"bad": 2}, w.do) // something else is wanted: try at once
	if diff := gocmp.Diff([]string{"add bad", "remove good", "remove more"}, w.log); diff != "" {
		t.Errorf("with another wish (-want +got):\n%s", diff)
	}
	if out.Failed[0].Count != 2 {
		t.Errorf("failures in a row: %d, want 2", out.Failed[0].Count)
	}
	w.log, w.fail = nil, nil
	s.Retry()
	if out := s.Apply(now.Add(3*time.Millisecond), map[string]int{"bad": 2}, w.do); out.Done != 1 || !out.Next.IsZero() || out.Err() != nil {
		t.Errorf("after Retry: %+v", out)
	}
}

func TestErrIsBounded(t *testing.T) {
	s := New(Rules[int, int]{Compare: cmp.Compare[int], Equal: func(a, b int) bool { return a == b }}, Backoff{Min: 1, Max: 1})
	desired := map[int]int{}
	for i := range 25 {
		desired[i] = i
	}
	err := s.Apply(time.Time{}, desired, func(Step[int, int]) error { return errInjected }).Err()
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 11 || lines[0] != "add 0: injected" || lines[10] != "15 more omitted" {
		t.Errorf("error is\n%v", err)
	}
}
