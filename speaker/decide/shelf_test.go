package decide

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
)

// item is an element of a shelf in tests; it gives n items, which say its key and how often it was changed.
type item struct{ key, n, version int }

func itemsOf(to [][2]int, e *item) [][2]int {
	for range e.n {
		to = append(to, [2]int{e.key, e.version})
	}
	return to
}

// TestShelf puts elements in, changes and takes them out at random: the list is always that of all elements, pages of which nothing changed
// stay the same, and none that was handed out is ever changed.
func TestShelf(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := shelf[*item, [2]int]{compare: func(a, b *item) int { return cmp.Compare(a.key, b.key) }}
	there := map[int]*item{}
	var last, lastCopy [][][2]int
	kept, most := 0, 0
	for step := range 3000 {
		target := 400 // grows, then shrinks to nothing, then grows in order
		if step/500%2 == 1 {
			target = 0
		}
		for range r.IntN(6) {
			key := r.IntN(1000)
			if step > 2000 {
				key = step
			}
			switch e := there[key]; {
			case e == nil && len(there) <= target:
				e = &item{key: key, n: r.IntN(3)}
				there[key] = e
				s.insert(e)
			case e != nil && r.IntN(2) == 0:
				e.version++
				e.n = r.IntN(3)
				s.spoil(e)
			case e != nil || len(there) > target:
				for _, any := range there {
					delete(there, any.key)
					s.remove(any)
					break
				}
			}
		}
		out := s.list(itemsOf)
		if !slices.EqualFunc(last, lastCopy, func(a, b [][2]int) bool { return slices.Equal(a, b) }) {
			t.Fatalf("step %d changed what was handed out before", step)
		}
		kept += checkShelf(t, &s, there, out, last)
		last, lastCopy = out, nil
		for _, page := range out {
			lastCopy = append(lastCopy, slices.Clone(page))
		}
		most = max(most, len(out))
	}
	if kept < 3000 || most < 5 {
		t.Errorf("%d pages stayed, %d at most: this tests too little", kept, most)
	}
}

// checkShelf compares a shelf and its list with what should be there. It returns how many pages are those of last time.
func checkShelf(t *testing.T, s *shelf[*item, [2]int], there map[int]*item, out, last [][][2]int) (kept int) {
	t.Helper()
	var want [][2]int
	var keys []int
	for key := range there {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		want = itemsOf(want, there[key])
		if e, ok := s.get(&item{key: key}); !ok || e != there[key] {
			t.Fatalf("%d is not found", key)
		}
	}
	if _, ok := s.get(&item{key: -1}); ok || s.size != len(there) || !slices.Equal(want, slices.Concat(out...)) {
		t.Fatalf("%d elements give\n%v, want of %d\n%v", s.size, out, len(there), want)
	}
	for e := range s.all() {
		if e.key != keys[0] {
			t.Fatalf("%d comes before %d", e.key, keys[0])
		}
		keys = keys[1:]
	}
	for _, page := range out {
		if len(page) == 0 {
			t.Fatal("there is an empty page")
		}
		if slices.ContainsFunc(last, func(p [][2]int) bool { return &p[0] == &page[0] }) {
			kept++
		}
	}
	return kept
}
