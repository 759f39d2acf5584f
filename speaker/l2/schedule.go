package l2

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"
)

// refresh is how often an address is announced while nothing happens, so that switches do not forget where it is. Each time it is
// stretched or cut by up to a tenth, so that addresses taken together do not stay together.
const refresh = time.Minute

// burst is the pauses between the announcements of a takeover: at once, and again after 50 ms, 200 ms, 1 s and 2 s. The first ones make
// up for a lost frame while clients wait; the later ones reach those whose port forwards only after a moment (a link that has just come
// up, a switch that learns its tree anew).
func burst() [4]time.Duration {
	return [...]time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 800 * time.Millisecond, time.Second}
}

// schedule says which addresses are to be announced when. The zero value is empty. It knows no clock: the time is handed in.
type schedule struct {
	queue  queue
	byAddr map[netip.Addr]*item
}

// item is the next announcement of an address.
type item struct {
	addr  netip.Addr
	at    time.Time
	step  int // how many announcements of the burst have been made
	index int // in the queue
}

// begin has a burst begin at now.
func (s *schedule) begin(a netip.Addr, now time.Time) {
	if s.byAddr == nil {
		s.byAddr = map[netip.Addr]*item{}
	}
	if it := s.byAddr[a]; it != nil {
		it.at, it.step = now, 0
		heap.Fix(&s.queue, it.index)
		return
	}
	it := &item{addr: a, at: now}
	s.byAddr[a] = it
	heap.Push(&s.queue, it)
}

// drop forgets the address.
func (s *schedule) drop(a netip.Addr) {
	if it := s.byAddr[a]; it != nil {
		heap.Remove(&s.queue, it.index)
		delete(s.byAddr, a)
	}
}

// due returns at most limit addresses whose time has come, the longest due first, and schedules their next announcement.
func (s *schedule) due(now time.Time, limit int) []netip.Addr {
	var out []netip.Addr
	for len(out) < limit && len(s.queue) > 0 && !s.queue[0].at.After(now) {
		it := s.queue[0]
		out = append(out, it.addr)
		it.at = now.Add(pause(it.step))
		it.step++
		heap.Fix(&s.queue, 0)
	}
	return out
}

// pause returns how long to wait after the announcement of the given step.
func pause(step int) time.Duration {
	if b := burst(); step < len(b) {
		return b[step]
	}
	return refresh - refresh/10 + rand.N(refresh/5)
}

// next returns when the next address is due.
func (s *schedule) next() (time.Time, bool) {
	if len(s.queue) == 0 {
		return time.Time{}, false
	}
	return s.queue[0].at, true
}

// queue is a heap of items, the soonest first; equal times by address, so that the order is always the same.
type queue []*item

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].addr.Less(q[j].addr)
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	it := x.(*item)
	it.index = len(*q)
	*q = append(*q, it)
}

func (q *queue) Pop() any {
	old := *q
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return it
}
