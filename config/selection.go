package config

import "maps"

// Selection is the answer of a list of selectors: everything, or a fixed set of keys. The zero value selects nothing.
type Selection[K comparable] struct {
	all bool
	set map[K]struct{}
}

// All selects everything, also what does not exist yet.
func All[K comparable]() Selection[K] { return Selection[K]{all: true} }

// Only selects the given keys.
func Only[K comparable](keys ...K) Selection[K] {
	set := make(map[K]struct{}, len(keys))
	for _, k := range keys {
		set[k] = struct{}{}
	}
	return Selection[K]{set: set}
}

// Change returns the selection with some keys more and others less. All stays All.
func (s Selection[K]) Change(more, less []K) Selection[K] {
	if s.all || len(more)+len(less) == 0 {
		return s
	}
	set := make(map[K]struct{}, len(s.set)+len(more))
	maps.Copy(set, s.set)
	for _, k := range more {
		set[k] = struct{}{}
	}
	for _, k := range less {
		delete(set, k)
	}
	return Selection[K]{set: set}
}

// Has reports whether the key is selected.
func (s Selection[K]) Has(k K) bool {
	if s.all {
		return true
	}
	_, ok := s.set[k]
	return ok
}

// IsAll reports whether everything is selected.
func (s Selection[K]) IsAll() bool { return s.all }

// Len returns the number of keys of a fixed set; 0 for All.
func (s Selection[K]) Len() int { return len(s.set) }

// Overlaps reports whether the two have something in common. All and a fixed set do unless the set is empty.
func (s Selection[K]) Overlaps(o Selection[K]) bool {
	switch {
	case s.all:
		return o.all || len(o.set) > 0
	case o.all:
		return len(s.set) > 0
	case len(o.set) < len(s.set):
		s, o = o, s
	}
	for k := range s.set {
		if o.Has(k) {
			return true
		}
	}
	return false
}

// Equal reports whether two selections select the same.
func (s Selection[K]) Equal(o Selection[K]) bool { return s.all == o.all && maps.Equal(s.set, o.set) }
