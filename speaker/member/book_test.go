package member

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/speaker/decide"
)

func port(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 7947)
}

// TestBooksAgree lets books publish at random and exchange messages that are lost, repeated and reordered; after a last exchange without
// loss all must say the same.
func TestBooksAgree(t *testing.T) {
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(seed, 5))
		const n = 4
		books := make([]*book, n)
		said := make([]decide.Member, n)
		for i := range books {
			books[i] = newBook(fmt.Sprint("node-", i), port(i), uint64(i))
			for k := range n {
				books[i].alive(fmt.Sprint("node-", k), port(k))
			}
		}
		var air []any
		for range 300 {
			i := r.IntN(n)
			said[i] = change(r, said[i], fmt.Sprint("node-", i))
			books[i].publish(said[i])
			msg, _ := books[i].news(200 + r.IntN(1000))
			air = append(air, must(t, msg))
			for range 3 { // some arrive late, twice or never
				k := r.IntN(len(air))
				deliver(books[r.IntN(n)], air[k])
			}
			if r.IntN(10) == 0 {
				deliver(books[r.IntN(n)], must(t, encodeSync(books[r.IntN(n)].bundle(time.Now()))))
			}
		}
		for i := range books {
			for k := range books {
				deliver(books[i], digest{fmt.Sprint("node-", k), books[k].self.stamp})
				if books[i].wants[fmt.Sprint("node-", k)] {
					deliver(books[i], must(t, encodeFull(books[k].self)))
				}
			}
		}
		for i := range books {
			v := books[i].view()
			if diff := cmp.Diff(books[0].view().Members, v.Members, compare); diff != "" {
				t.Fatalf("seed %d: node 0 and node %d differ:\n%s", seed, i, diff)
			}
			for k, m := range v.Members {
				if diff := cmp.Diff(said[k], m, compare); diff != "" {
					t.Fatalf("seed %d: node %d of node %d:\n%s", seed, i, k, diff)
				}
			}
		}
	}
}

func change(r *rand.Rand, m decide.Member, node string) decide.Member {
	if m.Node == "" {
		return randomMember(r, node, 30)
	}
	m.Claims = maps.Clone(m.Claims)
	maps.Copy(m.Claims, randomClaims(r, 3))
	for a := range m.Claims {
		if r.IntN(10) == 0 {
			delete(m.Claims, a)
		}
	}
	if r.IntN(10) == 0 {
		m.Interfaces = randomInterfaces(r)
	}
	if r.IntN(20) == 0 {
		m.State = decide.State(r.IntN(3))
	}
	return m
}

func must(t *testing.T, raw []byte) any {
	t.Helper()
	msg, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func deliver(b *book, msg any) bool {
	m := &Member{book: b, asks: map[string]bool{}}
	return m.accept(msg)
}

func claim(a string, n uint64) map[netip.Addr]decide.Claim {
	return map[netip.Addr]decide.Claim{netip.MustParseAddr(a): {Counter: n}}
}

func TestDeadAreDroppedButTheirCountersStay(t *testing.T) {
	b := newBook("a", port(1), 1)
	b.seed([]netip.AddrPort{port(1), port(2), port(3)})
	b.publish(decide.Member{Started: 1})
	b.alive("b", port(2))
	other := newBook("b", port(2), 2)
	other.publish(decide.Member{Started: 5, Claims: claim("192.0.2.9", 7)})
	deliver(b, must(t, encodeFull(other.self)))
	if v := b.view(); len(v.Members) != 2 || v.Known != 3 || v.Alive != 2 {
		t.Fatalf("with b alive: %+v", v)
	}
	b.dead("b", false, time.Now())
	v := b.view()
	if len(v.Members) != 1 || v.Members[0].Node != "a" || v.Known != 3 || v.Alive != 1 {
		t.Errorf("after b died: %+v", v)
	}
	if n := v.Claims[netip.MustParseAddr("192.0.2.9")]; n != 7 {
		t.Errorf("counter after its claimer died = %d, want 7", n)
	}
	// What is still under way about the dead must not bring it back.
	deliver(b, must(t, encodeFull(other.self)))
	if v := b.view(); len(v.Members) != 1 {
		t.Errorf("a late message revived the dead: %+v", v)
	}
	// Alive again, it is not believed until it was heard again.
	b.alive("b", port(2))
	if v := b.view(); len(v.Members) != 1 || v.Alive != 2 || !b.wants["b"] {
		t.Errorf("alive again, not heard yet: %+v, wants %v", v, b.wants)
	}
	deliver(b, must(t, encodeFull(other.self)))
	if v := b.view(); len(v.Members) != 2 {
		t.Errorf("heard again: %+v", v)
	}
	// Gone for good: no seed, no life.
	b.dead("b", false, time.Now())
	b.seed([]netip.AddrPort{port(1), port(3)})
	if v := b.view(); v.Known != 2 {
		t.Errorf("Known = %d after b was removed, want 2", v.Known)
	}
}

// TestRestartWithAClockThatWentBack: a new run must be believed though its start time is before that of the run it follows.
func TestRestartWithAClockThatWentBack(t *testing.T) {
	a := newBook("a", port(1), 1)
	a.alive("b", port(2))
	first := newBook("b", port(2), 2)
	first.publish(decide.Member{Started: 1000, Claims: claim("192.0.2.9", 7)})
	deliver(a, must(t, encodeFull(first.self)))

	second := newBook("b", port(2), 3)
	second.publish(decide.Member{Started: 10})
	deliver(a, must(t, encodeFull(second.self)))
	if len(a.peers["b"].rec.member.Claims) == 0 {
		t.Fatal("the test is wrong: the second run should not be believed yet")
	}
	if a.outrun["b"] != a.peers["b"].rec {
		t.Error("the second run is not to be told of the first")
	}
	second.alive("a", port(1))
	deliver(second, must(t, encodeSync(a.bundle(time.Now())))) // the join
	deliver(a, must(t, encodeFull(second.self)))
	if rec := a.peers["b"].rec; len(rec.member.Claims) != 0 || rec.member.Started != 10 {
		t.Errorf("after the join a still believes the first run: %+v", rec)
	}
	if second.memory[netip.MustParseAddr("192.0.2.9")] != 7 {
		t.Error("the second run does not know the counter of the first")
	}
	// The same after a death, when nobody has the old record to give back.
	a.dead("b", false, time.Now().Add(time.Minute))
	a.alive("b", port(2))
	third := newBook("b", port(2), 4)
	third.publish(decide.Member{Started: 5})
	deliver(a, must(t, encodeFull(third.self)))
	if rec := a.peers["b"].rec; rec == nil || rec.run != 4 {
		t.Errorf("after a death the third run is not believed: %+v", rec)
	}
}

func TestNewsFitsAPacketOrIsADelta(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := newBook("a", port(1), 1)
	m := decide.Member{Started: 1, Claims: randomClaims(r, 1000)}
	b.publish(m)
	if msg, packed := b.news(1150); packed || msg[1] != kindFull {
		t.Errorf("first word: %d bytes, packed %v, kind %d", len(msg), packed, msg[1])
	}
	for i := range 40 {
		m.Claims = maps.Clone(m.Claims)
		m.Claims[netip.AddrFrom4([4]byte{172, 16, 0, byte(i)})] = decide.Claim{Counter: 1}
		b.publish(m)
		msg, packed := b.news(1150)
		if !packed || msg[1] != kindDelta || len(msg) > 1150 {
			t.Fatalf("change %d: %d bytes, packed %v, kind %d", i, len(msg), packed, msg[1])
		}
	}
	if b.publish(m) {
		t.Error("publishing the same again is news")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	b := newBook("a", port(1), 1)
	b.publish(decide.Member{Started: 1, Claims: claim("192.0.2.9", 3)})
	s := decide.Memory{}
	for i := range maxMemory {
		s[netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})] = 1
	}
	b.takeBundle(bundle{memory: s}, time.Now())
	b.remember(claim("192.0.2.10", 1))
	if len(b.memory) > maxMemory {
		t.Errorf("%d counters remembered", len(b.memory))
	}
	if b.memory[netip.MustParseAddr("192.0.2.9")] != 3 {
		t.Error("the counter of a claimed address was forgotten")
	}
}
