package member

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var overdue, back []netip.AddrPort
		note := func(to *[]netip.AddrPort) func(netip.AddrPort) {
			return func(a netip.AddrPort) {
				mu.Lock()
				defer mu.Unlock()
				*to = append(*to, a)
			}
		}
		u := newUnanswered(note(&overdue), note(&back))
		after := func(wait time.Duration, due, returned int) {
			t.Helper()
			<-time.After(wait)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if len(overdue) != due || len(back) != returned {
				t.Fatalf("overdue %v, back %v; want %d and %d", overdue, back, due, returned)
			}
		}
		u.sent(port(1), time.Now()) // before there is a transport
		u.begin()
		u.heard(port(1)) // of whom nothing is expected
		u.sent(port(1), time.Now())
		u.sent(port(2), time.Now())
		after(answerDue/2, 0, 0)
		u.heard(port(1))
		u.sent(port(1), time.Now())
		u.sent(port(2), time.Now()) // the first packet counts
		after(answerDue/2, 1, 0)
		after(answerDue/2, 2, 0)
		if !slices.Equal(overdue, []netip.AddrPort{port(2), port(1)}) {
			t.Errorf("overdue: %v", overdue)
		}
		after(time.Hour, 2, 0) // said once

		u.sent(port(3), time.Now())
		u.heard(port(3))
		after(time.Hour, 2, 0)

		u.giveUp(port(2))
		u.heard(port(2))
		u.heard(port(2))
		after(0, 2, 1)

		u.sent(port(4), time.Now())
		u.stop()
		u.sent(port(5), time.Now())
		after(time.Hour, 2, 1)
		u.begin() // with the next transport
		u.sent(port(5), time.Now())
		after(answerDue, 3, 1)
	})
}

// unheeded is for a transport in whose packets nobody is interested.
func unheeded() *unanswered { return newUnanswered(func(netip.AddrPort) {}, func(netip.AddrPort) {}) }
