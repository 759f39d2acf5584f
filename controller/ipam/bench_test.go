package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// TestHugePools checks counts that saturate and a search that does not walk over what is free.
func TestHugePools(t *testing.T) {
	in := &config.Snapshot{
		Pools: []*config.Pool{
			parsePool(t, []string{"all4", "0.0.0.0/0"}),
			parsePool(t, []string{"all6", "::/0", "manual"}),
			parsePool(t, []string{"one", "manual"}),
		},
		Services: many(3, 0),
	}
	plan := Compute(in, time.Time{})
	if got := plan.Pools["all4"].IPv4; got.Total != 1<<32 || got.Assigned != 3 || got.Available != 1<<32-3 {
		t.Errorf("all4: %+v", got)
	}
	if got := plan.Pools["all6"].IPv6; got.Total != math.MaxInt64 {
		t.Errorf("all6: %+v", got)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"192.0.2.1":             1,
		"192.0.2.0/31":          2,
		"10.0.0.0/8":            1 << 24,
		"2001:db8::/127":        2,
		"2001:db8::/66":         1 << 62,
		"2001:db8::/65":         math.MaxInt64,
		"::/0":                  math.MaxInt64,
		"2001:db8::-2001:db9::": math.MaxInt64,
	} {
		if got := size(parseRange(t, text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// many returns n Services, the first few of which hold an address.
func many(n, holding int) []*config.Service {
	out := make([]*config.Service, n)
	a := netip.MustParseAddr("10.0.0.0")
	for i := range out {
		out[i] = &config.Service{
			Key: config.Key{Namespace: "bench", Name: fmt.Sprintf("service-%06d", i)}, UID: fmt.Sprint(i), Created: time.Unix(int64(i/100), 0),
			Families: []config.Family{config.IPv4},
		}
		if i < holding {
			out[i].Ingress = []netip.Addr{a}
			out[i].Allocated = config.Condition{Status: "True", Reason: "Allocated", Message: a.String() + " from pool bench"}
			a = a.Next()
		}
	}
	return out
}

// BenchmarkNext finds an address, takes it and gives it back.
func BenchmarkNext(b *testing.B) {
	for _, c := range []struct {
		name, pool string
		holding    int
		every      int // one of so many addresses is not held
	}{
		{"16/empty", "10.0.0.0/16", 0, 0},
		{"16/nearly full", "10.0.0.0/16", 1<<16 - 10, 0},
		{"16/scattered", "10.0.0.0/16", 1 << 15, 2},
		{"64", "2001:db8::/64", 0, 0},
		{"64/50000 held", "2001:db8::/64", 50_000, 0},
		{"64/scattered", "2001:db8::/64", 50_000, 2},
	} {
		b.Run(c.name, func(b *testing.B) {
			pool := parsePool(b, []string{"bench", c.pool})
			in := &config.Snapshot{Services: manyIn(pool, c.holding+1, c.holding, max(c.every, 1)), Pools: []*config.Pool{pool}}
			p := NewPlanner()
			p.Plan(in, time.Time{})
			p.change = newChange(time.Time{})
			last := p.claims[in.Services[c.holding].Key]
			f := config.FamilyOf(pool.Ranges[0].From)
			p.account(p.unholdFor(last, f))
			b.ReportAllocs()
			for b.Loop() {
				a, ok := p.choose(last, f, nil)
				if !ok {
					b.Fatal("no address")
				}
				s := p.hold(last, a)
				p.account(s)
				p.account(p.unholdFor(last, f))
				p.tidy()
				p.change.touched = p.change.touched[:0]
			}
		})
	}
}

func (p *Planner) unholdFor(c *claim, f config.Family) *slot {
	s := p.slots[c.have[familyIndex(f)].addr]
	p.unhold(c, familyIndex(f))
	return s
}

// manyIn returns n Services, the first few of which hold an address of the pool: every so manieth.
func manyIn(pool *config.Pool, n, holding, every int) []*config.Service {
	out := many(n, 0)
	a := pool.Ranges[0].From
	for i, s := range out {
		s.Families = []config.Family{config.FamilyOf(a)}
		if i < holding {
			s.Ingress = []netip.Addr{a}
			s.Allocated = config.Condition{Status: "True", Reason: "Allocated", Message: a.String() + " from pool bench"}
			for range every {
				a = a.Next()
			}
		}
	}
	return out
}

// BenchmarkOneMore plans for one more Service, and for its end.
func BenchmarkOneMore(b *testing.B) {
	for _, n := range []int{10, 1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			pools := []*config.Pool{parsePool(b, []string{"bench", "10.0.0.0/8"})}
			services := many(n+1, n)
			few, more := &config.Snapshot{Services: services[:n], Pools: pools}, &config.Snapshot{Services: services, Pools: pools}
			p := NewPlanner()
			p.Plan(few, time.Time{})
			b.ReportAllocs()
			for b.Loop() {
				if plan := p.Plan(more, time.Time{}); len(plan.Due) != 1 {
					b.Fatal(len(plan.Due))
				}
				p.Plan(few, time.Time{})
			}
		})
	}
}

// BenchmarkRebuild makes a first plan.
func BenchmarkRebuild(b *testing.B) {
	for _, c := range []struct {
		name            string
		holding, pools  int
		every, services int
	}{
		{"50000 hold", 50_000, 1, 1, 50_000},
		{"50000 hold, scattered", 50_000, 1, 3, 50_000},
		{"50000 are new", 0, 1, 1, 50_000},
		{"50000 hold, 100 pools", 50_000, 100, 1, 50_000},
		{"10000 hold", 10_000, 1, 1, 10_000},
	} {
		b.Run(c.name, func(b *testing.B) {
			in := &config.Snapshot{Pools: []*config.Pool{parsePool(b, []string{"bench", "10.0.0.0/8"})}}
			for i := 1; i < c.pools; i++ {
				in.Pools = append(in.Pools, parsePool(b, []string{fmt.Sprint("other", i), fmt.Sprintf("11.%d.0.0/16", i)}))
			}
			in.Services = manyIn(in.Pools[0], c.services, c.holding, c.every)
			b.ReportAllocs()
			for b.Loop() {
				NewPlanner().Plan(in, time.Time{})
			}
		})
	}
}

// BenchmarkFull plans for one more Service that gets nothing, and for an address that comes free, while very many wait.
func BenchmarkFull(b *testing.B) {
	pools := []*config.Pool{parsePool(b, []string{"bench", "10.0.0.0/30"})}
	services := many(10_000, 0)
	p := NewPlanner()
	in := &config.Snapshot{Services: services, Pools: pools}
	for range 2 { // the second time it is written down
		for _, o := range p.Plan(in, time.Time{}).Services {
			o.Service.Ingress, o.Service.Allocated = o.Addresses, o.Allocated
		}
		p = NewPlanner()
	}
	p.Plan(in, time.Time{})
	less := &config.Snapshot{Services: services[1:], Pools: pools}
	b.ReportAllocs()
	for b.Loop() {
		p.Plan(less, time.Time{})
		p.Plan(in, time.Time{})
	}
}
