package decide

import (
	"bufio"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// parseFacts reads facts. Words of a line are separated by spaces, key=value pairs hold comma-separated lists.
func parseFacts(t *testing.T, text string) Facts {
	f := Facts{
		Config: &config.Snapshot{Synced: true}, Claims: Memory{}, Heard: map[netip.Addr]string{}, Insists: map[netip.Addr]bool{},
		Now: epoch, Since: map[string]time.Time{},
	}
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		words := strings.Fields(sc.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		parseLine(t, &f, words)
	}
	slices.SortFunc(f.Members, func(a, b Member) int { return strings.Compare(a.Node, b.Node) })
	f.Expected = max(f.Expected, len(f.Members))
	return f
}

func parseLine(t *testing.T, f *Facts, words []string) {
	t.Helper()
	lists, flags := options(words[1:])
	c := f.Config
	switch words[0] {
	case "unsynced":
		c.Synced = false
	case "ignore-exclude-lb":
		f.IgnoreExcludeLB = true
	case "drain-on-cordon":
		f.DrainOnCordon = true
	case "since":
		f.Since[words[1]] = epoch.Add(-duration(t, words[2]))
	case "expected":
		f.Expected = number(t, words[1])
	case "node":
		parseNode(t, f, words[1], words[2:])
	case "pool":
		c.Pools = append(c.Pools, &config.Pool{Name: words[1], Ranges: ranges(t, lists["addresses"])})
	case "l2":
		c.L2Advertisements = append(c.L2Advertisements, l2Advertisement(t, words[1], lists))
	case "bgp":
		c.BGPAdvertisements = append(c.BGPAdvertisements, bgpAdvertisement(t, words[1], lists, flags))
	case "peer":
		p := &config.Peer{Name: words[1], Nodes: only(lists["nodes"]), Families: []config.Family{config.IPv4}}
		if slices.Contains(lists["families"], "ipv6") {
			p.Families = []config.Family{config.IPv6}
		}
		c.Peers = append(c.Peers, p)
	case "service":
		c.Services = append(c.Services, service(t, words[1], lists, flags))
	case "claim":
		i := slices.IndexFunc(f.Members, func(m Member) bool { return m.Node == words[1] })
		f.Members[i].Claims[netip.MustParseAddr(words[2])] = Claim{
			Counter:  uint64(number(t, words[3])),
			Majority: slices.Contains(flags, "majority"), Provisional: slices.Contains(flags, "provisional"),
			To: strings.Join(lists["to"], ""),
		}
	case "memory":
		f.Claims[netip.MustParseAddr(words[1])] = uint64(number(t, words[2]))
	case "heard":
		f.Heard[netip.MustParseAddr(words[1])] = words[2]
		f.Insists[netip.MustParseAddr(words[1])] = slices.Contains(flags, "insists")
	default:
		t.Fatalf("unknown word %q", words[0])
	}
}

func l2Advertisement(t *testing.T, name string, lists map[string][]string) *config.L2Advertisement {
	t.Helper()
	adv := &config.L2Advertisement{
		Name: name, Pools: only(lists["pools"]),
		Services: keys(lists["services"]), Nodes: only(lists["nodes"]), Interfaces: lists["interfaces"],
	}
	for _, p := range lists["prefer"] {
		weight, nodes, _ := strings.Cut(p, ":")
		adv.Preferred = append(adv.Preferred, config.Preference{Weight: number(t, weight), Nodes: config.Only(strings.Split(nodes, "+")...)})
	}
	for _, d := range lists["failback"] {
		delay := duration(t, d)
		adv.FailbackDelay = &delay
	}
	for _, d := range lists["refresh"] {
		adv.RefreshInterval = duration(t, d)
	}
	return adv
}

func bgpAdvertisement(t *testing.T, name string, lists map[string][]string, flags []string) *config.BGPAdvertisement {
	t.Helper()
	adv := &config.BGPAdvertisement{
		Name: name, Pools: only(lists["pools"]),
		Services: keys(lists["services"]), Nodes: only(lists["nodes"]), Peers: only(lists["peers"]),
		WeightByEndpoints: slices.Contains(flags, "weight"),
	}
	one := func(key string) (int, bool) {
		if len(lists[key]) == 0 {
			return 0, false
		}
		return number(t, lists[key][0]), true
	}
	adv.AggregationLength, _ = one("length")
	adv.AggregationV6, _ = one("length6")
	if n, ok := one("localpref"); ok {
		adv.Attributes.LocalPref = config.Some(uint32(n))
	}
	if n, ok := one("med"); ok {
		adv.Attributes.MED = config.Some(uint32(n))
	}
	prepend, _ := one("prepend")
	adv.Attributes.Prepend = uint8(prepend)
	for _, c := range lists["communities"] {
		community, err := config.ParseCommunity(c)
		if err != nil {
			t.Fatal(err)
		}
		adv.Attributes.Communities = adv.Attributes.Communities.Union(config.CommunitiesOf(community))
	}
	return adv
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// parseNode reads: node NAME [exclude] [drain] [out-of-service] [cordoned] [network-unavailable] [draining] [restarting] [silent] [unknown] [IF=SUBNET,...] [IF:down=...]
func parseNode(t *testing.T, f *Facts, name string, words []string) {
	lists, flags := options(words)
	m := Member{Node: name, Claims: map[netip.Addr]Claim{}}
	for _, ifi := range slices.Sorted(maps.Keys(lists)) {
		base, down := strings.CutSuffix(ifi, ":down")
		i := config.Interface{Name: base, Up: !down, MAC: "mac-of-" + name + "-" + base}
		for _, s := range lists[ifi] {
			if s != "none" {
				i.Subnets = append(i.Subnets, netip.MustParsePrefix(s))
			}
		}
		m.Interfaces = append(m.Interfaces, i)
	}
	n := &config.Node{Name: name, Ready: true}
	for _, flag := range flags {
		switch flag {
		case "exclude":
			n.ExcludeLB = true
		case "drain":
			n.Drain = true
		case "not-ready":
			n.Ready = false
		case "out-of-service":
			n.OutOfService = true
		case "cordoned":
			n.Unschedulable = true
		case "network-unavailable":
			n.NetworkUnavailable = true
		case "draining":
			m.State = Draining
		case "restarting":
			m.State = Restarting
		case "silent", "unknown":
		default:
			t.Fatalf("node %s: unknown word %q", name, flag)
		}
	}
	if !slices.Contains(flags, "unknown") {
		f.Config.Nodes = append(f.Config.Nodes, n)
	}
	if !slices.Contains(flags, "silent") {
		f.Members = append(f.Members, m)
	}
}

func service(t *testing.T, name string, lists map[string][]string, flags []string) *config.Service {
	ns, n, _ := strings.Cut(name, "/")
	s := &config.Service{Key: config.Key{Namespace: ns, Name: n}}
	for _, a := range lists["ip"] {
		s.Ingress = append(s.Ingress, netip.MustParseAddr(a))
	}
	if slices.Contains(flags, "local") {
		s.TrafficPolicy = config.Local
	}
	if move := lists["move"]; len(move) == 3 { // from, to, for how long still
		s.Move = config.Move{From: move[0], To: move[1], Until: epoch.Add(duration(t, move[2]))}
	}
	if !slices.Contains(flags, "new") {
		s.Announced = config.Condition{Status: "True", Reason: string(Announced)}
	}
	if slices.Contains(flags, "disputed") {
		s.Announced = config.Condition{Status: "False", Reason: string(AddressConflict), Message: InUse(s.Ingress[0], "02:00:00:00:00:99")}
	}
	s.Endpoints.Ready, s.Endpoints.Serving = counts(lists["ready"]), counts(lists["serving"])
	return s
}

func counts(nodes []string) map[string]int {
	out := map[string]int{}
	for _, n := range nodes {
		if n == "nowhere" {
			n = ""
		}
		out[n]++
	}
	return out
}

func options(words []string) (lists map[string][]string, flags []string) {
	lists = map[string][]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			lists[k] = strings.Split(v, ",")
		} else {
			flags = append(flags, w)
		}
	}
	return lists, flags
}

func only(names []string) config.Selection[string] {
	if names == nil {
		return config.All[string]()
	}
	return config.Only(names...)
}

func keys(names []string) config.Selection[config.Key] {
	if names == nil {
		return config.All[config.Key]()
	}
	var out []config.Key
	for _, n := range names {
		ns, name, _ := strings.Cut(n, "/")
		out = append(out, config.Key{Namespace: ns, Name: name})
	}
	return config.Only(out...)
}

func ranges(t *testing.T, words []string) []config.Range {
	t.Helper()
	var out []config.Range
	for _, w := range words {
		from, to, ok := strings.Cut(w, "-")
		if !ok {
			to = from
		}
		out = append(out, config.Range{From: netip.MustParseAddr(from), To: netip.MustParseAddr(to)})
	}
	return out
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
