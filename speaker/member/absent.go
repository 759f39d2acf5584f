package member

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
)

// A speaker that says that it restarts is waited for: its claims stand though its process is gone, for at most a grace period and as long as
// its node is heard to live.

// restartGrace bounds how long a speaker may take to restart.
const restartGrace = 120 * time.Second

// A speaker that is back before the failure detector has noticed that it was gone may still be found dead by who suspected its earlier run: the
// new one refutes that in a moment.
const (
	fresh   = 5 * time.Second // so long after a new run was first heard a death may be that of the run before
	refutes = 2 * time.Second // and so long it may take until the new one has said so
)

// doubts is for how long a death is doubted that was found while this process ran late. A speaker that lives refutes it in that time; where
// nothing listens at the gossip port any more, or nobody answers, there is no doubt.
const doubts = 500 * time.Millisecond

// noticed is how long after a loss the other speakers know of it, too, if it is none: until then what they pass on may be from before.
const noticed = 500 * time.Millisecond

// restarting reports whether a peer has said that it restarts, and has not said anything else since.
func (p *peer) restarting() bool { return p.says(decide.Restarting) }

// says reports whether a peer's last word was that it is in a state.
func (p *peer) says(s decide.State) bool { return p.rec != nil && p.rec.member.State == s }

// present reports whether what a peer said stands.
func (p *peer) present() bool { return p.rec != nil && (p.live || p.absent) }

// note takes down since when a peer restarts.
func (p *peer) note(now time.Time) {
	switch {
	case !p.restarting():
		p.since = time.Time{}
	case p.since.IsZero():
		p.since, p.until = now, now.Add(restartGrace)
	}
}

// waitFor reports whether a peer that was found dead is waited for, and until when.
func (p *peer) waitFor(late bool, now time.Time) bool {
	switch {
	case p.rec == nil || p.rec.member.State == decide.Draining:
		return false
	case p.restarting() && now.Before(p.until):
		return true
	case !p.came.IsZero() && now.Sub(p.came) < fresh:
		p.until = now.Add(refutes)
		return true
	case late:
		p.until, p.doubted = now.Add(doubts), true
		return true
	}
	return false
}

// giveUp ends the wait for a peer.
func (b *book) giveUp(name string) bool {
	p := b.peers[name]
	if p == nil || !p.absent {
		return false
	}
	b.void(p)
	return true
}

// void drops what a peer said.
func (b *book) void(p *peer) {
	p.absent, p.doubted, p.rec, p.since, p.came = false, false, nil, time.Time{}, time.Time{}
	p.over = p.seen
	b.prune()
	b.dirty, b.turned = true, true
}

// lose notes that a live peer is gone that memberlist takes for alive yet; it reports whether that is news. One that restarts is waited for.
func (b *book) lose(name string, now time.Time) bool {
	p := b.peers[name]
	if p == nil || !p.live || p.restarting() {
		return false
	}
	delete(b.wants, name)
	p.live, p.lost, p.gone = false, true, now
	b.void(p)
	return true
}

// found takes the loss of those back whom another speaker sees alive: memberlist does not tell of them, as it never missed them, and without
// what they claim this speaker would take for free what is not. Who has just been lost is not back, unless as another run: the other may
// not have noticed yet.
func (b *book) found(s bundle, now time.Time) {
	for _, rec := range s.records {
		p := b.peers[rec.member.Node]
		waited := slices.ContainsFunc(s.absent, func(a absence) bool { return a.node == rec.member.Node })
		if p != nil && p.lost && !waited && (now.Sub(p.gone) >= noticed || rec.epoch > p.over.epoch) {
			b.alive(rec.member.Node, p.addr)
		}
	}
}

// revive takes the loss of the peer at an address back; it returns its name, or "" when none is lost there.
func (b *book) revive(addr netip.AddrPort) string {
	for name, p := range b.peers {
		if p.lost && p.addr == addr {
			b.alive(name, addr)
			return name
		}
	}
	return ""
}

// part ends the wait for a peer that left after all, and whose word of that came after it had left.
func (b *book) part(p *peer, rec *record) bool {
	if p == nil || !p.absent || rec.member.State != decide.Draining || !rec.newer(p.seen) {
		return false
	}
	p.seen = rec.stamp
	b.void(p)
	return true
}

// adopt waits for a peer whose process was gone before this speaker came: another waits for it.
func (b *book) adopt(a absence, rec *record, now time.Time) {
	if a.node == b.node || rec == nil || rec.member.State != decide.Restarting || a.age >= restartGrace {
		return
	}
	p := b.peers[a.node]
	if p == nil {
		p = &peer{addr: a.addr}
		b.peers[a.node] = p
	}
	if p.live || p.absent || !rec.newer(p.over) || p.seen.newer(rec.stamp) {
		return
	}
	p.absent, p.rec, p.seen, p.since = true, rec, rec.stamp, now.Add(-a.age)
	p.until = p.since.Add(restartGrace)
	b.dirty = true
}

// restarters returns who is waited for, and where to look whether the node lives. With those that are about to go, who are alive yet.
func (b *book) restarters() map[string]restarter {
	var out map[string]restarter
	for name, p := range b.peers {
		if p.absent || p.live && p.restarting() {
			if out == nil {
				out = map[string]restarter{}
			}
			out[name] = restarter{addr: p.addr, absent: p.absent, doubted: p.doubted, until: p.until}
		}
	}
	return out
}

// restarter is a peer that restarts.
type restarter struct {
	addr    netip.AddrPort
	absent  bool      // its process is gone
	doubted bool      // or is it?
	until   time.Time // how long to wait at most
}

// absences says for a bundle who is waited for.
func (b *book) absences(now time.Time) []absence {
	var out []absence
	for name, p := range b.peers {
		if p.absent && p.restarting() {
			out = append(out, absence{node: name, addr: p.addr, age: now.Sub(p.since)})
		}
	}
	return out
}

// word returns what a peer that is present is taken to say: one that is waited for restarts, whatever it said last.
func (p *peer) word() decide.Member {
	m := p.rec.member
	if p.absent {
		m.State = decide.Restarting
	}
	return m
}

// recall keeps what an earlier run of this very speaker claimed, as others know it, until this run has said something itself.
func (b *book) recall(rec *record) {
	if b.said() || rec.member.State == decide.Draining || b.former != nil && !rec.newer(b.former.stamp) {
		return
	}
	b.former = rec
	b.dirty = true
}

// formerClaims returns the claims of an earlier run that nobody has given up; nil without any.
func (b *book) formerClaims() map[netip.Addr]decide.Claim {
	if b.former == nil {
		return nil
	}
	return maps.Clone(b.former.member.Claims)
}
