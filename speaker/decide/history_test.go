package decide

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

// TestDeciderIsDecide changes facts little by little, at random: at each step a Decider that remembers comes to what Decide comes to.
func TestDeciderIsDecide(t *testing.T) {
	histories, steps := 120, 100
	kinds := map[string]int{}
	for seed := range uint64(histories) {
		r := newScenario(seed + 5000)
		f := r.facts()
		f.Node = fmt.Sprintf("node-%d", r.IntN(4))
		d := NewDecider()
		for step := range steps {
			got, want := d.Decide(f), Decide(f)
			if got, want := whole(got), whole(want); !reflect.DeepEqual(got, want) {
				t.Fatalf("history %d, step %d (-all at once +step by step):\n%s", seed, step, cmp.Diff(want, got, values))
			}
			checkBooks(t, d)
			for range 1 + r.IntN(3) {
				kinds[r.change(&f, got)]++
			}
		}
	}
	for _, kind := range []string{"nothing", "services", "selection", "claims", "decided", "member", "node", "wire", "time"} {
		if kinds[kind] < 100 {
			t.Errorf("only %d changes of the kind %q", kinds[kind], kind)
		}
	}
}

// whole returns a decision with its pages put together: where they are cut depends on how it was come to.
func whole(d Desired) Desired {
	if len(d.Routes) > 0 {
		d.Routes = [][]Route{slices.Concat(d.Routes...)}
	}
	if len(d.Verdicts) > 0 {
		d.Verdicts = [][]Verdict{slices.Concat(d.Verdicts...)}
	}
	return d
}

// checkBooks fails the test unless what a Decider remembers between steps adds up, and nothing is remembered for ever.
func checkBooks(t *testing.T, d *Decider) {
	t.Helper()
	loads := make([]int, len(d.members))
	uses := 0
	for a, v := range d.places {
		if a != v.addr || len(v.uses)+len(v.claimants) == 0 || v.dirty || v.stale || v.usesNew {
			t.Fatalf("%s is kept for nothing: %+v", a, v)
		}
		uses += len(v.uses)
		switch {
		case len(v.uses) == 0:
			for _, c := range v.claimants {
				loads[c.member]++
			}
		case v.resolved || v.named:
			loads[v.owner]++
		}
	}
	held := 0
	for h := range d.holdings.all() {
		held += len(h.uses)
	}
	if uses != held || !slices.Equal(loads, d.loads) {
		t.Fatalf("%d uses by address, %d by Service; loads %v, want %v", uses, held, d.loads, loads)
	}
}

// change makes one change to the facts, without touching what they held before, and says of what kind. was is what was decided before.
func (r scenario) change(f *Facts, was Desired) string {
	c := *f.Config
	f.Config = &c
	f.Members = slices.Clone(f.Members)
	switch r.IntN(20) {
	case 0:
		return "nothing"
	case 1, 2, 3, 4:
		r.changeServices(&c)
		return "services"
	case 5, 6:
		r.changeSelection(&c)
		return "selection"
	case 7, 8, 9:
		if len(f.Members) > 0 {
			r.changeClaims(f)
		}
		return "claims"
	case 10, 11, 12:
		for i := range f.Members { // this node's claims reach the others
			if f.Members[i].Node == f.Node {
				f.Members[i].Claims = was.Claims
			}
		}
		return "decided"
	case 13, 14:
		r.changeMembers(f)
		return "member"
	case 15:
		if len(c.Nodes) > 0 {
			c.Nodes = slices.Clone(c.Nodes)
			i := r.IntN(len(c.Nodes))
			c.Nodes[i] = r.node(c.Nodes[i].Name)
		}
		return "node"
	case 16, 17:
		r.changeWire(f)
		return "wire"
	}
	f.Now = f.Now.Add(time.Duration(r.IntN(30)) * time.Second)
	return "time"
}

func (r scenario) changeServices(c *config.Snapshot) {
	c.Services = slices.Clone(c.Services)
	switch n := len(c.Services); {
	case n > 0 && r.chance(60):
		i := r.IntN(n)
		s := r.service(0, 8)
		s.Key = c.Services[i].Key
		c.Services[i] = s
	case n > 0 && r.chance(50):
		i := r.IntN(n)
		c.Services = slices.Delete(c.Services, i, i+1)
	default:
		s := r.service(r.IntN(60), 8)
		i, found := slices.BinarySearchFunc(c.Services, s, func(a, b *config.Service) int { return a.Key.Compare(b.Key) })
		if !found {
			c.Services = slices.Insert(c.Services, i, s)
		}
	}
}

func (r scenario) changeSelection(c *config.Snapshot) {
	if n := len(c.L2Advertisements); n > 0 {
		c.L2Advertisements = slices.Clone(c.L2Advertisements)
		i := r.IntN(n)
		adv := *c.L2Advertisements[i]
		adv.Services = r.services()
		c.L2Advertisements[i] = &adv
	}
	if n := len(c.BGPAdvertisements); n > 0 {
		c.BGPAdvertisements = slices.Clone(c.BGPAdvertisements)
		i := r.IntN(n)
		adv := *c.BGPAdvertisements[i]
		adv.Services = r.services()
		c.BGPAdvertisements[i] = &adv
	}
}

func (r scenario) changeClaims(f *Facts) {
	m := &f.Members[r.IntN(len(f.Members))]
	claims := maps.Clone(m.Claims)
	for range 1 + r.IntN(4) {
		if a := r.addr(); r.chance(50) {
			delete(claims, a)
		} else {
			claims[a] = r.claim()
		}
	}
	if r.chance(30) {
		claims = maps.Clone(claims) // the same in another map
	}
	m.Claims = claims
	f.Claims = maps.Clone(f.Claims)
	f.Claims[r.addr()] = uint64(r.IntN(9))
}

func (r scenario) changeMembers(f *Facts) {
	i := r.IntN(9)
	name := fmt.Sprintf("node-%d", i)
	at, found := slices.BinarySearchFunc(f.Members, name, func(m Member, n string) int { return strings.Compare(m.Node, n) })
	switch {
	case !found:
		f.Members = slices.Insert(f.Members, at, r.member(name, i))
	case r.chance(40):
		f.Members = slices.Delete(f.Members, at, at+1)
	default:
		m := r.member(name, i)
		m.Claims = f.Members[at].Claims
		f.Members[at] = m
	}
	f.Expected = len(f.Members) + r.IntN(3)
}

func (r scenario) changeWire(f *Facts) {
	heard, insists := map[netip.Addr]string{}, map[netip.Addr]bool{}
	maps.Copy(heard, f.Heard)
	maps.Copy(insists, f.Insists)
	a := r.addr()
	delete(heard, a)
	delete(insists, a)
	if r.chance(70) {
		heard[a] = fmt.Sprintf("node-%d", r.IntN(12))
		if r.chance(50) {
			insists[a] = true
		}
	}
	f.Heard, f.Insists = heard, insists
}
