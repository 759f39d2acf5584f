package kube

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// TestPicked changes a table at random, in every way there is: the objects that are picked are always those that pass among all.
func TestPicked(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	w := newWatched()
	w.pick = func(s *corev1.Service) bool { return s.Labels["l"] == "yes" }
	version, most := 10, 0
	fresh := func() *corev1.Service {
		version++
		return svc(fmt.Sprintf("s%d", r.IntN(8)), fmt.Sprintf("u%d", r.IntN(2)), version, []string{"yes", "no"}[r.IntN(2)])
	}
	for step := range 2000 {
		switch r.IntN(8) {
		case 0:
			_ = w.Delete(fresh())
		case 1:
			_ = w.Replace([]any{fresh(), fresh(), fresh()}, "")
		case 2, 3:
			w.put(fresh())
		default:
			_ = w.Update(fresh())
		}
		got, want := w.picked(), slices.DeleteFunc(w.list(), func(s *corev1.Service) bool { return !w.pick(s) })
		most = max(most, len(got))
		if len(got) != len(want) || slices.ContainsFunc(got, func(s *corev1.Service) bool { return !slices.Contains(want, s) }) {
			t.Fatalf("step %d: %d picked, want %d", step, len(got), len(want))
		}
	}
	if most < 3 {
		t.Errorf("at most %d were picked", most)
	}
}
