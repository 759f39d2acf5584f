package kube

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

// versions are the objects of a table by name, as UID and version.
func versions(w *watched) map[config.Key]string {
	all := make(map[config.Key]string)
	for _, o := range w.list() {
		all[keyOf(o)] = string(o.UID) + "/" + o.ResourceVersion
	}
	return all
}

// TestDrain: who takes in what a table drains, again and again, knows what is in the table.
func TestDrain(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWatched()
		known := make(map[config.Key]string)
		lists, version := 1, 0 // at first there is no knowing what was before
		for step := range 500 {
			name := string(rune('a' + r.IntN(6)))
			version++
			switch r.IntN(8) {
			case 0, 1, 2:
				_ = w.Update(svc(name, "u"+string(rune('0'+r.IntN(3))), version, "x"))
			case 3:
				_ = w.Update(svc(name, "u0", version-r.IntN(20), "x")) // perhaps from before our last write
			case 4:
				w.put(svc(name, "u0", version, "y"))
			case 5, 6:
				_ = w.Delete(svc(name, "u0", version, "y"))
			case 7:
				if r.IntN(20) == 0 {
					_ = w.Replace([]any{svc("a", "u0", version, "x"), svc("b", "u1", version, "x")}, "")
					lists++
				}
			}
			if r.IntN(3) > 0 {
				continue
			}
			came, gone, whole := w.drain()
			if whole != (lists > 0) {
				t.Fatalf("seed %d step %d: whole is %t after %d lists", seed, step, whole, lists)
			}
			lists = 0
			if whole {
				clear(known)
			}
			for _, key := range gone {
				delete(known, key)
			}
			for _, o := range came {
				known[keyOf(o)] = string(o.UID) + "/" + o.ResourceVersion
			}
			if diff := cmp.Diff(versions(w), known); diff != "" {
				t.Fatalf("seed %d step %d (-table +known):\n%s", seed, step, diff)
			}
			if came, gone, whole := w.drain(); whole || len(came)+len(gone) > 0 {
				t.Fatalf("seed %d step %d: drained twice: %v, %v, %t", seed, step, came, gone, whole)
			}
		}
	}
}
