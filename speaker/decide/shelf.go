package decide

import (
	"iter"
	"slices"
)

// shelf is a sorted list of elements, each of which gives items of a result, in pages: when an element changes, the items of its page are put
// together anew, and all other pages of the result stay the very same slices.
type shelf[E, I any] struct {
	compare func(a, b E) int
	pages   []*page[E, I]
	size    int
	changed bool
	out     [][]I
}

// page is a part of a shelf, never empty.
type page[E, I any] struct {
	elements []E // sorted
	stale    bool
	items    []I // never changed once it is part of a result
}

// pageSize bounds a page: with ten thousand elements, to copy a page costs as much as to list all of them.
const pageSize = 64

// locate returns the page where an element stands or would stand, its place there, and whether it stands there. There must be a page.
func (s *shelf[E, I]) locate(e E) (at, i int, found bool) {
	at, found = slices.BinarySearchFunc(s.pages, e, func(p *page[E, I], e E) int { return s.compare(p.elements[0], e) })
	if !found {
		at = max(at-1, 0)
	}
	i, found = slices.BinarySearchFunc(s.pages[at].elements, e, s.compare)
	return at, i, found
}

// insert puts an element that is not there at its place.
func (s *shelf[E, I]) insert(e E) {
	s.size++
	s.changed = true
	if len(s.pages) == 0 {
		s.pages = []*page[E, I]{{elements: []E{e}, stale: true}}
		return
	}
	at, i, _ := s.locate(e)
	p := s.pages[at]
	if len(p.elements) == pageSize {
		cut := pageSize / 2
		if at == len(s.pages)-1 && i == pageSize {
			cut = pageSize // so that what comes in order fills its pages
		}
		rest := &page[E, I]{elements: append(make([]E, 0, pageSize), p.elements[cut:]...), stale: true}
		clear(p.elements[cut:])
		p.elements, p.stale = p.elements[:cut], p.stale || cut < pageSize
		s.pages = slices.Insert(s.pages, at+1, rest)
		if i >= cut {
			p, i = rest, i-cut
		}
	}
	p.elements, p.stale = slices.Insert(p.elements, i, e), true
}

// remove takes an element out that is there.
func (s *shelf[E, I]) remove(e E) {
	at, i, _ := s.locate(e)
	s.size--
	s.changed = true
	p := s.pages[at]
	p.elements, p.stale = slices.Delete(p.elements, i, i+1), true
	if len(p.elements) == 0 {
		s.pages = slices.Delete(s.pages, at, at+1)
	}
}

// get returns the element that compares equal.
func (s *shelf[E, I]) get(like E) (e E, ok bool) {
	if len(s.pages) == 0 {
		return e, false
	}
	at, i, found := s.locate(like)
	if !found {
		return e, false
	}
	return s.pages[at].elements[i], true
}

// spoil notes that the items of an element have changed.
func (s *shelf[E, I]) spoil(e E) {
	if len(s.pages) == 0 {
		return
	}
	if at, _, found := s.locate(e); found {
		s.changed, s.pages[at].stale = true, true
	}
}

// all lists the elements in order.
func (s *shelf[E, I]) all() iter.Seq[E] {
	return func(yield func(E) bool) {
		for _, p := range s.pages {
			for _, e := range p.elements {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// list returns the items of all elements in pages, none of which is empty, given what appends those of one; nil when there are none.
func (s *shelf[E, I]) list(add func(to []I, e E) []I) [][]I {
	if !s.changed {
		return s.out
	}
	s.changed, s.out = false, nil
	for _, p := range s.pages {
		if p.stale {
			p.stale, p.items = false, make([]I, 0, len(p.items)+1)
			for _, e := range p.elements {
				p.items = add(p.items, e)
			}
		}
		if len(p.items) > 0 {
			if s.out == nil {
				s.out = make([][]I, 0, len(s.pages))
			}
			s.out = append(s.out, p.items)
		}
	}
	return s.out
}
