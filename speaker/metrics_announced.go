package speaker

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/decide"
)

// Protocols as the labels of metrics have them.
const (
	byARP = "ARP"
	byNDP = "NDP"
	byBGP = "BGP"
)

// announcements tells what is announced: what was decided and is being done, too.
func (r reader) announcements() {
	addresses := map[string]map[netip.Addr]bool{byARP: {}, byNDP: {}, byBGP: {}}
	held := map[netip.Addr]bool{}
	for _, h := range r.opt.L2.Actual() {
		held[h.Address] = true
		addresses[neighbour(h.Address)][h.Address] = true
	}
	if d := r.decided.Load(); d != nil {
		told := tell(d.Routes, r.opt.BGP.Sessions())
		for _, page := range d.Verdicts {
			for i := range page {
				r.announced1(&page[i], held, told, addresses)
			}
		}
	}
	for protocol, of := range addresses {
		r.gauge(r.announced, len(of), protocol)
	}
}

// announced1 tells of one verdict.
func (r reader) announced1(v *decide.Verdict, held map[netip.Addr]bool, told telling, addresses map[string]map[netip.Addr]bool) {
	protocol := ""
	switch {
	case !v.Announce:
	case v.Protocol == decide.L2 && held[v.Addr]:
		protocol = neighbour(v.Addr)
	case v.Protocol == decide.BGP && told.of(v.Addr):
		protocol = byBGP
		addresses[byBGP][v.Addr] = true
	}
	if protocol != "" && r.opt.Announcements {
		r.gauge(r.announcement, 1, v.Service.Namespace, v.Service.Name, v.Addr.String(), protocol)
	}
}

// neighbour is the protocol by which hosts find an address on their segment.
func neighbour(a netip.Addr) string {
	if config.FamilyOf(a) == config.IPv4 {
		return byARP
	}
	return byNDP
}

// telling is what peers have been told of.
type telling struct {
	prefixes map[netip.Prefix]bool
	lengths  []int // of the prefixes, each once
}

// tell puts together which routes some peer has been told.
func tell(routes [][]decide.Route, sessions []config.Session) telling {
	hears := map[config.Family]map[string]bool{config.IPv4: {}, config.IPv6: {}}
	for _, s := range sessions {
		if s.State != string(bgp.Established) {
			continue
		}
		for f, n := range s.Advertised {
			hears[f][s.Peer] = n > 0
		}
	}
	t := telling{prefixes: map[netip.Prefix]bool{}}
	for _, page := range routes {
		for i := range page {
			t.hear(&page[i], hears[config.FamilyOf(page[i].Prefix.Addr())])
		}
	}
	return t
}

// hear takes a route in, given which peers hear of its family.
func (t *telling) hear(r *decide.Route, by map[string]bool) {
	if t.prefixes[r.Prefix] || !slices.ContainsFunc(r.Peers, func(peer string) bool { return by[peer] }) {
		return
	}
	t.prefixes[r.Prefix] = true
	if !slices.Contains(t.lengths, r.Prefix.Bits()) {
		t.lengths = append(t.lengths, r.Prefix.Bits())
	}
}

// of reports whether some peer has been told of an address.
func (t telling) of(a netip.Addr) bool {
	return slices.ContainsFunc(t.lengths, func(bits int) bool {
		p, err := a.Prefix(bits) // an error: longer than the address
		return err == nil && t.prefixes[p]
	})
}

// tally counts the addresses that this node came to answer for, by reason.
type tally struct {
	mu *sync.Mutex
	n  map[decide.Reason]uint64
}

func newTally() tally {
	n := map[decide.Reason]uint64{}
	for _, r := range []decide.Reason{decide.Elected, decide.TookOver, decide.Returned, decide.Moved, decide.Won} {
		n[r] = 0 // so that the first is seen as an increase
	}
	return tally{&sync.Mutex{}, n}
}

func (t tally) add(r decide.Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[r]++
}

func (t tally) all() map[decide.Reason]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.n)
}
