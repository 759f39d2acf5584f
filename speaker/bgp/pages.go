package bgp

import "slices"

// Thousands of routes are handled in pages. A page is never changed, so that one in the same memory is the same, and what was made of it before
// serves again: a change of one route then costs what a page does.

// pageID tells pages apart.
type pageID[T any] struct {
	first *T
	size  int
}

func idOf[T any](page []T) pageID[T] {
	if len(page) == 0 {
		return pageID[T]{}
	}
	return pageID[T]{&page[0], len(page)}
}

// samePages reports whether two lists of pages are the same, page by page.
func samePages[T comparable](a, b [][]T) bool {
	return slices.EqualFunc(a, b, func(x, y []T) bool {
		return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0] || slices.Equal(x, y))
	})
}

// memory remembers what was made of each page of a list.
type memory[T, M any] struct {
	pages [][]T
	made  []M
}

// update returns what is made of each page of the next list, in its order. What was there before is taken from memory, all else is made.
func (m *memory[T, M]) update(pages [][]T, produce func([]T) M) []M {
	made := make([]M, len(pages))
	head, tail := 0, 0
	for head < min(len(pages), len(m.pages)) && idOf(pages[head]) == idOf(m.pages[head]) {
		made[head] = m.made[head]
		head++
	}
	for tail < min(len(pages), len(m.pages))-head && idOf(pages[len(pages)-1-tail]) == idOf(m.pages[len(m.pages)-1-tail]) {
		made[len(pages)-1-tail] = m.made[len(m.pages)-1-tail]
		tail++
	}
	was := make(map[pageID[T]]M, len(m.pages)-tail-head)
	for i := head; i < len(m.pages)-tail; i++ {
		was[idOf(m.pages[i])] = m.made[i]
	}
	for i := head; i < len(pages)-tail; i++ {
		is, ok := was[idOf(pages[i])]
		if !ok {
			is = produce(pages[i])
		}
		made[i] = is
	}
	m.pages, m.made = pages, made
	return made
}
