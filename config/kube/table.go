package kube

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"github.com/heraldlb/herald/config"
)

type object interface {
	runtime.Object
	metav1.Object
}

// table is what a reflector has seen of one resource. It differs from client-go's informer cache in three ways: objects are trimmed before
// they are kept, a change of nothing that is read triggers nothing, and the answer to our own write is put in at once, so that the next
// decision does not start from before it. Objects in a table are never changed.
type table[T object] struct {
	trim    func(T)           // drops what nobody reads, in place; run on every object before it is kept
	same    func(a, b T) bool // nothing that is read differs; both are trimmed
	changed func()            // something differs, or the first list is in; called without the lock
	gone    func(T)           // an object left the table; called without the lock; may be nil
	newer   func()            // an object was kept of which only the version differs; called without the lock; may be nil
	pick    func(T) bool      // the few objects that picked lists; may be nil

	mu       sync.RWMutex
	items    map[config.Key]T
	picks    map[config.Key]T // those of items that are picked
	synced   bool             // the API server has listed the resource
	restored bool             // it has not, but the last run knew this of it
	steps    bool             // since drain, only single objects were put in or taken out: those of touched
	touched  map[config.Key]struct{}
	deleted  map[config.Key]T // objects that we have deleted ourselves, as they were, until the watch has said so too
}

var _ cache.TransformingStore = (*table[object])(nil)

func newTable[T object](trim func(T), same func(a, b T) bool, changed func()) *table[T] {
	return &table[T]{
		trim: trim, same: same, changed: changed,
		items: make(map[config.Key]T), picks: make(map[config.Key]T), touched: make(map[config.Key]struct{}), deleted: make(map[config.Key]T),
	}
}

func keyOf(o metav1.Object) config.Key {
	return config.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// list returns the objects in no order.
func (t *table[T]) list() []T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.AppendSeq(make([]T, 0, len(t.items)), maps.Values(t.items))
}

// picked returns the objects that are picked, in no order.
func (t *table[T]) picked() []T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.AppendSeq(make([]T, 0, len(t.picks)), maps.Values(t.picks))
}

// store puts an object in. The lock is held.
func (t *table[T]) store(o T) {
	t.items[keyOf(o)] = o
	if t.pick != nil && t.pick(o) {
		t.picks[keyOf(o)] = o
	} else {
		delete(t.picks, keyOf(o))
	}
}

// drain returns, since it was called last, what came or changed and the names of what went; or all there is with whole set, as at first and
// after a list.
func (t *table[T]) drain() (came []T, gone []config.Key, whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if whole = !t.steps; whole {
		t.steps = true
		return slices.AppendSeq(make([]T, 0, len(t.items)), maps.Values(t.items)), nil, true
	}
	for key := range t.touched {
		if o, ok := t.items[key]; ok {
			came = append(came, o)
		} else {
			gone = append(gone, key)
		}
	}
	t.touched = make(map[config.Key]struct{}) // one that was large once stays large
	return came, gone, false
}

// touch notes that an object was put in or taken out. The lock is held.
func (t *table[T]) touch(key config.Key) {
	if t.steps {
		t.touched[key] = struct{}{}
	}
}

func (t *table[T]) get(key config.Key) (T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	o, ok := t.items[key]
	return o, ok
}

// hasSynced reports whether all of the resource is known, as of now or, from the disk, of the last run.
func (t *table[T]) hasSynced() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.synced || t.restored
}

// put takes in the API server's answer to a write, unless the watch has brought something newer or the object has gone meanwhile.
func (t *table[T]) put(o T) {
	t.trim(o)
	t.mu.Lock()
	old, ok := t.items[keyOf(o)]
	fresh := ok && old.GetUID() == o.GetUID() && older(old, o)
	if fresh {
		t.store(o)
		t.touch(keyOf(o))
	}
	t.mu.Unlock()
	if fresh {
		t.tell(!t.same(old, o))
	}
}

// tell passes on that an object was kept.
func (t *table[T]) tell(differs bool) {
	switch {
	case differs:
		t.changed()
	case t.newer != nil:
		t.newer()
	}
}

// set takes in a watch event. An event from before our last write of the object, or our deletion, is passed over.
func (t *table[T]) set(o T) {
	t.trim(o)
	t.mu.Lock()
	old, ok := t.items[keyOf(o)]
	successor := ok && old.GetUID() != o.GetUID()
	if ok && !successor && older(o, old) || t.late(o) {
		t.mu.Unlock()
		return
	}
	t.store(o)
	t.touch(keyOf(o))
	t.mu.Unlock()
	if successor && t.gone != nil {
		t.gone(old)
	}
	t.tell(!ok || successor || !t.same(old, o))
}

// late reports whether an object is one that we have deleted, from before that. The lock is held.
func (t *table[T]) late(o T) bool {
	was, ok := t.deleted[keyOf(o)]
	return ok && was.GetUID() == o.GetUID() && !older(was, o)
}

// older reports whether a is an earlier version than b. Versions that cannot be compared are not older.
func older(a, b metav1.Object) bool {
	c, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && c < 0
}

// Add implements cache.ReflectorStore.
func (t *table[T]) Add(o any) error { return t.Update(o) }

// Update implements cache.ReflectorStore.
func (t *table[T]) Update(o any) error {
	obj, ok := o.(T)
	if !ok {
		return fmt.Errorf("watch sent a %T, expected a %T", o, obj)
	}
	t.set(obj)
	return nil
}

// Delete implements cache.ReflectorStore.
func (t *table[T]) Delete(o any) error {
	obj, ok := o.(T)
	if !ok {
		return fmt.Errorf("watch sent a %T, expected a %T", o, obj)
	}
	t.mu.Lock()
	if was, ok := t.deleted[keyOf(obj)]; ok && was.GetUID() == obj.GetUID() {
		delete(t.deleted, keyOf(obj))
	}
	t.mu.Unlock()
	t.drop(obj, false)
	return nil
}

// drop takes an object out, unless it is another one of that name by now. With ours set it is we who have deleted it, in the version given:
// what the watch has yet to say of it then does not bring it back.
func (t *table[T]) drop(obj T, ours bool) {
	t.mu.Lock()
	old, ok := t.items[keyOf(obj)]
	if ok = ok && old.GetUID() == obj.GetUID(); ok {
		delete(t.items, keyOf(obj))
		delete(t.picks, keyOf(obj))
		t.touch(keyOf(obj))
		if ours {
			t.deleted[keyOf(obj)] = obj
		}
	}
	t.mu.Unlock()
	if !ok {
		return
	}
	if t.gone != nil {
		t.gone(old)
	}
	t.changed()
}

// Replace implements cache.ReflectorStore: the result of a list is the truth, also where it is older than what is known (an API server that
// was restored from a backup counts its versions from there).
func (t *table[T]) Replace(objs []any, _ string) error {
	next := make(map[config.Key]T, len(objs))
	for _, o := range objs {
		obj, ok := o.(T)
		if !ok {
			return fmt.Errorf("list contains a %T, expected a %T", o, obj)
		}
		t.trim(obj)
		next[keyOf(obj)] = obj
	}
	differs, lost := t.replace(next)
	if t.gone != nil {
		for _, old := range lost {
			t.gone(old)
		}
	}
	t.tell(differs)
	return nil
}

// replace puts other items in the place of all. It reports whether something that is read differs, or this is the first list, and which
// objects are gone. The comparison needs the lock too: an answer to a write may come meanwhile, and goes into next.
func (t *table[T]) replace(next map[config.Key]T) (differs bool, lost []T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	prev := t.items
	differs = !t.synced
	t.items, t.synced, t.steps = next, true, false
	t.touched, t.deleted = make(map[config.Key]struct{}), make(map[config.Key]T)
	clear(t.picks)
	for key, o := range next {
		t.store(o)
		old, ok := prev[key]
		differs = differs || !ok || old.GetUID() != o.GetUID() || !t.same(old, o)
	}
	for key, old := range prev {
		if o, ok := next[key]; !ok || o.GetUID() != old.GetUID() {
			differs, lost = true, append(lost, old)
		}
	}
	return differs, lost
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (t *table[T]) Resync() error { return nil }

// Transformer implements cache.TransformingStore: the reflector holds a long list trimmed too.
func (t *table[T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		if obj, ok := o.(T); ok {
			t.trim(obj)
		}
		return o, nil
	}
}
