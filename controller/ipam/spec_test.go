package ipam

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/heraldlb/herald/config"
)

// TestSpec plays the stories in testdata. A "do" section changes the world, line by line; then a plan is made, and the "plan" section
// that follows says what it must be. Its writes succeed, except those of Services named by "fail".
//
//	pool NAME RANGE... [manual] [paused] [nobuggy] [exclude=RANGE] [quota=N] [retain=DURATION] [for=NAMESPACE,... [priority=N]]
//	                                     an IPAddressPool
//	broken NAME                          an IPAddressPool that is left out
//	node NAME ADDR...
//	foreign NAME ADDR                    somebody else with an address
//	service NS/NAME [v4|v6|v4,v6|v6,v4] [prefer|require] [pool=A,B] [ip=A,B] [holds=A,B] [invalid] [foreign] [deleting] [waiting]
//	    [share=KEY] [ports=TCP/80,UDP/53] [local] [app=NAME]
//	                                     youngest last; named again it keeps its age and status, everything else is replaced
//	reserve NAME NS/NAME ADDR,...        an IPReservation that a user made
//	delete pool|node|foreign|service|broken|reserve NAME
//	fail NS/NAME                         its next write fails; also that of its IPReservation
//	restart                              the memory of earlier plans is lost
//	wait DURATION
func TestSpec(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { play(t, file) })
	}
}

var update = flag.Bool("update", false, "write the plans into the stories instead of comparing them; then read them")

func play(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	var got string
	story := txtar.Parse(data)
	for i, section := range story.Files {
		switch section.Name {
		case "do":
			for line := range strings.Lines(string(section.Data)) {
				w.do(t, strings.Fields(line))
			}
			got = w.step()
		case "plan":
			story.Files[i].Data = []byte(got)
			if *update {
				continue
			}
			if diff := gocmp.Diff(string(section.Data), got); diff != "" {
				t.Fatalf("%s: section %d: (-want +got)\n%s", file, i, diff)
			}
		default:
			t.Fatalf("%s: unknown section %q", file, section.Name)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// world is a tiny API server: objects, and writes that can fail.
type world struct {
	snap    config.Snapshot
	planner *Planner
	now     time.Time
	fail    map[config.Key]bool
	allowed map[string][]string // by pool: namespaces
	age     int
}

func newWorld() *world {
	return &world{planner: NewPlanner(), now: time.Unix(0, 0), fail: map[config.Key]bool{}, allowed: map[string][]string{}}
}

func (w *world) do(t testing.TB, f []string) {
	t.Helper()
	if len(f) == 0 || f[0] == "#" {
		return
	}
	switch f[0] {
	case "pool":
		w.delete("pool", f[1])
		w.pool(t, f[1:])
	case "broken":
		w.snap.Problems = append(slices.Clone(w.snap.Problems), config.Problem{Ref: config.Ref{Kind: "IPAddressPool", Name: f[1]}})
	case "node":
		w.delete("node", f[1])
		w.snap.Nodes = append(w.snap.Nodes, &config.Node{Name: f[1], Addresses: addrs(strings.Join(f[2:], ","))})
	case "foreign":
		w.delete("foreign", f[1])
		w.snap.Foreign = append(w.snap.Foreign, config.Foreign{Addr: netip.MustParseAddr(f[2]), Owner: f[1]})
	case "service":
		w.service(t, f[1:])
	case "reserve":
		w.delete("reserve", f[1])
		w.snap.Reservations = append(w.snap.Reservations, &config.Reservation{Name: f[1], Service: key(f[2]), Addresses: addrs(f[3])})
	case "delete":
		w.delete(f[1], f[2])
	case "fail":
		w.fail[key(f[1])] = true
	case "restart":
		w.planner = NewPlanner()
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(d)
		w.expire()
	default:
		t.Fatalf("unknown command %q", f)
	}
	w.admit()
}

// expire marks the reservations whose time has come, as config/parse does.
func (w *world) expire() {
	w.snap.Reservations = slices.Clone(w.snap.Reservations)
	for i, r := range w.snap.Reservations {
		if expired := !r.ExpiresAt.IsZero() && !w.now.Before(r.ExpiresAt); expired != r.Expired {
			next := *r
			next.Expired = expired
			w.snap.Reservations[i] = &next
		}
	}
}

// admit finds out which Services the pools admit, as config/parse does, and sorts everything.
func (w *world) admit() {
	sortByName := func(a, b *config.Pool) int { return strings.Compare(a.Name, b.Name) }
	w.snap.Pools = slices.SortedFunc(slices.Values(w.snap.Pools), sortByName)
	w.snap.Services = slices.SortedFunc(slices.Values(w.snap.Services), func(a, b *config.Service) int { return a.Key.Compare(b.Key) })
	byPriority := slices.SortedStableFunc(slices.Values(w.snap.Pools), func(a, b *config.Pool) int {
		return cmp.Compare(uint(a.Priority-1), uint(b.Priority-1)) // 0 is last
	})
	for i, s := range w.snap.Services {
		var admitted []string
		for _, p := range byPriority {
			if p.Scoped && slices.Contains(w.allowed[p.Name], s.Namespace) {
				admitted = append(admitted, p.Name)
			}
		}
		if !slices.Equal(admitted, s.Admitted) {
			next := *s
			next.Admitted = admitted
			w.snap.Services[i] = &next
		}
	}
}

func (w *world) pool(t testing.TB, f []string) {
	t.Helper()
	p := &config.Pool{Name: f[0], AutoAssign: true}
	for _, word := range f[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "manual":
			p.AutoAssign = false
		case "paused":
			p.Paused = true
		case "nobuggy":
			p.AvoidBuggy = true
		case "exclude":
			p.Excluded = append(p.Excluded, parseRange(t, value))
		case "quota":
			p.NamespaceQuota = number(t, value)
		case "priority":
			p.Priority = number(t, value)
		case "for":
			p.Scoped, p.Admits = true, "namespaces "+value
			w.allowed[p.Name] = strings.Split(value, ",")
		case "retain":
			d, err := time.ParseDuration(value)
			if err != nil {
				t.Fatal(err)
			}
			p.RetainFor = d
		default:
			p.Ranges = append(p.Ranges, parseRange(t, word))
		}
	}
	slices.SortFunc(p.Ranges, func(a, b config.Range) int { return a.From.Compare(b.From) })
	slices.SortFunc(p.Excluded, func(a, b config.Range) int { return a.From.Compare(b.From) })
	w.snap.Pools = append(w.snap.Pools, p)
}

func number(t testing.TB, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (w *world) service(t testing.TB, f []string) {
	t.Helper()
	w.age++
	s := &config.Service{
		Key: key(f[0]), UID: fmt.Sprint("uid-", w.age), Created: time.Unix(int64(w.age), 0), Families: []config.Family{config.IPv4},
		Ports: []config.Port{{Protocol: "TCP", Port: 80}}, Backend: key(f[0]).Namespace + "?app=" + f[0],
	}
	if i := slices.IndexFunc(w.snap.Services, func(o *config.Service) bool { return o.Key == s.Key }); i >= 0 {
		was := w.snap.Services[i]
		s.UID, s.Created, s.Ingress, s.Allocated, s.ForeignStatus = was.UID, was.Created, was.Ingress, was.Allocated, was.ForeignStatus
		w.snap.Services = slices.Delete(slices.Clone(w.snap.Services), i, i+1)
	}
	for _, word := range f[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "v4", "v6", "v4,v6", "v6,v4":
			s.Families = families(word)
		case "prefer":
			s.FamilyPolicy = config.PreferDualStack
		case "require":
			s.FamilyPolicy = config.RequireDualStack
		case "pool":
			s.Request.Pools = strings.Split(value, ",")
		case "ip":
			s.Request.Addresses = addrs(value)
		case "holds":
			s.Ingress = addrs(value)
		case "invalid":
			s.Request = config.Request{Invalid: "the request contradicts itself"}
		case "foreign":
			s.ForeignStatus = true
		case "deleting":
			s.Deleting = true
		case "waiting":
			s.Waiting = true
		case "share":
			s.SharingKey = value
		case "local":
			s.TrafficPolicy = config.Local
		case "app":
			if s.Backend = ""; value != "" {
				s.Backend = s.Namespace + "?app=" + value
			}
		case "ports":
			s.Ports = nil
			for text := range strings.SplitSeq(value, ",") {
				protocol, port, _ := strings.Cut(text, "/")
				s.Ports = append(s.Ports, config.Port{Protocol: protocol, Port: uint16(number(t, port))})
			}
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	w.snap.Services = append(slices.Clone(w.snap.Services), s)
}

func (w *world) delete(kind, name string) {
	switch kind {
	case "pool":
		w.snap.Pools = slices.DeleteFunc(slices.Clone(w.snap.Pools), func(p *config.Pool) bool { return p.Name == name })
	case "broken":
		w.snap.Problems = slices.DeleteFunc(slices.Clone(w.snap.Problems), func(p config.Problem) bool { return p.Name == name })
	case "node":
		w.snap.Nodes = slices.DeleteFunc(slices.Clone(w.snap.Nodes), func(n *config.Node) bool { return n.Name == name })
	case "foreign":
		w.snap.Foreign = slices.DeleteFunc(slices.Clone(w.snap.Foreign), func(f config.Foreign) bool { return f.Owner == name })
	case "reserve":
		w.snap.Reservations = slices.DeleteFunc(slices.Clone(w.snap.Reservations), func(r *config.Reservation) bool { return r.Name == name })
	case "service":
		w.snap.Services = slices.DeleteFunc(slices.Clone(w.snap.Services), func(s *config.Service) bool { return s.Key.String() == name })
	}
}

// step makes a plan, writes it, and returns it as text.
func (w *world) step() string {
	var b strings.Builder
	plan := w.planner.Plan(&w.snap, w.now)
	for _, o := range plan.Services {
		printOutcome(&b, o)
	}
	for _, r := range plan.Retain {
		fmt.Fprintf(&b, "keep %s for %s until %v\n", joinAddrs(r.Addresses), r.Service, r.Until.Sub(time.Unix(0, 0)))
	}
	for _, r := range plan.Discard {
		fmt.Fprintf(&b, "discard IPReservation %s\n", r.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(plan.Pools)) {
		printCounts(&b, name, plan.Pools[name])
	}
	w.carryOut(plan, func(k config.Key) bool { return !w.fail[k] })
	clear(w.fail)
	return b.String()
}

// carryOut does what the plan says, as far as writes succeed.
func (w *world) carryOut(plan *Plan, succeeds func(config.Key) bool) {
	w.snap.Services = slices.Clone(w.snap.Services)
	for _, o := range plan.Due {
		if succeeds(o.Service.Key) {
			w.write(o)
		}
	}
	for _, r := range plan.Retain {
		if !succeeds(r.Service) {
			continue
		}
		name := "kept-" + r.Service.String()
		w.delete("reserve", name)
		w.snap.Reservations = append(w.snap.Reservations, &config.Reservation{
			Name: name, Service: r.Service, Addresses: r.Addresses, ExpiresAt: r.Until, Retained: true,
		})
	}
	for _, r := range plan.Discard {
		if succeeds(r.Service) {
			w.delete("reserve", r.Name)
		}
	}
	w.expire()
}

func (w *world) write(o *Outcome) {
	i := slices.IndexFunc(w.snap.Services, func(s *config.Service) bool { return s.Key == o.Service.Key })
	s := *w.snap.Services[i]
	s.Allocated = o.Allocated
	if !o.Keep {
		s.Ingress, s.ForeignStatus = o.Addresses, false
	}
	w.snap.Services[i] = &s
}

func printOutcome(b *strings.Builder, o *Outcome) {
	what := joinAddrs(o.Addresses)
	if o.Keep {
		what = "keeps " + joinAddrs(o.Service.Ingress)
	}
	if what == "" {
		what = "nothing"
	}
	changed := ""
	if !o.Changed {
		changed = " (no write)"
	}
	fmt.Fprintf(b, "%s: %s%s\n  %s: %s\n", o.Service.Key, what, changed, o.Allocated.Reason, o.Allocated.Message)
	if o.Changed {
		for _, e := range o.Events() {
			kind := "event"
			if e.Warning {
				kind = "warning"
			}
			fmt.Fprintf(b, "  %s %s: %s\n", kind, e.Reason, e.Message)
		}
	}
}

func printCounts(b *strings.Builder, name string, s config.PoolStatus) {
	fmt.Fprintf(b, "pool %s:", name)
	for _, f := range []struct {
		family config.Family
		c      config.PoolCounts
	}{{config.IPv4, s.IPv4}, {config.IPv6, s.IPv6}} {
		if f.c.Total > 0 {
			fmt.Fprintf(b, " %s %d of %d, %d available", f.family, f.c.Assigned, f.c.Total, f.c.Available)
			if f.c.Reserved > 0 {
				fmt.Fprintf(b, ", %d reserved", f.c.Reserved)
			}
		}
	}
	b.WriteString("\n")
}

func parsePool(t testing.TB, f []string) *config.Pool {
	t.Helper()
	w := newWorld()
	w.pool(t, f)
	return w.snap.Pools[0]
}

func parseRange(t testing.TB, s string) config.Range {
	t.Helper()
	from, to, isRange := strings.Cut(s, "-")
	if isRange {
		return config.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)}
	}
	addr, bitsText, isPrefix := strings.Cut(s, "/")
	a := netip.MustParseAddr(addr)
	if !isPrefix {
		return config.Range{From: a, To: a}
	}
	n, err := strconv.Atoi(bitsText)
	if err != nil {
		t.Fatal(err)
	}
	last := a.AsSlice()
	for i := n; i < a.BitLen(); i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	to2, _ := netip.AddrFromSlice(last)
	return config.Range{From: a, To: to2}
}

func key(s string) config.Key {
	ns, name, _ := strings.Cut(s, "/")
	return config.Key{Namespace: ns, Name: name}
}

func addrs(s string) []netip.Addr {
	var out []netip.Addr
	for a := range strings.SplitSeq(s, ",") {
		if a != "" {
			out = append(out, netip.MustParseAddr(a))
		}
	}
	return out
}

func families(s string) []config.Family {
	var out []config.Family
	for f := range strings.SplitSeq(s, ",") {
		out = append(out, map[string]config.Family{"v4": config.IPv4, "v6": config.IPv6}[f])
	}
	return out
}
