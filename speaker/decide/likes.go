package decide

import (
	"slices"
	"time"

	"github.com/heraldlb/herald/config"
)

// likes is what advertisements wish beyond who may answer at all: which members rather than others, whether an address goes back to its
// first choice, and how often it is announced again. Where several advertisements cover an address, a member counts with the highest
// weight that one of them gives it, the shortest failbackDelay counts, and so does the shortest refreshInterval that is not 0.
type likes struct {
	weights  []int32 // by member; nil: none is preferred
	goesBack bool
	failback time.Duration
	refresh  time.Duration
}

// likesOf returns what a set of L2 advertisements wishes.
func (b *board) likesOf(adverts []int32) *likes {
	l := &likes{}
	for _, id := range adverts {
		adv := b.l2[id]
		if adv.FailbackDelay != nil && (!l.goesBack || *adv.FailbackDelay < l.failback) {
			l.goesBack, l.failback = true, *adv.FailbackDelay
		}
		l.refresh = shorter(l.refresh, adv.RefreshInterval)
		if len(adv.Preferred) > 0 {
			b.weigh(l, adv)
		}
	}
	return l
}

// weigh takes an advertisement's preferences in. Of those that select a member the weights add up.
func (b *board) weigh(l *likes, adv *config.L2Advertisement) {
	if l.weights == nil {
		l.weights = make([]int32, len(b.members))
	}
	for i := range b.members {
		node := b.members[i].Node
		if !adv.Nodes.Has(node) {
			continue
		}
		var sum int32
		for _, p := range adv.Preferred {
			if p.Nodes.Has(node) {
				sum += int32(p.Weight)
			}
		}
		l.weights[i] = max(l.weights[i], sum)
	}
}

// join returns what both wish together, for an address that several Services share.
func (l *likes) join(o *likes) *likes {
	if l == nil || l == o {
		return o
	}
	out := *l
	if o.goesBack && (!out.goesBack || o.failback < out.failback) {
		out.goesBack, out.failback = true, o.failback
	}
	out.refresh = shorter(out.refresh, o.refresh)
	if out.weights == nil {
		out.weights = o.weights
		return &out
	}
	out.weights = slices.Clone(out.weights)
	for i, w := range o.weights {
		out.weights[i] = max(out.weights[i], w)
	}
	return &out
}

// weight returns how welcome a member is.
func (l *likes) weight(m int32) int32 {
	if l == nil || l.weights == nil {
		return 0
	}
	return l.weights[m]
}

// shorter returns the shorter of two intervals, of which 0 means never.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
