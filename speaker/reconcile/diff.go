// Package reconcile works out the steps from what is to what should be and takes them one by one, remembering what was really done: a
// step that fails leaves its key as it was and is tried again later, and the other steps go on. It knows no sockets and no clock.
package reconcile

import "slices"

// Kind says what a step does to its key.
type Kind uint8

// Kinds of steps.
const (
	Add Kind = iota
	Change
	Remove
)

// String returns the kind as a verb.
func (k Kind) String() string {
	switch k {
	case Add:
		return "add"
	case Change:
		return "change"
	default:
		return "remove"
	}
}

// Step is one difference between what is and what should be.
type Step[K comparable, V any] struct {
	Kind Kind
	Key  K
	Old  V // zero for Add
	New  V // zero for Remove
}

// Order says which steps come first.
type Order uint8

// Orders of steps. Within a kind, steps are ordered by key.
const (
	AddFirst    Order = iota // add, change, remove: something is always there (routes)
	RemoveFirst              // remove, change, add: there is never too much (one answer for an address)
)

// Rules say how keys and values compare and in which order steps are taken.
type Rules[K comparable, V any] struct {
	Compare func(a, b K) int  // total order of keys, so that equal differences give equal steps
	Equal   func(a, b V) bool // whether a value needs no step
	Order   Order
}

// Diff returns the steps that lead from actual to desired, in the order the rules give.
func (r Rules[K, V]) Diff(actual, desired map[K]V) []Step[K, V] {
	var steps []Step[K, V]
	for k, v := range desired {
		old, ok := actual[k]
		switch {
		case !ok:
			steps = append(steps, Step[K, V]{Kind: Add, Key: k, New: v})
		case !r.Equal(old, v):
			steps = append(steps, Step[K, V]{Kind: Change, Key: k, Old: old, New: v})
		}
	}
	for k, v := range actual {
		if _, ok := desired[k]; !ok {
			steps = append(steps, Step[K, V]{Kind: Remove, Key: k, Old: v})
		}
	}
	slices.SortFunc(steps, func(a, b Step[K, V]) int {
		if a.Kind != b.Kind {
			d := int(a.Kind) - int(b.Kind)
			if r.Order == RemoveFirst {
				return -d
			}
			return d
		}
		return r.Compare(a.Key, b.Key)
	})
	return steps
}
