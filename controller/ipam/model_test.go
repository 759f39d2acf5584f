package ipam

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
)

// model is the specification of a plan without memory, written to be obvious and not to be fast: it looks at every address of every
// pool. It returns what each Service should hold.
func model(in *config.Snapshot) map[config.Key][]netip.Addr {
	services := slices.Clone(in.Services)
	slices.SortFunc(services, func(a, b *config.Service) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Key.Compare(b.Key))
	})
	m := modelState{in: in, holds: map[config.Key][]netip.Addr{}, owner: map[netip.Addr]config.Key{}}
	for _, s := range services {
		for _, a := range s.Ingress {
			if s.Deleting || m.mayKeep(s, a) {
				m.give(s, a)
			}
		}
	}
	for _, s := range services { // not free before the status no longer shows them
		for _, a := range s.Ingress {
			if _, taken := m.owner[a]; !taken {
				m.owner[a] = s.Key
			}
		}
	}
	for _, named := range []bool{true, false} {
		for _, s := range services {
			if named == (len(s.Request.Addresses) > 0) && !s.Deleting && s.Request.Invalid == "" {
				m.complete(s)
			}
		}
	}
	return m.holds
}

type modelState struct {
	in    *config.Snapshot
	holds map[config.Key][]netip.Addr
	owner map[netip.Addr]config.Key
}

func (m *modelState) give(s *config.Service, a netip.Addr) {
	m.holds[s.Key] = append(m.holds[s.Key], a)
	m.owner[a] = s.Key
}

func (m *modelState) has(s *config.Service, f config.Family) bool {
	return slices.ContainsFunc(m.holds[s.Key], func(a netip.Addr) bool { return config.FamilyOf(a) == f })
}

func (m *modelState) mayKeep(s *config.Service, a netip.Addr) bool {
	f := config.FamilyOf(a)
	_, taken := m.owner[a]
	return s.Request.Invalid == "" && requestFits(s) && slices.Contains(s.Families, f) && !m.has(s, f) && !taken && m.admits(s, a)
}

// admits reports whether the request of the Service and some pool allow the address.
func (m *modelState) admits(s *config.Service, a netip.Addr) bool {
	for _, want := range s.Request.Addresses {
		if config.FamilyOf(want) == config.FamilyOf(a) && want != a {
			return false
		}
	}
	for _, p := range m.in.Pools {
		if p.Contains(a) && (len(s.Request.Pools) == 0 || slices.Contains(s.Request.Pools, p.Name)) {
			return true
		}
	}
	return false
}

func requestFits(s *config.Service) bool {
	for _, a := range s.Request.Addresses {
		if !slices.Contains(s.Families, config.FamilyOf(a)) {
			return false
		}
	}
	return true
}

func (m *modelState) complete(s *config.Service) {
	if !requestFits(s) || s.FamilyPolicy == config.RequireDualStack && len(s.Families) < 2 {
		return
	}
	all := s.FamilyPolicy == config.RequireDualStack || len(s.Request.Addresses) > 0
	var got []netip.Addr
	for _, f := range s.Families {
		if m.has(s, f) {
			continue
		}
		a, ok := m.first(s, f)
		if !ok && all {
			return
		}
		if ok {
			got = append(got, a)
		}
	}
	for _, a := range got {
		m.give(s, a)
	}
}

// first returns the first free address, pool by pool, that the Service may have.
func (m *modelState) first(s *config.Service, f config.Family) (netip.Addr, bool) {
	pools := slices.Clone(m.in.Pools)
	slices.SortFunc(pools, func(a, b *config.Pool) int {
		return cmp.Or(cmp.Compare(slices.Index(s.Request.Pools, a.Name), slices.Index(s.Request.Pools, b.Name)), cmp.Compare(a.Name, b.Name))
	})
	named := slices.ContainsFunc(s.Request.Addresses, func(a netip.Addr) bool { return config.FamilyOf(a) == f })
	for _, p := range pools {
		if len(s.Request.Pools) == 0 && !named && !p.AutoAssign {
			continue
		}
		for _, r := range p.Ranges {
			for a := r.From; a.IsValid() && a.Compare(r.To) <= 0; a = a.Next() {
				if config.FamilyOf(a) == f && m.admits(s, a) && m.free(a) && (len(s.Request.Pools) == 0 || slices.Contains(s.Request.Pools, p.Name)) {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

func (m *modelState) free(a netip.Addr) bool {
	_, taken := m.owner[a]
	for _, n := range m.in.Nodes {
		taken = taken || slices.Contains(n.Addresses, a)
	}
	return !taken
}

// TestModel compares plans without memory with the model, over random histories.
func TestModel(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld()
		for step := range 30 {
			w.randomChange(t, r)
			want := model(&w.snap)
			plan, _ := Compute(&w.snap, Memory{})
			for _, o := range plan.Services {
				if o.Keep && !o.Service.Deleting {
					continue // foreign: the model knows of nothing to give
				}
				got, want := slices.Clone(o.Addresses), slices.Clone(want[o.Service.Key])
				slices.SortFunc(got, netip.Addr.Compare)
				slices.SortFunc(want, netip.Addr.Compare)
				if diff := gocmp.Diff(want, got, equalAddrs, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("seed %d step %d: %s (%s): (-want +got)\n%s", seed, step, o.Service.Key, o.Allocated.Message, diff)
				}
			}
			w.settle(r)
		}
	}
}

// TestHistories plays random histories with failed writes and restarts, and checks after each write what must always hold.
func TestHistories(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := newWorld()
		for step := range 40 {
			w.randomChange(t, r)
			if r.IntN(10) == 0 {
				w.memory = Memory{}
			}
			plan, memory := Compute(&w.snap, w.memory)
			w.memory = memory
			checkPlan(t, fmt.Sprint("seed ", seed, " step ", step), &w.snap, plan)
			for _, i := range r.Perm(len(plan.Services)) {
				if o := plan.Services[i]; o.Changed && r.IntN(4) != 0 {
					w.write(o)
					checkDistinct(t, fmt.Sprint("seed ", seed, " step ", step), w.snap.Services)
				}
			}
		}
	}
}

// checkPlan checks that the plan gives no address twice, moves no valid one, and says of each Service what is true.
func checkPlan(t *testing.T, when string, in *config.Snapshot, plan Plan) {
	t.Helper()
	m := modelState{in: in, holds: map[config.Key][]netip.Addr{}, owner: map[netip.Addr]config.Key{}}
	owner := map[netip.Addr]config.Key{}
	for _, o := range plan.Services {
		s := o.Service
		for _, a := range o.Addresses {
			if other, ok := owner[a]; ok {
				t.Fatalf("%s: %s is given to %s and %s", when, a, other, s.Key)
			}
			owner[a] = s.Key
		}
		if s.Deleting || o.Keep {
			continue
		}
		for _, a := range s.Ingress {
			if m.mayKeep(s, a) && !slices.Contains(o.Addresses, a) {
				t.Fatalf("%s: %s may keep %s but gets %v", when, s.Key, a, o.Addresses)
			}
		}
		if o.Allocated.Status == "True" && len(o.Addresses) == 0 {
			t.Fatalf("%s: %s is Allocated without an address", when, s.Key)
		}
	}
}

func checkDistinct(t *testing.T, when string, services []*config.Service) {
	t.Helper()
	owner := map[netip.Addr]config.Key{}
	for _, s := range services {
		for _, a := range s.Ingress {
			if other, ok := owner[a]; ok {
				t.Fatalf("%s: %s is held by %s and %s", when, a, other, s.Key)
			}
			owner[a] = s.Key
		}
	}
}

// TestShuffled checks that the order of the input does not matter.
func TestShuffled(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := newWorld()
		for range 20 {
			w.randomChange(t, r)
			w.settle(r)
		}
		w.randomChange(t, r)
		want, wantMemory := Compute(&w.snap, w.memory)
		other := w.snap
		other.Services, other.Pools, other.Nodes = slices.Clone(other.Services), slices.Clone(other.Pools), slices.Clone(other.Nodes)
		r.Shuffle(len(other.Services), func(i, j int) { other.Services[i], other.Services[j] = other.Services[j], other.Services[i] })
		r.Shuffle(len(other.Pools), func(i, j int) { other.Pools[i], other.Pools[j] = other.Pools[j], other.Pools[i] })
		r.Shuffle(len(other.Nodes), func(i, j int) { other.Nodes[i], other.Nodes[j] = other.Nodes[j], other.Nodes[i] })
		got, gotMemory := Compute(&other, w.memory)
		if diff := gocmp.Diff(want, got, equalAddrs); diff != "" {
			t.Fatalf("seed %d: (-want +got)\n%s", seed, diff)
		}
		if !slices.Equal(wantMemory.freed, gotMemory.freed) {
			t.Fatalf("seed %d: memory differs: %v and %v", seed, wantMemory.freed, gotMemory.freed)
		}
	}
}

var equalAddrs = gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// settle writes the plan, now and then only some of it.
func (w *world) settle(r *rand.Rand) {
	plan, memory := Compute(&w.snap, w.memory)
	w.memory = memory
	for _, o := range plan.Services {
		if o.Changed && r.IntN(5) != 0 {
			w.write(o)
		}
	}
}

// randomChange changes the world a little.
func (w *world) randomChange(t *testing.T, r *rand.Rand) {
	pick := func(options ...string) string { return options[r.IntN(len(options))] }
	name := fmt.Sprint("ns/s", r.IntN(12))
	v4 := func() string { return fmt.Sprint("192.0.2.", r.IntN(12)) }
	v6 := func() string { return fmt.Sprint("2001:db8::", r.IntN(6)) }
	switch r.IntN(12) {
	case 0:
		w.do(t, []string{"pool", "a", pick("192.0.2.0/30", "192.0.2.0-192.0.2.2", "192.0.2.1-192.0.2.3")})
	case 1:
		w.do(t, []string{"pool", "b", pick("192.0.2.4-192.0.2.7", "2001:db8::/126"), pick("manual", "192.0.2.8")})
	case 2:
		w.delete("pool", pick("a", "b"))
	case 3:
		w.do(t, []string{"node", "n", v4()})
	case 4:
		w.delete("service", name)
	case 5:
		w.delete("service", name)
		w.do(t, []string{"service", name, pick("v4", "v6"), "deleting"})
	default:
		f := []string{"service", name}
		dual := r.IntN(2) == 0
		if dual {
			f = append(f, pick("v4,v6", "v6,v4"), pick("prefer", "require"))
		} else {
			f = append(f, pick("v4", "v6"))
		}
		switch r.IntN(6) {
		case 0:
			f = append(f, "ip="+v4())
		case 1:
			f = append(f, "ip="+v6())
		case 2:
			f = append(f, "pool="+pick("a", "b", "a,b", "b,a", "c"))
		case 3:
			f = append(f, "pool="+pick("a", "b"), "ip="+v4())
		case 4:
			if r.IntN(4) == 0 {
				f = append(f, "invalid")
			}
		}
		w.do(t, f)
		if r.IntN(3) == 0 { // of one age
			s := *w.snap.Services[len(w.snap.Services)-1]
			s.Created = time.Unix(1, 0)
			w.snap.Services[len(w.snap.Services)-1] = &s
		}
	}
}
