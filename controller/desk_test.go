package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/config"
)

// bench is a desk in a test, with a record of what was done.
type bench struct {
	*desk
	mu   sync.Mutex
	done []string
}

func startBench(t *testing.T, all, low int) *bench {
	b := &bench{desk: newDesk(all, low, slog.New(slog.DiscardHandler))}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { b.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

// task takes a time and is recorded when it ends.
func (b *bench) task(name string, took time.Duration, err error) *task {
	return &task{key(name), func(context.Context) error {
		time.Sleep(took)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.done = append(b.done, name)
		return err
	}}
}

func (b *bench) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.done, " ")
}

func TestDeskPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, 2, 1)
		var low, high []*task
		for i := range 3 {
			low = append(low, b.task(fmt.Sprint("low", i), 10*time.Millisecond, nil))
			high = append(high, b.task(fmt.Sprint("high", i), 10*time.Millisecond, nil))
		}
		b.set(announcing, low)
		time.Sleep(time.Millisecond) // low0 is under way, and one slot is kept free of the others
		b.set(assigning, high)
		time.Sleep(time.Second)
		if got, want := b.text(), "low0 high0 high1 high2 low1 low2"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// TestDeskOneKey checks that both writes to one Service are done, one after the other, and that the last task of several counts.
func TestDeskOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, 9, 9)
		under := 0
		one := func(name string) *task {
			return &task{key("s"), func(context.Context) error {
				b.mu.Lock()
				under++
				if under > 1 {
					t.Error("two at once")
				}
				b.mu.Unlock()
				time.Sleep(10 * time.Millisecond)
				b.mu.Lock()
				under--
				b.done = append(b.done, name)
				b.mu.Unlock()
				return nil
			}}
		}
		b.set(announcing, []*task{one("announce")})
		time.Sleep(time.Millisecond)
		b.set(assigning, []*task{one("assign1")})
		b.set(assigning, []*task{one("assign2")})
		time.Sleep(time.Second)
		if got, want := b.text(), "announce assign2"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		b.set(assigning, []*task{one("assign3")})
		time.Sleep(time.Millisecond)
		b.set(assigning, []*task{one("assign4")}) // while assign3 is under way
		time.Sleep(time.Second)
		if got, want := b.text(), "announce assign2 assign3 assign4"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestDeskDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, 1, 1)
		b.set(assigning, []*task{b.task("a", 10*time.Millisecond, nil), b.task("b", 0, nil), b.task("c", 0, errors.New("no"))})
		time.Sleep(time.Millisecond)
		b.set(assigning, []*task{b.task("c", 0, errors.New("no"))}) // a is under way; b is no longer due
		time.Sleep(100 * time.Millisecond)
		b.set(assigning, nil) // c waits to be tried again
		time.Sleep(time.Minute)
		if got, want := b.text(), "a c"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		b.desk.mu.Lock()
		defer b.desk.mu.Unlock()
		jobs := 0
		for _, of := range b.jobs {
			jobs += len(of)
		}
		if jobs != 0 || b.failing != 0 || len(b.delayed) != 0 {
			t.Errorf("left over: %d jobs, %d failing, %d delayed", jobs, b.failing, len(b.delayed))
		}
	})
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 9: 25600 * time.Millisecond, 10: failureMax, 1000: failureMax} {
		if got := backoff(failureRetry, failureMax, n); got < want || got > want+want/5 {
			t.Errorf("%d failures: %v, want %v", n, got, want)
		}
	}
}

// TestDeskUpdate checks that only what is said to have changed changes.
func TestDeskUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t, 1, 1)
		b.update([]*task{b.task("a", 10*time.Millisecond, nil), b.task("b", 0, nil), b.task("c", 0, nil)}, nil)
		time.Sleep(time.Millisecond)
		b.update([]*task{b.task("d", 0, nil)}, []config.Key{key("b"), key("unknown")})
		b.set(keeping, []*task{b.task("a", 0, nil)})
		b.set(announcing, []*task{b.task("a", 0, nil)})
		time.Sleep(time.Second)
		if got, want := b.text(), "a c d a a"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
