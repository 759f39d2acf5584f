package member

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
)

// book is what one speaker knows of all: itself, the members, and the counters of claims. It has no lock, clock or socket.
type book struct {
	node   string
	addr   netip.AddrPort // own, as the others see it
	self   *record        // nil until something was published
	past   history
	peers  map[string]*peer
	memory decide.Memory
	seeds  map[netip.AddrPort]bool

	wants  map[string]bool    // live peers whose record is missing or behind
	outrun map[string]*record // live peers that spoke, but whose earlier run counts as newer: with that run's record, to tell them
	dirty  bool               // the view must be built anew
	turned bool               // a peer came or went, or is in another state than before

	former *record   // of an earlier run of this speaker, as others knew it when this one came; nil when they knew none
	heard  time.Time // when the whole state of another speaker was heard last

	trouble string // why gossip does not run
}

// peer is another speaker that was ever seen.
type peer struct {
	addr netip.AddrPort
	live bool    // by the failure detector
	lost bool    // not live, though memberlist has not found out yet
	rec  *record // nil: not heard since it came (back) to life
	seen stamp   // newest ever seen, so that hearsay does not bring back what was outlived

	absent  bool      // not live, but it restarts and is waited for
	doubted bool      // it is absent only because its death is doubted: see lateness
	since   time.Time // since when it restarts; zero when it does not
	gone    time.Time // when it was lost
	until   time.Time // how long it is waited for at most
	came    time.Time // when another run of it than before was heard; zero: none was
	over    stamp     // newest ever seen when it was given up: none of that counts again
}

// history remembers which version of the own record changed what, to tell the others no more than they need.
type history struct {
	since   uint64                // versions up to this one can no longer be told apart
	links   uint64                // version that last changed the interfaces
	changes map[netip.Addr]uint64 // version that last set or dropped a claim
}

// maxHistory bounds the changes that are remembered; beyond, the whole record is sent.
const maxHistory = 4096

func newBook(node string, addr netip.AddrPort, run uint64) *book {
	return &book{
		node:   node,
		addr:   addr,
		peers:  map[string]*peer{},
		memory: decide.Memory{},
		seeds:  map[netip.AddrPort]bool{},
		wants:  map[string]bool{},
		outrun: map[string]*record{},
		past:   history{changes: map[netip.Addr]uint64{}},
		self:   &record{stamp: stamp{run: run}, member: decide.Member{Node: node}},
		dirty:  true,
	}
}

// said reports whether this speaker has published anything.
func (b *book) said() bool { return b.self.version > 0 }

// publish replaces what this speaker says of itself; it reports whether that is news.
func (b *book) publish(m decide.Member) bool {
	m.Node = b.node
	old := b.self
	if b.said() && old.member.State == m.State && old.member.Started == m.Started && maps.Equal(old.member.Claims, m.Claims) &&
		sameInterfaces(old.member.Interfaces, m.Interfaces) {
		return false
	}
	m.Claims = maps.Clone(m.Claims) // the caller may go on with its map
	m.Interfaces = slices.Clone(m.Interfaces)
	rec := &record{stamp: old.stamp, member: m}
	rec.epoch = max(rec.epoch, m.Started)
	rec.version++
	b.noteChanges(old, rec)
	b.self = rec
	b.remember(m.Claims)
	b.dirty = true
	return true
}

func (b *book) noteChanges(old, rec *record) {
	if old.epoch != rec.epoch || len(b.past.changes) > maxHistory {
		b.past = history{since: rec.version, changes: map[netip.Addr]uint64{}}
		return
	}
	if !sameInterfaces(old.member.Interfaces, rec.member.Interfaces) {
		b.past.links = rec.version
	}
	for a, c := range rec.member.Claims {
		if was, ok := old.member.Claims[a]; !ok || was != c {
			b.past.changes[a] = rec.version
		}
	}
	for a := range old.member.Claims {
		if _, ok := rec.member.Claims[a]; !ok {
			b.past.changes[a] = rec.version
		}
	}
}

// maxMemory bounds the counters that are remembered for addresses nobody claims.
const maxMemory = 1 << 17

// remember raises the counters of addresses.
func (b *book) remember(claims map[netip.Addr]decide.Claim) {
	for a, c := range claims {
		if c.Counter > b.memory[a] {
			b.memory[a] = c.Counter
			b.dirty = true
		}
	}
	if len(b.memory) > maxMemory {
		b.forget()
	}
}

// forget drops the counters of addresses that no live member claims.
func (b *book) forget() {
	keep := decide.Memory{}
	for _, rec := range b.records() {
		for a := range rec.member.Claims {
			keep[a] = b.memory[a]
		}
	}
	b.memory = keep
}

// backlog is how many versions a message reaches back, if there is room, so that a receiver that missed some still understands it.
const backlog = 16

// news returns the message that tells the others the latest version, in at most limit bytes if that is possible: the whole record if it
// fits, else what changed lately. packed is false when it could not be made to fit.
func (b *book) news(limit int) (msg []byte, packed bool) {
	full := encodeFull(b.self)
	if len(full) <= limit {
		return full, true
	}
	for back := uint64(backlog); back > 0; back /= 4 {
		base := b.self.version - min(back, b.self.version)
		if base < b.past.since || base == 0 {
			continue
		}
		if msg := encodeDelta(b.delta(base)); len(msg) <= limit {
			return msg, true
		}
	}
	base := b.self.version - 1
	if base <= b.past.since {
		return full, false
	}
	if msg := encodeDelta(b.delta(base)); len(msg) < len(full) {
		return msg, false
	}
	return full, false
}

// delta returns what changed in the own record after a version.
func (b *book) delta(base uint64) *delta {
	m := &b.self.member
	d := &delta{node: b.node, stamp: b.self.stamp, base: base, state: m.State, started: m.Started, set: map[netip.Addr]decide.Claim{}}
	if b.past.links > base {
		d.hasLinks, d.interfaces = true, m.Interfaces
	}
	for a, version := range b.past.changes {
		if version <= base {
			continue
		}
		if c, ok := m.Claims[a]; ok {
			d.set[a] = c
		} else {
			d.dropped = append(d.dropped, a)
		}
	}
	return d
}

// alive notes that the failure detector sees a peer.
func (b *book) alive(name string, addr netip.AddrPort) {
	if name == b.node {
		b.addr = addr
		return
	}
	p := b.peers[name]
	if p == nil {
		p = &peer{}
		b.peers[name] = p
	}
	if p.rec == nil || p.absent {
		b.wants[name] = true
	}
	p.addr, p.live, p.lost, p.absent, p.doubted = addr, true, false, false, false
	b.dirty, b.turned = true, true
}

// dead notes that the failure detector lost a peer, or that it left: its claims are void, their counters stay. One that was about to restart
// is waited for; and, if late says that this very process ran late, so that it may have missed a sign of life, any other for a moment.
func (b *book) dead(name string, late bool, now time.Time) {
	p := b.peers[name]
	if p == nil {
		return
	}
	delete(b.wants, name)
	p.live, p.lost = false, false
	if p.absent = p.waitFor(late, now); !p.absent {
		b.void(p)
	}
	b.dirty, b.turned = true, true
}

// take applies a record of a peer; firsthand says that the peer itself sent it. It reports whether that was news.
func (b *book) take(rec *record, firsthand bool, now time.Time) bool {
	if rec.member.Node == b.node {
		b.echo(rec)
		return false
	}
	b.remember(rec.member.Claims)
	p := b.peers[rec.member.Node]
	if p == nil || !p.live {
		return b.part(p, rec)
	}
	if p.rec != nil && !rec.newer(p.rec.stamp) {
		if firsthand && rec.run != p.rec.run {
			b.outrun[rec.member.Node] = p.rec
		}
		return false
	}
	restarted := firsthand && p.rec == nil && rec.run != p.seen.run // with a clock that went back, perhaps
	if p.seen.newer(rec.stamp) && !restarted {
		return false
	}
	if p.rec != nil && p.rec.run != rec.run {
		p.came = now
	}
	b.turned = b.turned || !p.says(rec.member.State)
	p.rec, p.seen = rec, rec.stamp
	p.note(now)
	delete(b.wants, rec.member.Node)
	b.dirty = true
	return true
}

// echo handles what others say of this very node: an earlier run of it, whose counters are worth keeping, and which may have had a clock
// that was ahead of ours. Then this run must count from there to be believed.
func (b *book) echo(rec *record) {
	if rec.run == b.self.run {
		return
	}
	b.remember(rec.member.Claims)
	b.recall(rec)
	if rec.epoch < b.self.epoch {
		return
	}
	self := *b.self
	self.epoch = rec.epoch + 1
	if b.said() {
		self.version++
		b.past = history{since: self.version, changes: map[netip.Addr]uint64{}}
		b.dirty = true
	}
	b.self = &self
}

// takeDelta applies a delta. It reports whether that was news; a gap makes the peer wanted.
func (b *book) takeDelta(d *delta, now time.Time) bool {
	for a, c := range d.set {
		if c.Counter > b.memory[a] && d.node != b.node {
			b.memory[a] = c.Counter
			b.dirty = true
		}
	}
	p := b.peers[d.node]
	if d.node == b.node || p == nil || !p.live || p.seen.newer(d.stamp) || (p.rec != nil && !d.newer(p.rec.stamp)) {
		return false
	}
	rec := d.apply(p.rec)
	if rec == nil {
		b.wants[d.node] = true
		return false
	}
	return b.take(rec, true, now)
}

// takeDigest reports whether the digest tells of something newer than is known; then the peer is wanted.
func (b *book) takeDigest(d digest) bool {
	p := b.peers[d.node]
	if d.node == b.node || p == nil || !p.live || (p.rec != nil && !d.newer(p.rec.stamp)) {
		return false
	}
	b.wants[d.node] = true
	return true
}

// takeBundle applies all that a push/pull brought, at once: so a node that meets the other half of a healed split learns of all its
// members and claims in one step, and does not take in between what is theirs.
func (b *book) takeBundle(s bundle, now time.Time) {
	said := make(map[string]*record, len(s.absent))
	b.found(s, now)
	for _, rec := range s.records {
		b.take(rec, false, now)
		said[rec.member.Node] = rec
	}
	for _, a := range s.absent {
		b.adopt(a, said[a.node], now)
	}
	b.heard, b.dirty = now, true
	for a, n := range s.memory {
		if n > b.memory[a] {
			b.memory[a] = n
			b.dirty = true
		}
	}
}

// bundle returns what a push/pull tells.
func (b *book) bundle(now time.Time) bundle {
	s := bundle{records: b.records(), memory: maps.Clone(b.memory), absent: b.absences(now)}
	for _, rec := range s.records {
		for a := range rec.member.Claims {
			delete(s.memory, a)
		}
	}
	return s
}

// livePeers returns the names and addresses of the other speakers that the failure detector sees.
func (b *book) livePeers() map[string]netip.AddrPort {
	out := make(map[string]netip.AddrPort, len(b.peers))
	for name, p := range b.peers {
		if p.live {
			out[name] = p.addr
		}
	}
	return out
}

// records returns the records of all members that are live or waited for, the own one included if there is one.
func (b *book) records() []*record {
	var out []*record
	if b.said() {
		out = append(out, b.self)
	}
	for _, p := range b.peers {
		if p.present() {
			out = append(out, p.rec)
		}
	}
	return out
}

// seed replaces the addresses where speakers should run; it reports whether they changed.
func (b *book) seed(seeds []netip.AddrPort) bool {
	next := make(map[netip.AddrPort]bool, len(seeds))
	for _, s := range seeds {
		next[netip.AddrPortFrom(s.Addr().Unmap(), s.Port())] = true
	}
	if maps.Equal(next, b.seeds) {
		return false
	}
	b.seeds = next
	b.prune()
	b.dirty = true
	return true
}

// prune forgets dead peers at addresses where, as far as is known, no speaker is meant to run any more.
func (b *book) prune() {
	if len(b.seeds) == 0 {
		return
	}
	maps.DeleteFunc(b.peers, func(_ string, p *peer) bool { return !p.live && !p.lost && !p.absent && !b.seeds[p.addr] })
}

// lack is a seed that is no live member.
type lack struct {
	addr netip.AddrPort
	lost bool // it was one
}

// missing returns the seeds that are no live members; before anybody was joined, all.
func (b *book) missing(joined bool) []lack {
	lost := map[netip.AddrPort]bool{b.addr: false}
	for _, p := range b.peers {
		if joined {
			lost[p.addr] = !p.live
		}
	}
	var out []lack
	for seed := range b.seeds {
		if wasLost, known := lost[seed]; !known || wasLost {
			out = append(out, lack{seed, wasLost})
		}
	}
	return out
}

// view returns an immutable picture of the book.
func (b *book) view() *View {
	v := &View{
		Claims: maps.Clone(b.memory), Alive: 1 + len(b.livePeers()), Trouble: b.trouble,
		Heard: b.heard, Former: b.formerClaims(),
	}
	lost := maps.Clone(b.seeds)
	delete(lost, b.addr)
	for _, p := range b.peers {
		delete(lost, p.addr)
	}
	v.Known = 1 + len(b.peers) + len(lost)
	if b.said() {
		v.Members = append(v.Members, b.self.member)
	}
	for _, p := range b.peers {
		if p.present() {
			v.Members = append(v.Members, p.word())
		}
		if p.absent && !p.live {
			v.Awaited++
		}
	}
	for name, p := range b.peers {
		if !p.live && !p.absent {
			v.Missing = append(v.Missing, name)
		}
	}
	slices.Sort(v.Missing)
	slices.SortFunc(v.Members, func(a, b decide.Member) int { return strings.Compare(a.Node, b.Node) })
	return v
}
