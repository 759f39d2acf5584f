package decide

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
)

// owners decides for every member and returns who answers for what; it fails when two do. Who hands an address on counts until the one
// that gets it has it; who stands in for another does not count.
func owners(t *testing.T, f Facts) map[netip.Addr]string {
	t.Helper()
	out, handed, deputies := map[netip.Addr]string{}, map[netip.Addr]string{}, map[netip.Addr]string{}
	for _, m := range f.Members {
		f.Node = m.Node
		d := Decide(f)
		for _, l := range d.L2 {
			if len(l.Interfaces) == 0 {
				t.Fatalf("%s answers for %s on no interface", m.Node, l.Addr)
			}
			to := out
			switch {
			case l.For != "":
				to = deputies
				checkDeputy(t, f, l)
			case l.Taken == HandedOn:
				to = handed
			}
			if other, taken := to[l.Addr]; taken {
				t.Fatalf("both %s and %s answer for %s", other, m.Node, l.Addr)
			}
			if _, claims := d.Claims[l.Addr]; claims != (l.For == "") {
				t.Fatalf("%s answers for %s, %s; does it claim it: %v", m.Node, l.Addr, l.Taken, claims)
			}
			to[l.Addr] = m.Node
			if l.For == "" {
				checkCounter(t, f, m, l, d.Claims[l.Addr])
			}
		}
		if claims := len(d.L2); claims < len(d.Claims) {
			t.Fatalf("%s claims %d addresses and answers for %d", m.Node, len(d.Claims), len(d.L2))
		}
		for _, v := range slices.Concat(d.Verdicts...) {
			if v.Announce != (v.Reason == Announced) || v.Reason != Announced && v.Reason != NotOwner && v.Message == "" {
				t.Fatalf("%s: verdict without sense: %+v", m.Node, v)
			}
		}
	}
	for a, node := range handed {
		if _, taken := out[a]; !taken {
			out[a] = node
		}
	}
	return out
}

// checkCounter fails the test unless what is kept is kept under the old counter, and what is taken under a higher one than was ever seen.
func checkCounter(t *testing.T, f Facts, m Member, l L2Address, c Claim) {
	t.Helper()
	switch l.Taken {
	case Kept, Won, HandedOn:
		if was, ok := m.Claims[l.Addr]; !ok || c.Counter != was.Counter {
			t.Fatalf("%s has %s, %s, under %+v, it had %+v", m.Node, l.Addr, l.Taken, c, was)
		}
		return
	}
	seen := f.Claims[l.Addr]
	for _, o := range f.Members {
		seen = max(seen, o.Claims[l.Addr].Counter)
	}
	if c.Counter != seen+1 || (l.Taken == Elected) != (seen == 0) {
		t.Fatalf("%s takes %s, %s, under %+v, where the highest counter was %d", m.Node, l.Addr, l.Taken, c, seen)
	}
}

// checkDeputy fails the test unless whoever stands in does so for a node that restarts, with MACs of that node.
func checkDeputy(t *testing.T, f Facts, l L2Address) {
	t.Helper()
	i := slices.IndexFunc(f.Members, func(m Member) bool { return m.Node == l.For })
	if i < 0 || f.Members[i].State != Restarting || l.For == f.Node || len(l.MACs) != len(l.Interfaces) {
		t.Fatalf("%s stands in: %+v", f.Node, l)
	}
	for _, mac := range l.MACs {
		if !slices.ContainsFunc(f.Members[i].Interfaces, func(x config.Interface) bool { return x.MAC == mac }) {
			t.Fatalf("%s stands in for %s with a foreign MAC %s", f.Node, l.For, mac)
		}
	}
}

// eachScenario runs a property over many random facts.
func eachScenario(t *testing.T, property func(t *testing.T, r scenario, f Facts)) {
	for seed := range uint64(400) {
		r := newScenario(seed)
		f := r.facts()
		property(t, r, f)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestOneOwnerAsTheModelSays(t *testing.T) {
	decided := 0
	eachScenario(t, func(t *testing.T, _ scenario, f Facts) {
		got, want := owners(t, f), newModel(f).owners()
		decided += len(want)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("owners (-model +decided):\n%s", diff)
		}
	})
	if decided < 1000 {
		t.Errorf("the scenarios decided only %d addresses: they test too little", decided)
	}
}

var values = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b config.Selection[string]) bool { return a.Equal(b) }),
	cmpopts.EquateEmpty(),
}

func TestOrderOfFactsDoesNotMatter(t *testing.T) {
	eachScenario(t, func(t *testing.T, r scenario, f Facts) {
		f.Node = "node-1"
		want := Decide(f)
		c := *f.Config
		c.Services, c.Pools, c.Nodes = shuffled(r, c.Services), shuffled(r, c.Pools), shuffled(r, c.Nodes)
		c.L2Advertisements, c.BGPAdvertisements = shuffled(r, c.L2Advertisements), shuffled(r, c.BGPAdvertisements)
		c.Peers = shuffled(r, c.Peers)
		f.Config, f.Members = &c, shuffled(r, f.Members)
		if diff := cmp.Diff(want, Decide(f), values); diff != "" {
			t.Errorf("(-sorted +shuffled):\n%s", diff)
		}
	})
}

func shuffled[T any](r scenario, s []T) []T {
	s = slices.Clone(s)
	r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
	return s
}

// settle gives every member the claims it decides on, all at once.
func settle(f Facts) Facts {
	members := slices.Clone(f.Members)
	for i := range members {
		g := f
		g.Node = members[i].Node
		members[i].Claims = Decide(g).Claims
	}
	f.Members = members
	return f
}

func TestSettledFactsAreAFixedPoint(t *testing.T) {
	eachScenario(t, func(t *testing.T, _ scenario, f Facts) {
		f.Since = nil                // nothing goes back by itself
		f.Now = f.Now.Add(time.Hour) // and no move is asked for any more
		before := owners(t, f)
		f = settle(f)
		if diff := cmp.Diff(before, owners(t, f), values); diff != "" {
			t.Errorf("claiming what was decided changed the decision:\n%s", diff)
		}
		f = settle(f) // who has handed an address on lets it go
		if diff := cmp.Diff(f.Members, settle(f).Members, values); diff != "" {
			t.Errorf("claims do not come to rest:\n%s", diff)
		}
	})
}

// TestClaimsHeardInAnyOrderKeepThePlan lets some members act before the others hear of it: everybody still comes to the same plan.
func TestClaimsHeardInAnyOrderKeepThePlan(t *testing.T) {
	eachScenario(t, func(t *testing.T, r scenario, f Facts) {
		f.Since = nil
		held := newModel(f).addresses()
		for _, m := range f.Members { // claims for Services that only their maker knows are another story: they go when it learns better
			maps.DeleteFunc(m.Claims, func(a netip.Addr, _ Claim) bool { return !slices.Contains(held, a) })
		}
		before := owners(t, f)
		done := settle(f)
		members := slices.Clone(f.Members)
		for i := range members {
			if r.chance(50) {
				members[i] = done.Members[i]
			}
		}
		f.Members = members
		if diff := cmp.Diff(before, owners(t, f), values); diff != "" {
			t.Errorf("(-before +after some have claimed):\n%s", diff)
		}
	})
}

// plain makes n nodes on one subnet and addresses on it, which everybody may announce.
func plain(nodes, addresses int) Facts {
	c := &config.Snapshot{Synced: true}
	f := Facts{Config: c, Expected: nodes}
	base := netip.MustParseAddr("10.0.0.0").As4()
	for i := range nodes {
		name := fmt.Sprintf("node-%03d", i)
		c.Nodes = append(c.Nodes, &config.Node{Name: name})
		f.Members = append(f.Members, Member{Node: name, Claims: map[netip.Addr]Claim{}, Interfaces: []config.Interface{
			{Name: "eth0", MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255), Up: true, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		}})
	}
	c.Pools = []*config.Pool{{Name: "pool", Ranges: []config.Range{{From: netip.MustParseAddr("10.1.0.0"), To: netip.MustParseAddr("10.2.255.255")}}}}
	c.L2Advertisements = []*config.L2Advertisement{{Name: "l2", Pools: config.All[string](), Nodes: config.All[string](), Services: config.All[config.Key]()}}
	for i := range addresses {
		base[1], base[2], base[3] = 1, byte(i>>8), byte(i)
		c.Services = append(c.Services, &config.Service{
			Key:       config.Key{Namespace: "ns", Name: fmt.Sprintf("s%05d", i)},
			Ingress:   []netip.Addr{netip.AddrFrom4(base)},
			Endpoints: config.Endpoints{Ready: map[string]int{"node-000": 1}},
		})
	}
	return f
}

func TestJoiningAndAddingMoveNothing(t *testing.T) {
	f := settle(plain(5, 200))
	before := owners(t, f)
	more := plain(8, 300) // three more nodes, a hundred more Services
	copy(more.Members, f.Members)
	after := owners(t, more)
	for a, owner := range before {
		if after[a] != owner {
			t.Errorf("%s moved from %s to %s", a, owner, after[a])
		}
	}
	if len(after) != 300 {
		t.Errorf("%d of 300 addresses have an owner", len(after))
	}
}

func TestRemovingALoserMovesNothing(t *testing.T) {
	delay := time.Duration(0)
	for name, wish := range map[string]func(*config.L2Advertisement){
		"plain": func(*config.L2Advertisement) {},
		"preferred": func(adv *config.L2Advertisement) {
			adv.Preferred = []config.Preference{{Weight: 1, Nodes: config.Only("node-001", "node-004")}}
		},
		"failback": func(adv *config.L2Advertisement) { adv.FailbackDelay = &delay },
	} {
		t.Run(name, func(t *testing.T) {
			f := plain(6, 120)
			wish(f.Config.L2Advertisements[0])
			f.Since = map[string]time.Time{}
			for _, m := range f.Members {
				f.Since[m.Node] = epoch
			}
			f.Now = epoch
			removeLosers(t, settle(f))
		})
	}
}

func removeLosers(t *testing.T, f Facts) {
	t.Helper()
	before := owners(t, f)
	for i := range f.Members {
		gone := f.Members[i].Node
		less := f
		less.Members = slices.Delete(slices.Clone(f.Members), i, i+1)
		after := owners(t, less)
		for a, owner := range before {
			if owner != gone && after[a] != owner {
				t.Fatalf("%s moved from %s to %s when %s went", a, owner, after[a], gone)
			}
			if after[a] == "" {
				t.Fatalf("nobody took %s over from %s", a, gone)
			}
		}
	}
}

func TestUnsyncedChangesNothing(t *testing.T) {
	f := plain(3, 10)
	f.Config.Synced = false
	f.Node = "node-000"
	if diff := cmp.Diff(Desired{Incomplete: true}, Decide(f), values); diff != "" {
		t.Error(diff)
	}
	f.Config = nil
	if !Decide(f).Incomplete {
		t.Error("facts without a configuration must be incomplete")
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct{ nodes, addresses int }{{3, 60}, {3, 2000}, {10, 200}, {10, 1000}, {50, 1000}, {100, 10000}, {500, 10000}} {
		f := plain(c.nodes, c.addresses)
		if got := imbalance(elected(f), c.nodes); got > 1.15 {
			t.Errorf("%d addresses on %d nodes: max/mean = %.3f, want at most 1.15", c.addresses, c.nodes, got)
		} else {
			t.Logf("%d addresses on %d nodes: max/mean = %.3f", c.addresses, c.nodes, got)
		}
	}
}

// elected returns the owner of every address without asking every node.
func elected(f Facts) map[netip.Addr]string {
	d := NewDecider()
	d.update(f)
	out := map[netip.Addr]string{}
	for v := range d.order.all() {
		if v.owner != nobody {
			out[v.addr] = d.members[v.owner].Node
		}
	}
	return out
}

func imbalance(owners map[netip.Addr]string, nodes int) float64 {
	counts, most := map[string]int{}, 0
	for _, o := range owners {
		counts[o]++
		most = max(most, counts[o])
	}
	return float64(most) * float64(nodes) / float64(len(owners))
}

// TestHashIsFixed holds fast what speakers of all versions must agree on.
func TestHashIsFixed(t *testing.T) {
	for _, c := range []struct {
		node, addr string
		want       uint64
	}{
		{"node-1", "192.0.2.1", 0x2ffb8dc70162e520},
		{"", "0.0.0.0", 0xf5dc7d38b8098707},
		{"worker.example.com", "2001:db8::1", 0x6ccf17921920fef2},
	} {
		if got := score(hashNode(c.node), hashAddr(netip.MustParseAddr(c.addr))); got != c.want {
			t.Errorf("score of %q for %s = %#x, want %#x", c.node, c.addr, got, c.want)
		}
	}
}
