package member

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

var compare = cmp.Options{
	cmp.AllowUnexported(record{}, stamp{}, delta{}, digest{}, bundle{}, want{}, absence{}, word{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func randomClaims(r *rand.Rand, n int) map[netip.Addr]decide.Claim {
	out := map[netip.Addr]decide.Claim{}
	for range n {
		a := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))})
		if r.IntN(3) == 0 {
			a = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(r.IntN(256))})
		}
		out[a] = decide.Claim{Counter: r.Uint64N(1 << 20), Majority: r.IntN(2) == 0, Provisional: r.IntN(2) == 0}
		if c := out[a]; r.IntN(4) == 0 {
			c.To = "node-7"
			out[a] = c
		}
	}
	return out
}

func randomInterfaces(r *rand.Rand) []config.Interface {
	var out []config.Interface
	for i := range r.IntN(4) {
		ifi := config.Interface{Name: "eth" + string(rune('0'+i)), Index: r.IntN(100), Up: r.IntN(2) == 0}
		if r.IntN(2) == 0 {
			ifi.MAC = "02:00:00:00:00:0" + string(rune('0'+i))
		}
		for k := range r.IntN(3) {
			ifi.Subnets = append(ifi.Subnets, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(k), 0, 1}), 8+r.IntN(24)))
			ifi.Subnets = append(ifi.Subnets, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0x80, 15: 1}), 64))
		}
		out = append(out, ifi)
	}
	return out
}

func randomMember(r *rand.Rand, node string, claims int) decide.Member {
	return decide.Member{
		Node: node, State: decide.State(r.IntN(3)), Started: r.Int64(), Interfaces: randomInterfaces(r),
		Claims: randomClaims(r, claims),
	}
}

func TestCodecRoundTrip(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		rec := &record{stamp{r.Int64(), r.Uint64(), r.Uint64()}, randomMember(r, "node-1", r.IntN(30))}
		d := &delta{node: "node-2", stamp: stamp{1, 2, 9}, base: 3, state: decide.Draining, started: 77, set: randomClaims(r, 5)}
		if d.hasLinks = r.IntN(2) == 0; d.hasLinks {
			d.interfaces = randomInterfaces(r)
		}
		for a := range randomClaims(r, 5) {
			d.dropped = append(d.dropped, a)
		}
		s := bundle{records: []*record{rec, {member: decide.Member{Node: "x"}}}, memory: decide.Memory{netip.MustParseAddr("10.9.9.9"): 4}}
		if seed%2 == 0 {
			s.absent = []absence{{"x", netip.MustParseAddrPort("192.0.2.1:7947"), 1500 * time.Millisecond}, {"y", netip.MustParseAddrPort("[2001:db8::1]:1"), 0}}
		}
		for _, c := range []struct {
			raw  []byte
			want any
		}{
			{encodeFull(rec), rec},
			{encodeDelta(d), d},
			{encodeDigest(digest{"n", stamp{1, 2, 3}}), digest{"n", stamp{1, 2, 3}}},
			{encodeWant("me"), want{"me"}},
			{encodeLook("me", "you"), word{"me", "you", false}},
			{encodeSilent("me", "you"), word{"me", "you", true}},
			{encodeSync(s), s},
		} {
			got, err := decode(c.raw)
			if err != nil {
				t.Fatalf("seed %d: %T: %v", seed, c.want, err)
			}
			if diff := cmp.Diff(c.want, got, compare); diff != "" {
				t.Fatalf("seed %d: (-want +got):\n%s", seed, diff)
			}
			for n := range c.raw { // no part of a message is a message
				if _, err := decode(c.raw[:n]); !errors.Is(err, errMalformed) {
					t.Fatalf("seed %d: %T cut to %d of %d bytes: error %v", seed, c.want, n, len(c.raw), err)
				}
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, raw := range map[string][]byte{
		"empty":            {},
		"other magic":      {1, kindFull, 0},
		"unknown kind":     {magic, 99},
		"no node":          {magic, kindWant, 0},
		"huge name":        append([]byte{magic, kindWant, 0xff, 0xff, 0xff, 0xff, 0x0f}, 'x'),
		"huge count":       {magic, kindSync, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"bad address":      {magic, kindSync, 0, 1, 3, 1, 2, 3, 1},
		"mapped address":   append(append([]byte{magic, kindSync, 0, 1, 16}, netip.MustParseAddr("::ffff:1.2.3.4").AsSlice()...), 1),
		"trailing":         append(encodeWant("x"), 0),
		"delta to nowhere": encodeDelta(&delta{node: "x", stamp: stamp{1, 1, 5}, base: 5}),
		"huge extra":       append(withoutExtras(encodeFull(&record{stamp{1, 1, 1}, decide.Member{Node: "x"}})), 1, 9, 0xff, 0xff, 3),
		"bad heir":         append(withoutExtras(encodeFull(&record{stamp{1, 1, 1}, decide.Member{Node: "x"}})), 1, extraHeirs, 2, 4, 1),
	} {
		if msg, err := decode(raw); !errors.Is(err, errMalformed) {
			t.Errorf("%s: decoded as %+v, error %v", name, msg, err)
		}
	}
}

// withoutExtras cuts the (empty) list of extras off a message.
func withoutExtras(msg []byte) []byte { return msg[:len(msg)-1] }

// A speaker of a later version may say more than this one understands; what it does understand counts.
func TestWordsOfALaterVersion(t *testing.T) {
	m := decide.Member{Node: "x", State: decide.Up, Claims: map[netip.Addr]decide.Claim{netip.MustParseAddr("192.0.2.9"): {Counter: 3}}}
	raw := withoutExtras(encodeFull(&record{stamp{1, 1, 1}, m}))
	raw = append(raw, 2, 77, 3, 'a', 'b', 'c', extraHeirs)
	raw = append(append(raw, 7, 4, 192, 0, 2, 9, 1), 'y')
	got, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if c := got.(*record).member.Claims[netip.MustParseAddr("192.0.2.9")]; c.Counter != 3 || c.To != "y" {
		t.Errorf("claim %+v", c)
	}
	m.State = 9
	got, err = decode(encodeFull(&record{stamp{1, 1, 1}, m}))
	if err != nil {
		t.Fatal(err)
	}
	if s := got.(*record).member.State; s != decide.Restarting {
		t.Errorf("an unknown state is taken for %s, want one that keeps what it has and gets nothing new", s)
	}
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	rec := &record{stamp{1, 2, 3}, randomMember(r, "node", 10)}
	f.Add(encodeFull(rec))
	f.Add(encodeSync(bundle{records: []*record{rec}, memory: decide.Memory{netip.MustParseAddr("10.9.9.9"): 4}}))
	f.Add(encodeDelta(&delta{
		node: "x", stamp: stamp{1, 1, 6}, base: 5, hasLinks: true, interfaces: rec.member.Interfaces,
		set: rec.member.Claims, dropped: []netip.Addr{netip.MustParseAddr("::1")},
	}))
	f.Add(encodeDigest(digest{"n", stamp{1, 2, 3}}))
	f.Add(encodeWant("me"))
	f.Add(encodeLook("me", "node"))
	f.Add(encodeSilent("me", "node"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		msg, err := decode(raw)
		if err != nil {
			if !errors.Is(err, errMalformed) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		b := newBook("me", netip.AddrPort{}, 1)
		b.alive("node", netip.AddrPort{})
		m := &Member{book: b, asks: map[string]bool{}}
		m.accept(msg) // must not panic, whatever it says
		b.view()
		again, err := decode(encode(msg))
		if err != nil {
			t.Fatalf("what was decoded does not encode: %v", err)
		}
		if diff := cmp.Diff(msg, again, compare); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	})
}

func encode(msg any) []byte {
	switch v := msg.(type) {
	case *record:
		return encodeFull(v)
	case *delta:
		return encodeDelta(v)
	case digest:
		return encodeDigest(v)
	case want:
		return encodeWant(v.from)
	case bundle:
		return encodeSync(v)
	case word:
		if v.silent {
			return encodeSilent(v.from, v.node)
		}
		return encodeLook(v.from, v.node)
	}
	return nil
}
