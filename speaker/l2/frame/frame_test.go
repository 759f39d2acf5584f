package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"
)

func TestCover(t *testing.T) {
	for _, tt := range []struct {
		name  string
		words []uint32
		max   int
		want  []Span
	}{
		{"none", nil, 4, nil},
		{"one", []uint32{7}, 4, []Span{{7, 7}}},
		{"adjacent join, order and repetition do not matter", []uint32{9, 8, 7, 8}, 4, []Span{{7, 9}}},
		{"apart", []uint32{1, 3, 5}, 4, []Span{{1, 1}, {3, 3}, {5, 5}}},
		{"narrowest gaps close first", []uint32{1, 3, 100, 110, 1000}, 3, []Span{{1, 3}, {100, 110}, {1000, 1000}}},
		{"one span for all", []uint32{1, 3, 1000}, 1, []Span{{1, 1000}}},
		{"ends of the space", []uint32{0, 1<<32 - 1}, 4, []Span{{0, 0}, {1<<32 - 1, 1<<32 - 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Cover(tt.words, tt.max)); diff != "" {
				t.Errorf("spans (-want +got):\n%s", diff)
			}
		})
	}
}

// The program, run in the virtual machine, takes exactly the frames whose word lies in a span.
func TestFilterTakesWhatItsSpansCover(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		words := make([]uint32, 1+rnd.IntN(300))
		for i := range words {
			words[i] = rnd.Uint32N(2000)
		}
		spans := Cover(words, maxSpans)
		vm, err := bpf.NewVM(Filter(Require(0, 2, 5, 6), []uint32{4, 8}, spans))
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			frame := make([]byte, 16)
			kind, first, second := uint16(4+rnd.IntN(4)), rnd.Uint32N(2000), rnd.Uint32N(2000)
			binary.BigEndian.PutUint16(frame, kind)
			binary.BigEndian.PutUint32(frame[4:], first)
			binary.BigEndian.PutUint32(frame[8:], second)
			want := (kind == 5 || kind == 6) && (inAny(spans, first) || inAny(spans, second))
			n, err := vm.Run(frame)
			if err != nil || (n > 0) != want {
				t.Fatalf("kind %d words %d %d spans %v: took %d bytes (%v), want taken %v", kind, first, second, spans, n, err, want)
			}
		}
		for _, w := range words {
			if !covers(spans, w) {
				t.Fatalf("spans %v do not cover %d", spans, w)
			}
		}
	}
}

func inAny(spans []Span, w uint32) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return s.From <= w && w <= s.To })
}

// filterConn is a socket of which only the filter matters.
type filterConn struct {
	Conn
	loads int
	err   error
}

func (c *filterConn) SetBPF([]bpf.RawInstruction) error { c.loads++; return c.err }

func TestGateReloadsOnlyWhenItMust(t *testing.T) {
	conn := &filterConn{}
	gate := NewGate(conn, func(s []Span) []bpf.Instruction { return Filter(nil, []uint32{38}, s) })
	addrs := func(from, n, step int) (out []Answer) {
		for i := range n {
			w := from + i*step
			out = append(out, Answer{Addr: netip.AddrFrom4([4]byte{10, byte(w >> 16), byte(w >> 8), byte(w)})})
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		addrs []Answer
		loads int
	}{
		{"nothing", nil, 0},
		{"first", addrs(10, 1, 1), 1},
		{"same again", addrs(10, 1, 1), 1},
		{"one more beside it", addrs(10, 2, 1), 2},
		{"many scattered", addrs(0, 5000, 3), 3},
		{"one more between them", append(addrs(0, 5000, 3), addrs(14000, 1, 1)...), 3},
		{"that one goes, the spans stay", addrs(0, 5000, 3), 3},
		{"most go", addrs(0, 10, 3), 4},
		{"all go", nil, 5},
	} {
		if err := gate.Admit(tt.addrs); err != nil || conn.loads != tt.loads {
			t.Fatalf("%s: %d loads (%v), want %d", tt.name, conn.loads, err, tt.loads)
		}
		for _, a := range tt.addrs {
			if !covers(gate.spans, Word(a.Addr)) {
				t.Fatalf("%s: %v is not let through by %v", tt.name, a.Addr, gate.spans)
			}
		}
	}
	conn.err = errors.New("no")
	if err := gate.Admit(addrs(1, 1, 1)); err == nil {
		t.Error("a filter that cannot be attached is no error")
	}
	conn.err = nil
	if err := gate.Admit(addrs(1, 1, 1)); err != nil || conn.loads != 7 {
		t.Errorf("a failed filter counts as attached: %d loads, %v", conn.loads, err)
	}
}

func TestAnswers(t *testing.T) {
	mac, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	a := NewAnswers(mac, []Answer{
		{Addr: netip.MustParseAddr("192.0.2.4"), Role: Watched},
		{Addr: netip.MustParseAddr("192.0.2.2"), Role: StandIn, MAC: other},
		{Addr: netip.MustParseAddr("192.0.2.1")},
	})
	for addr, want := range map[string]string{
		"192.0.2.1": "0 02:00:00:00:00:01", "192.0.2.2": "1 02:00:00:00:00:02", "192.0.2.4": "2 02:00:00:00:00:01",
		"192.0.2.3": "", "192.0.2.0": "", "192.0.2.5": "", "::ffff:192.0.2.1": "",
	} {
		got := ""
		if v, ok := a.Find(netip.MustParseAddr(addr)); ok {
			got = fmt.Sprint(v.Role, " ", a.Spoken(v))
		}
		if got != want {
			t.Errorf("%s: %q, want %q", addr, got, want)
		}
	}
	if l := a.List(); len(l) != 3 || l[0].Addr != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("list %v is not sorted", l)
	}
}

func TestUnicast(t *testing.T) {
	for mac, want := range map[string]bool{"02:00:00:00:00:01": true, "00:00:00:00:00:00": false, "ff:ff:ff:ff:ff:ff": false, "01:00:5e:00:00:01": false} {
		hw, err := net.ParseMAC(mac)
		if err != nil || Unicast(hw) != want {
			t.Errorf("Unicast(%s) = %v, want %v", mac, !want, want)
		}
	}
}

func BenchmarkCover10k(b *testing.B) {
	words := make([]uint32, 10_000)
	for i := range words {
		words[i] = rand.Uint32()
	}
	for b.Loop() {
		Cover(words, maxSpans)
	}
}

// What it costs to find out whether a frame is about one of ours does not grow with their number to speak of.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := make([]Answer, n)
			for i := range list {
				list[i].Addr = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			}
			a, i := NewAnswers(nil, list), 0
			for b.Loop() {
				a.Find(list[i%n].Addr)
				i++
			}
		})
	}
}
