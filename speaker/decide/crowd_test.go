package decide

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

// crowd makes facts with so many Services that they fill several pages.
func (r scenario) crowd(services int) Facts {
	f := r.facts()
	c := f.Config
	for len(c.Peers) == 0 || len(c.L2Advertisements) == 0 {
		f = r.facts()
		c = f.Config
	}
	c.Pools = append(c.Pools, &config.Pool{Name: "pool-1", Ranges: []config.Range{{
		From: netip.MustParseAddr("198.51.100.0"), To: netip.MustParseAddr("198.51.103.255"),
	}}})
	for i := range services {
		c.Services = append(c.Services, r.crowded(i))
	}
	slices.SortFunc(c.Services, byKey)
	return f
}

// crowded is a Service of a crowd.
func (r scenario) crowded(i int) *config.Service {
	s := r.service(i, 8)
	s.Name = fmt.Sprintf("t%04d", i)
	s.Ingress = []netip.Addr{netip.AddrFrom4([4]byte{198, 51, byte(100 + r.IntN(4)), byte(r.IntN(256))})}
	return s
}

// changeCrowd changes, adds and takes away Services, a few or many at once.
func (r scenario) changeCrowd(c *config.Snapshot) {
	c.Services = slices.Clone(c.Services)
	for range 1 + r.IntN(3)*r.IntN(30) {
		s := r.crowded(r.IntN(900))
		i, found := slices.BinarySearchFunc(c.Services, s, byKey)
		switch {
		case !found:
			c.Services = slices.Insert(c.Services, i, s)
		case r.chance(50):
			c.Services[i] = s
		default:
			c.Services = slices.Delete(c.Services, i, i+1)
		}
	}
}

// TestDeciderOfMany is TestDeciderIsDecide with more Services than a page holds. What was decided before stays as it was, and pages of which
// nothing changed are those of before.
func TestDeciderOfMany(t *testing.T) {
	kept, made, routes := 0, 0, 0
	for seed := range uint64(8) {
		r := newScenario(seed + 9000)
		f := r.crowd(450)
		f.Node = fmt.Sprintf("node-%d", r.IntN(3))
		d := NewDecider()
		var last, lastCopy Desired
		for step := range 40 {
			got, want := d.Decide(f), Decide(f)
			if got, want := whole(got), whole(want); !reflect.DeepEqual(got, want) {
				t.Fatalf("history %d, step %d (-all at once +step by step):\n%s", seed, step, cmp.Diff(want, got, values))
			}
			if !reflect.DeepEqual(last, lastCopy) {
				t.Fatalf("history %d, step %d changed what was decided before", seed, step)
			}
			kept += same(last.Verdicts, got.Verdicts) + same(last.Routes, got.Routes)
			made, routes = made+len(got.Verdicts)+len(got.Routes), routes+len(got.Routes)
			last, lastCopy = got, copied(got)
			checkBooks(t, d)
			if r.chance(80) {
				c := *f.Config
				r.changeCrowd(&c)
				f.Config = &c
			} else {
				r.change(&f, got)
			}
		}
	}
	if kept < made/5 || routes < 250 {
		t.Errorf("of %d pages, %d of routes, %d stayed: this tests too little", made, routes, kept)
	}
}

// same counts the pages that are in both lists.
func same[T any](was, is [][]T) int {
	n := 0
	for _, p := range is {
		if slices.ContainsFunc(was, func(o []T) bool { return &o[0] == &p[0] }) {
			n++
		}
	}
	return n
}

// copied copies what a Decider might change.
func copied(d Desired) Desired {
	d.Routes, d.Verdicts = copiedPages(d.Routes), copiedPages(d.Verdicts)
	d.L2, d.Claims = slices.Clone(d.L2), maps.Clone(d.Claims)
	return d
}

func copiedPages[T any](pages [][]T) [][]T {
	out := slices.Clone(pages)
	for i := range out {
		out[i] = slices.Clone(out[i])
	}
	return out
}
