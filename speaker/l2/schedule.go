package l2

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// bursts is how many announcements a takeover asks for.
const bursts = 5

// burst is the pauses between the announcements of a takeover: at once, and again after 50 ms, 200 ms, 1 s and 2 s. The first ones make
// up for a lost frame while clients wait; the later ones reach those whose port forwards only after a moment (a link that has just come
// up, a switch that learns its tree anew).
func burst() [bursts - 1]time.Duration {
	return [...]time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 800 * time.Millisecond, time.Second}
}

// Probing (RFC 5227 section 2.1.1, RFC 4862 section 5.4) takes seconds where a host comes up and nobody waits for it. For a new Service
// somebody may, so there are two probes and a short wait for the answer, which a host on a segment gives within a millisecond or two. A
// user that answers later is heard all the same, and defended against.
func probing() [2]time.Duration {
	return [...]time.Duration{7 * time.Millisecond, 8 * time.Millisecond}
}

// How long after a probe that found a user, or another station that was looking too, the next follows.
const (
	lookAgain  = 10 * time.Second
	lookSooner = time.Second
)

// schedule says which addresses have something to be done when: the soonest first. The zero value is empty. It knows no clock: the time is
// handed in.
type schedule struct{ queue queue }

// turn is the place of an address in the schedule.
type turn struct {
	at    time.Time
	step  int // how much of the burst or of the probing is done
	place int // in the queue, from 1; 0: it is not there
}

// begin has the address be due at the given time, with nothing done yet.
func (s *schedule) begin(a *address, at time.Time) {
	a.turn.step = 0
	s.put(a, at)
}

// put has the address be due at the given time.
func (s *schedule) put(a *address, at time.Time) {
	a.turn.at = at
	if a.turn.place > 0 {
		heap.Fix(&s.queue, a.turn.place-1)
		return
	}
	heap.Push(&s.queue, a)
}

// drop takes the address out.
func (s *schedule) drop(a *address) {
	if a.turn.place > 0 {
		heap.Remove(&s.queue, a.turn.place-1)
	}
}

// due takes out at most limit addresses whose time has come, the longest due first.
func (s *schedule) due(now time.Time, limit int) []*address {
	var out []*address
	for len(out) < limit && len(s.queue) > 0 && !s.queue[0].turn.at.After(now) {
		out = append(out, heap.Pop(&s.queue).(*address))
	}
	return out
}

// next returns when the next address is due.
func (s *schedule) next() (time.Time, bool) {
	if len(s.queue) == 0 {
		return time.Time{}, false
	}
	return s.queue[0].turn.at, true
}

// pause returns how long to wait after the announcement of the given step; false: there is none after it. Periodic announcements are
// stretched or cut by up to a tenth, so that addresses that came together do not stay together, and the first of them comes anywhere
// within the period, so that they part at once.
func pause(step int, refresh time.Duration) (time.Duration, bool) {
	switch {
	case step < bursts-1:
		return burst()[step], true
	case refresh <= 0:
		return 0, false
	case step == bursts-1:
		return rand.N(refresh), true
	default:
		return refresh - refresh/10 + rand.N(refresh/5+1), true
	}
}

// queue is a heap of addresses, the soonest first; equal times by address, so that the order is always the same.
type queue []*address

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if c := q[i].turn.at.Compare(q[j].turn.at); c != 0 {
		return c < 0
	}
	return q[i].addr.Less(q[j].addr)
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].turn.place, q[j].turn.place = i+1, j+1
}

func (q *queue) Push(x any) {
	a := x.(*address)
	a.turn.place = len(*q) + 1
	*q = append(*q, a)
}

func (q *queue) Pop() any {
	old := *q
	a := old[len(old)-1]
	a.turn.place = 0
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return a
}
