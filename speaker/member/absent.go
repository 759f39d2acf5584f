package member

import (
	"maps"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
)

// A speaker that says that it restarts is waited for: its claims stand though its process is gone, for at most a grace period and as long as
// its node is heard to live.

// restartGrace bounds how long a speaker may take to restart.
const restartGrace = 120 * time.Second

// restarting reports whether a peer has said that it restarts, and has not said anything else since.
func (p *peer) restarting() bool { return p.rec != nil && p.rec.member.State == decide.Restarting }

// present reports whether what a peer said stands.
func (p *peer) present() bool { return p.rec != nil && (p.live || p.absent) }

// note takes down since when a peer restarts.
func (p *peer) note(now time.Time) {
	switch {
	case !p.restarting():
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = now
	}
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
	p.absent, p.rec, p.since = false, nil, time.Time{}
	p.over = p.seen
	b.prune()
	b.dirty = true
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
	b.dirty = true
}

// absent returns who is waited for, and where to look whether the node lives. With those that are about to go, who are alive yet.
func (b *book) restarters() map[string]restarter {
	var out map[string]restarter
	for name, p := range b.peers {
		if p.restarting() && (p.live || p.absent) {
			if out == nil {
				out = map[string]restarter{}
			}
			out[name] = restarter{addr: p.addr, absent: p.absent, since: p.since}
		}
	}
	return out
}

// restarter is a peer that restarts.
type restarter struct {
	addr   netip.AddrPort
	absent bool // its process is gone
	since  time.Time
}

// absences says for a bundle who is waited for.
func (b *book) absences(now time.Time) []absence {
	var out []absence
	for name, p := range b.peers {
		if p.absent && p.rec != nil {
			out = append(out, absence{node: name, addr: p.addr, age: now.Sub(p.since)})
		}
	}
	return out
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
