package decide

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

// answering returns how many members answer for each address.
func answering(f Facts) map[netip.Addr]int {
	out := map[netip.Addr]int{}
	for _, m := range f.Members {
		f.Node = m.Node
		for _, l := range Decide(f).L2 {
			out[l.Addr]++
		}
	}
	return out
}

// rest has all members claim what they decide on, until nothing changes.
func rest(t *testing.T, f Facts) Facts {
	t.Helper()
	for range 10 {
		next := settle(f)
		if cmp.Equal(f.Members, next.Members, values) {
			return f
		}
		f = next
	}
	t.Fatal("claims do not come to rest")
	return f
}

// ask returns facts in which each Service asks that its first address moves from its owner to another node that may have it, and where
// each is to end up.
func ask(t *testing.T, r scenario, f Facts) (Facts, map[netip.Addr]string) {
	t.Helper()
	want := owners(t, f)
	x := NewExplainer(f)
	c := *f.Config
	f.Config, c.Services = &c, slices.Clone(c.Services)
	asked := map[netip.Addr]bool{}
	for i, svc := range c.Services {
		next := *svc
		next.Move, c.Services[i] = config.Move{}, &next
		for _, e := range x.Service(svc.Key) {
			from := want[e.Addr]
			var able []string
			for _, m := range f.Members {
				if e.Protocol == L2 && m.Node != from && x.Gets(e, m.Node) {
					able = append(able, m.Node)
				}
			}
			if from == "" || !e.Claimed || len(able) == 0 || len(svc.Ingress) != 1 || asked[e.Addr] {
				continue
			}
			if i := slices.IndexFunc(f.Members, func(m Member) bool { return m.Node == from }); f.Members[i].State != Up {
				continue // one that restarts hands nothing over
			}
			asked[e.Addr] = true
			next.Move = config.Move{From: from, To: able[r.IntN(len(able))], Until: f.Now.Add(time.Minute)}
			want[e.Addr] = next.Move.To
			break
		}
	}
	return f, want
}

// TestMovesAreCarriedOutOnce asks for moves, and looks that at every step somebody answers, that each address ends up where it is asked to
// be, and that the same annotation moves nothing a second time.
func TestMovesAreCarriedOutOnce(t *testing.T) {
	moves := 0
	for seed := range uint64(150) {
		r := newScenario(seed)
		f := r.facts()
		f.Since, f.Now, f.Heard = nil, f.Now.Add(time.Hour), nil
		f = rest(t, f)
		before := answering(f)
		f, want := ask(t, r, f)
		for range 4 {
			now := answering(f)
			for a := range before {
				if now[a] == 0 {
					t.Errorf("seed %d: nobody answers for %s", seed, a)
				}
			}
			f = settle(f)
		}
		f = rest(t, f)
		if diff := cmp.Diff(want, owners(t, f), values); diff != "" {
			t.Errorf("seed %d: owners (-asked +decided):\n%s", seed, diff)
		}
		for _, svc := range f.Config.Services {
			if svc.Move != (config.Move{}) {
				moves++
			}
		}
	}
	if moves < 100 {
		t.Errorf("the scenarios asked for only %d moves: they test too little", moves)
	}
}
