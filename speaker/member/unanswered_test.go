package member

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestUnanswered(t *testing.T) {
	var overdue, back []netip.AddrPort
	u := newUnanswered(
		func(a netip.AddrPort) { overdue = append(overdue, a) },
		func(a netip.AddrPort) { back = append(back, a) },
	)
	now := time.Unix(1000, 0)
	after := func(wait time.Duration, due, returned int) {
		t.Helper()
		now = now.Add(wait)
		u.look(now)
		if len(overdue) != due || len(back) != returned {
			t.Fatalf("overdue %v, back %v; want %d and %d", overdue, back, due, returned)
		}
	}
	u.sent(port(1), now) // before there is a transport
	u.begin()
	u.heard(port(1)) // of whom nothing is expected
	u.sent(port(1), now)
	u.sent(port(2), now)
	after(answerDue/2, 0, 0)
	u.heard(port(1))
	u.sent(port(1), now)
	u.sent(port(2), now) // the first packet counts
	after(answerDue/2, 1, 0)
	after(answerDue/2, 2, 0)
	if !slices.Equal(overdue, []netip.AddrPort{port(2), port(1)}) {
		t.Errorf("overdue: %v", overdue)
	}
	after(time.Hour, 2, 0) // said once

	u.sent(port(3), now)
	u.heard(port(3))
	after(time.Hour, 2, 0)

	u.giveUp(port(2))
	u.heard(port(2))
	u.heard(port(2))
	after(0, 2, 1)

	u.sent(port(4), now)
	u.stop()
	u.sent(port(5), now)
	after(time.Hour, 2, 1)
	u.begin() // with the next transport
	u.sent(port(5), now)
	after(answerDue, 3, 1)
}

// unheeded is for a transport in whose packets nobody is interested.
func unheeded() *unanswered { return newUnanswered(func(netip.AddrPort) {}, func(netip.AddrPort) {}) }
