package inspect

import (
	"context"
	"io/fs"
	"os"
	"reflect"
	"sync/atomic"
	"time"
)

// every is how often a Watcher looks. What it looks at changes when an operator changes it.
const every = 30 * time.Second

// Watcher looks at the node again and again, and publishes what it sees. Make it with New, run it with Run.
type Watcher struct {
	look    func() *Node
	latest  atomic.Pointer[Node]
	changed chan struct{}
}

// New returns a Watcher of the network namespace that this process runs in. It looks at nothing until Run.
func New() *Watcher { return newWatcher(os.DirFS("/proc"), askListening, readKernel) }

func newWatcher(proc fs.FS, listening func(port uint16) (bool, error), kernel func(*Node)) *Watcher {
	return &Watcher{changed: make(chan struct{}, 1), look: func() *Node {
		n := readProc(proc, listening)
		kernel(n)
		return n
	}}
}

// Node returns what was seen last; nil before the first look. It must not be changed.
func (w *Watcher) Node() *Node { return w.latest.Load() }

// Changed tells that Node has something new.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Run looks at once and then every half minute, until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if n := w.look(); !reflect.DeepEqual(n, w.latest.Load()) {
			w.latest.Store(n)
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
