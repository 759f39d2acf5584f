package member

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/decide"
)

// deafness makes nodes silent to knocks, for some speakers or all, though their speakers live.
type deafness struct {
	mu   sync.Mutex
	deaf map[string]map[netip.AddrPort]bool // who knocks, at whom
}

func (d *deafness) prepare(m *Member) {
	m.knock = func(to netip.AddrPort, times int, every time.Duration) sign {
		d.mu.Lock()
		deaf := d.deaf[m.opt.Node][to]
		d.mu.Unlock()
		if deaf {
			<-time.After(time.Duration(times) * every)
			return silence
		}
		return knock(to, times, every)
	}
}

func (d *deafness) set(to *run, for_ ...*run) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = map[string]map[netip.AddrPort]bool{}
	for _, r := range for_ {
		d.deaf[r.opt.Node] = map[netip.AddrPort]bool{to.addr: true}
	}
}

// TestSilenceIsConfirmed: a node that several speakers find silent is lost to them before memberlist finds it dead, and is back when it is heard; one
// that a single speaker cannot reach stays.
func TestSilenceIsConfirmed(t *testing.T) {
	var d deafness
	all := clusterWith(t, 4, d.prepare)
	all[3].Publish(self(3, manyClaims(10, 4)))
	for _, r := range all[:3] {
		r.waitFor(t, "claims", func(v *View) bool { return len(claimsOf(v, "node-03")) == 10 })
		r.awaitLog(t, "lifeline is open")
	}

	d.set(all[3], all[0])
	all[0].overdue <- all[3].addr
	all[0].awaitLog(t, "a speaker does not answer")
	for range 20 { // one is not enough, however often
		all[0].overdue <- all[3].addr
		<-time.After(knockEvery)
	}
	for _, r := range all[:3] {
		if strings.Contains(r.log.String(), silentReason) {
			t.Fatalf("%s gave a node up that only node-00 does not reach", r.opt.Node)
		}
	}

	<-time.After(findingCounts) // what was found counts no longer, and does not keep anybody from looking again
	d.set(all[3], all[:3]...)
	all[1].overdue <- all[3].addr
	for _, r := range all[:3] {
		r.awaitLog(t, silentReason)
		r.awaitLog(t, "speaker is heard again")
		r.waitFor(t, "its claims again", func(v *View) bool { return v.Alive == 4 && len(claimsOf(v, "node-03")) == 10 })
	}
}

// TestOneOfTwo: where there is nobody else to ask, one speaker's finding is enough.
func TestOneOfTwo(t *testing.T) {
	var d deafness
	all := clusterWith(t, 2, d.prepare)
	all[0].awaitLog(t, "lifeline is open")
	d.set(all[1], all[0])
	all[0].overdue <- all[1].addr
	all[0].awaitLog(t, silentReason)
}

// TestRestarterIsNotDoubted: a speaker that has said that it restarts ends, and is waited for.
func TestRestarterIsNotDoubted(t *testing.T) {
	all := cluster(t, 3)
	for _, r := range all {
		r.awaitLog(t, "lifeline is open")
	}
	goes(t, all, 1, manyClaims(10, 9))
	for _, r := range []*run{all[0], all[2]} {
		r.waitFor(t, "end of the process", func(v *View) bool { return v.Alive == 2 })
		if s, ok := stateOf(r.View(), "node-01"); !ok || s != decide.Restarting || strings.Contains(r.log.String(), refusedReason) {
			t.Errorf("%s does not wait", r.opt.Node)
		}
	}
}

// TestLost: the book of one that is lost, and heard again or found dead.
func TestLost(t *testing.T) {
	now := time.Unix(1000, 0)
	a, b := newBook("a", port(1), 1), newBook("b", port(2), 2)
	b.publish(decide.Member{Started: 5, Claims: claim("192.0.2.9", 7)})
	a.alive("b", port(2))
	a.take(b.self, true, now)
	if a.lose("c", now) || !a.lose("b", now) || a.lose("b", now) {
		t.Error("losing must work once, and only with peers")
	}
	if v := a.view(); len(v.Members) != 0 || v.Alive != 1 || len(v.Missing) != 1 || v.Claims[netip.MustParseAddr("192.0.2.9")] != 7 {
		t.Errorf("lost: %+v", v)
	}
	if a.revive(port(3)) != "" || a.revive(port(2)) != "b" || a.revive(port(2)) != "" {
		t.Error("one that is lost must come back once")
	}
	if !a.wants["b"] {
		t.Error("its record is not asked for")
	}
	a.take(b.self, true, now) // unchanged
	if v := a.view(); len(v.Members) != 1 || v.Alive != 2 {
		t.Errorf("back: %+v", v)
	}
	a.lose("b", now)
	a.takeBundle(bundle{records: []*record{b.self}}, now.Add(noticed-1)) // from another speaker, which has not noticed yet
	if v := a.view(); len(v.Members) != 0 || v.Alive != 1 {
		t.Errorf("old news bring it back: %+v", v)
	}
	next := newBook("b", port(2), 3)
	next.self.epoch = b.self.epoch + 1
	a.takeBundle(bundle{records: []*record{next.self}}, now)
	if v := a.view(); len(v.Members) != 1 || v.Alive != 2 {
		t.Errorf("another run of it is not believed: %+v", v)
	}
	a, b = newBook("a", port(1), 1), newBook("b", port(2), 2)
	b.publish(decide.Member{Started: 5, Claims: claim("192.0.2.9", 7)})
	a.alive("b", port(2))
	a.take(b.self, true, now)
	a.lose("b", now)
	now = now.Add(noticed)
	a.takeBundle(bundle{records: []*record{b.self}}, now) // another speaker, or b itself by a stream, says that it lives
	if v := a.view(); len(v.Members) != 1 || v.Alive != 2 || v.Members[0].Claims[netip.MustParseAddr("192.0.2.9")].Counter != 7 {
		t.Errorf("a bundle does not bring it back: %+v", v)
	}
	a.lose("b", now)
	a.dead("b", false, now)
	if a.revive(port(2)) != "" {
		t.Error("one that is dead was revived")
	}
}
