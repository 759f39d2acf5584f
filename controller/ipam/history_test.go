package ipam

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
)

// TestHistories plays random histories with failed writes and restarts. Each plan is compared with the model, and with that of a planner which
// begins anew each time: what it says must be the same, word for word. After each write it is checked what must always hold.
func TestHistories(t *testing.T) {
	const length = 50
	done := 0
	for seed := uint64(0); done < historySteps; seed++ {
		h := newHistory(t, seed)
		for range length {
			h.step()
			done++
		}
		if testing.Short() && seed > 100 {
			return
		}
	}
}

type history struct {
	*world
	t     *testing.T
	r     *rand.Rand
	seed  uint64
	count int
	slow  *Planner // begins anew each time
	past  modelMemory
	limit int
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{world: newWorld(), t: t, r: rand.New(rand.NewPCG(seed, 2)), seed: seed, limit: 3}
	h.restart()
	return h
}

func (h *history) restart() {
	h.planner, h.slow, h.past = NewPlanner(), NewPlanner(), modelMemory{}
	h.planner.limit, h.slow.limit = h.limit, h.limit
}

func (h *history) step() {
	h.count++
	for range 1 + h.r.IntN(2) {
		h.randomChange(h.t, h.r)
	}
	if h.r.IntN(40) == 0 {
		h.restart()
	}
	plan := h.planner.Plan(&h.snap, h.now)
	h.slow.inputPools = append(slices.Clone(h.slow.inputPools), nil) // other pools than it will be given
	if len(h.slow.inputPools) == len(h.snap.Pools) {
		h.slow.inputPools = append(h.slow.inputPools, nil)
	}
	if anew := h.slow.Plan(&h.snap, h.now); !samePlans(anew, plan) {
		h.t.Fatalf("%s: (-anew +step by step)\n%s", h.when(), gocmp.Diff(anew, plan, equalAddrs, cmpopts.EquateEmpty()))
	}
	h.compare(plan)
	h.check(plan)
	h.snap.Services = slices.Clone(h.snap.Services)
	failed := map[config.Key]bool{}
	for _, o := range plan.Services {
		failed[o.Service.Key] = h.r.IntN(4) == 0
	}
	h.carryOut(plan, func(k config.Key) bool { return !failed[k] && (len(failed) > 0 || h.r.IntN(4) != 0) })
	h.checkShown()
	if h.r.IntN(3) == 0 {
		h.do(h.t, []string{"wait", "20s"})
	}
}

func samePlans(a, b *Plan) bool {
	sameRetention := func(a, b Retention) bool {
		return a.Service == b.Service && a.Until.Equal(b.Until) && slices.Equal(a.Addresses, b.Addresses)
	}
	return slices.EqualFunc(a.Services, b.Services, (*Outcome).equal) && slices.EqualFunc(a.Due, b.Due, (*Outcome).equal) &&
		maps.Equal(a.Pools, b.Pools) && slices.EqualFunc(a.Retain, b.Retain, sameRetention) && slices.Equal(a.Discard, b.Discard)
}

func (h *history) when() string { return fmt.Sprint("seed ", h.seed, " step ", h.count) }

// compare compares the plan with the model.
func (h *history) compare(plan *Plan) {
	h.t.Helper()
	m := &model{in: &h.snap, now: h.now, limit: h.limit, last: h.past}
	m.plan()
	h.past = m.memory()
	for _, o := range plan.Services {
		if frozen(o.Service) {
			continue
		}
		got, want := slices.Clone(o.Addresses), slices.Clone(m.holds[o.Service.Key])
		slices.SortFunc(got, netip.Addr.Compare)
		slices.SortFunc(want, netip.Addr.Compare)
		if !slices.Equal(want, got) {
			h.t.Fatalf("%s: %s gets %v (%s), and by the model %v", h.when(), o.Service.Key, got, o.Allocated.Message, want)
		}
		if len(got) < len(familiesOf(o.Service)) && (o.Allocated.Message == "" || o.Allocated.Reason == "" || strings.HasSuffix(o.Allocated.Message, ": ")) {
			h.t.Fatalf("%s: %s gets %v, and no reason: %+v", h.when(), o.Service.Key, got, o.Allocated)
		}
	}
	if len(plan.Retain) != len(m.retained) {
		h.t.Fatalf("%s: keeps %v, and by the model %v", h.when(), plan.Retain, m.retained)
	}
	for _, r := range plan.Retain {
		if want := m.retained[r.Service]; !slices.Equal(want.Addresses, r.Addresses) || !want.Until.Equal(r.Until) {
			h.t.Fatalf("%s: keeps %v, and by the model %v", h.when(), r, want)
		}
	}
	for _, p := range h.snap.Pools {
		if diff := gocmp.Diff(m.counts(p), plan.Pools[p.Name]); diff != "" {
			h.t.Fatalf("%s: pool %s: (-model +plan)\n%s", h.when(), p.Name, diff)
		}
	}
}

// check checks that the plan gives no address to two that cannot share it, and that what it says is due is due.
func (h *history) check(plan *Plan) {
	h.t.Helper()
	owner := map[netip.Addr][]*config.Service{}
	due := 0
	for _, o := range plan.Services {
		if o.Changed {
			due++
			if !slices.Contains(plan.Due, o) {
				h.t.Fatalf("%s: the write to %s is not due", h.when(), o.Service.Key)
			}
		}
		if frozen(o.Service) || o.Keep {
			continue
		}
		for _, a := range o.Addresses {
			for _, other := range owner[a] {
				if !share(o.Service, other) {
					h.t.Fatalf("%s: %s is given to %s and %s", h.when(), a, other.Key, o.Service.Key)
				}
			}
			owner[a] = append(owner[a], o.Service)
		}
		if o.Allocated.Status == "True" && len(o.Addresses) == 0 {
			h.t.Fatalf("%s: %s is Allocated without an address", h.when(), o.Service.Key)
		}
	}
	if due != len(plan.Due) || !slices.IsSortedFunc(plan.Due, (*Outcome).Compare) {
		h.t.Fatalf("%s: %d writes are due, not %d; or not in order", h.when(), due, len(plan.Due))
	}
}

// checkShown checks that no two statuses that Herald wrote show an address that the two cannot share. Those that changed since are left out.
func (h *history) checkShown() {
	h.t.Helper()
	owner := map[netip.Addr]*config.Service{}
	for _, s := range h.snap.Services {
		was, known := h.past.past[s.UID]
		if !known || frozen(s) || s.Allocated.Status == "" {
			continue
		}
		for _, a := range s.Ingress {
			if !slices.Contains(was.held, a) {
				continue // to be given up
			}
			if other := owner[a]; other != nil && !share(s, other) {
				h.t.Fatalf("%s: %s is held by %s and %s", h.when(), a, other.Key, s.Key)
			}
			owner[a] = s
		}
	}
}

// TestShuffled checks that the order of the input does not matter.
func TestShuffled(t *testing.T) {
	for seed := range uint64(300) {
		h := newHistory(t, seed)
		for range 20 {
			h.step()
		}
		want := Compute(&h.snap, h.now)
		other := h.snap
		other.Services, other.Pools, other.Nodes = slices.Clone(other.Services), slices.Clone(other.Pools), slices.Clone(other.Nodes)
		other.Foreign = slices.Clone(other.Foreign)
		h.r.Shuffle(len(other.Services), func(i, j int) { other.Services[i], other.Services[j] = other.Services[j], other.Services[i] })
		h.r.Shuffle(len(other.Pools), func(i, j int) { other.Pools[i], other.Pools[j] = other.Pools[j], other.Pools[i] })
		h.r.Shuffle(len(other.Nodes), func(i, j int) { other.Nodes[i], other.Nodes[j] = other.Nodes[j], other.Nodes[i] })
		slices.Reverse(other.Foreign)
		if diff := gocmp.Diff(want, Compute(&other, h.now), equalAddrs); diff != "" {
			t.Fatalf("seed %d: (-want +got)\n%s", seed, diff)
		}
	}
}

var equalAddrs = gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// randomChange changes the world a little.
func (w *world) randomChange(t *testing.T, r *rand.Rand) {
	pick := func(options ...string) string { return options[r.IntN(len(options))] }
	maybe := func(f []string, options ...string) []string {
		if r.IntN(5) == 0 {
			f = append(f, pick(options...))
		}
		return f
	}
	name := pick("x/", "y/") + fmt.Sprint("s", r.IntN(9))
	v4 := func() string { return fmt.Sprint("192.0.2.", r.IntN(12)) }
	v6 := func() string { return fmt.Sprint("2001:db8::", r.IntN(6)) }
	switch r.IntN(20) {
	case 0, 1:
		f := []string{"pool", "a", pick("192.0.2.0/30", "192.0.2.0-192.0.2.2", "192.0.2.1-192.0.2.3")}
		f = maybe(maybe(maybe(f, "nobuggy", "exclude=192.0.2.1", "exclude=192.0.2.2-192.0.2.3"), "quota=1", "quota=2"), "for=x", "for=y", "for=x,y")
		w.do(t, maybe(maybe(f, "priority=1", "priority=2"), "retain=30s", "retain=1m"))
	case 2:
		f := []string{"pool", "b", pick("192.0.2.4-192.0.2.7", "2001:db8::/126"), pick("manual", "192.0.2.8")}
		f = maybe(maybe(f, "paused", "for=x"), "retain=1m", "quota=1")
		w.do(t, f)
	case 3:
		w.do(t, []string{"pool", "c", pick("192.0.2.9-192.0.2.10", "2001:db8::4-2001:db8::5", "192.0.2.11"), pick("for=x", "for=y", "quota=1"), pick("priority=1", "priority=0")})
	case 4:
		if r.IntN(3) == 0 {
			w.do(t, []string{"delete", "pool", pick("a", "b", "c")})
		}
	case 5:
		if r.IntN(3) == 0 {
			w.do(t, []string{"node", "n", v4()})
		}
		if r.IntN(3) == 0 {
			w.do(t, [][]string{{"foreign", pick("z/a", "z/b"), v4()}, {"delete", "foreign", pick("z/a", "z/b")}}[r.IntN(2)])
		}
	case 6:
		if r.IntN(3) == 0 {
			w.do(t, [][]string{{"broken", "z"}, {"delete", "broken", "z"}}[r.IntN(2)])
		}
	case 7, 8, 9:
		w.do(t, []string{"delete", "service", name})
	case 10:
		w.do(t, []string{"reserve", pick("r1", "r2"), name, pick(v4(), v6(), v4()+","+v6())})
		w.unique()
	case 11:
		w.do(t, []string{"delete", "reserve", pick("r1", "r2")})
	case 12:
		w.do(t, []string{"service", name, pick("v4", "v6"), pick("deleting", "waiting")})
	case 13:
		w.meddle(r, name, v4())
	default:
		w.do(t, w.randomService(r, name, pick, v4, v6))
		if r.IntN(3) == 0 { // of one age
			for i, s := range w.snap.Services {
				if s.Key == key(name) && len(s.Ingress) == 0 && s.Allocated.Status == "" {
					s := *s
					s.Created = time.Unix(1, 0)
					w.snap.Services[i] = &s
				}
			}
		}
	}
}

// unique lets of several reservations for an address the first stand, as config/parse does.
func (w *world) unique() {
	seen := map[netip.Addr]bool{}
	w.snap.Reservations = slices.DeleteFunc(slices.Clone(w.snap.Reservations), func(r *config.Reservation) bool {
		twice := slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { return seen[a] })
		for _, a := range r.Addresses {
			seen[a] = true
		}
		return twice
	})
}

// meddle writes an address into a status, as somebody else would, or takes it out.
func (w *world) meddle(r *rand.Rand, name, addr string) {
	for i, s := range w.snap.Services {
		if s.Key == key(name) {
			s := *s
			s.Ingress = nil
			if r.IntN(2) == 0 {
				s.Ingress = addrs(addr)
			}
			w.snap.Services[i] = &s
		}
	}
}

func (w *world) randomService(r *rand.Rand, name string, pick func(...string) string, v4, v6 func() string) []string {
	f := []string{"service", name}
	if r.IntN(2) == 0 {
		f = append(f, pick("v4,v6", "v6,v4"), pick("prefer", "require", ""))
	} else {
		f = append(f, pick("v4", "v6"), pick("", "", "", "require"))
	}
	switch r.IntN(8) {
	case 0, 1:
		f = append(f, "ip="+v4())
	case 2:
		f = append(f, "ip="+pick(v6(), v4()+","+v6()))
	case 3:
		f = append(f, "pool="+pick("a", "b", "a,b", "b,a", "c", "c,z"))
	case 4:
		f = append(f, "pool="+pick("a", "b"), "ip="+v4())
	case 5:
		if r.IntN(4) == 0 {
			f = append(f, "invalid")
		}
	}
	if r.IntN(2) == 0 {
		f = append(f, "share="+pick("k", "k", "l"), "ports="+pick("TCP/80", "TCP/81", "UDP/80", "TCP/80,TCP/82"), "app="+pick("p", "q", ""))
		if r.IntN(3) == 0 {
			f = append(f, "local")
		}
	}
	return slices.DeleteFunc(f, func(s string) bool { return s == "" })
}
