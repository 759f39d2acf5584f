package frame

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// Span is an inclusive range of the last 32 bits of addresses: whole addresses for IPv4. For IPv6 the upper bits are left to the exact
// lookup; strangers that share the lower ones are few.
type Span struct{ From, To uint32 }

// maxSpans bounds the filter: it tests one after the other, and a classic BPF program holds 4,096 instructions, with jumps of at most
// 255. Up to so many stretches of adjacent addresses are matched exactly.
const maxSpans = 60

// Word returns the last 32 bits of an address.
func Word(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// Cover returns at most max spans, sorted and disjoint, that hold all words: adjacent ones join, and where that leaves too many, the
// narrowest gaps are closed first, so that as few strangers as possible get through.
func Cover(words []uint32, max int) []Span {
	words = slices.Clone(words)
	slices.Sort(words)
	words = slices.Compact(words)
	if len(words) == 0 {
		return nil
	}
	gaps := gapsOf(words)
	if len(gaps) > max-1 {
		slices.SortFunc(gaps, func(a, b gap) int { return cmp.Or(-cmp.Compare(a.width, b.width), cmp.Compare(a.after, b.after)) })
		gaps = gaps[:max-1]
		slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(a.after, b.after) })
	}
	spans := make([]Span, 0, len(gaps)+1)
	from := words[0]
	for _, g := range gaps {
		spans = append(spans, Span{from, words[g.after]})
		from = words[g.after+1]
	}
	return append(spans, Span{from, words[len(words)-1]})
}

// gap is a stretch of unwanted words after words[after].
type gap struct {
	after int
	width uint32
}

func gapsOf(words []uint32) []gap {
	var gaps []gap
	for i := range words[:len(words)-1] {
		if width := words[i+1] - words[i] - 1; width > 0 {
			gaps = append(gaps, gap{i, width})
		}
	}
	return gaps
}

// covers reports whether the word lies in one of the spans.
func covers(spans []Span, w uint32) bool {
	i, found := slices.BinarySearchFunc(spans, w, func(s Span, w uint32) int { return cmp.Compare(s.From, w) })
	return found || i > 0 && w <= spans[i-1].To
}

// snap is how much of a frame the filter lets through, in bytes: a full Ethernet frame; ARP and neighbour discovery need less.
const snap = 1514

// Filter builds a program that takes a frame if head does not refuse it and the 32 bits at one of the offsets lie in a span.
// Head is instructions that jump over what follows them inside head only, and return 0 to refuse.
func Filter(head []bpf.Instruction, offsets []uint32, spans []Span) []bpf.Instruction {
	program := slices.Clone(head)
	for _, off := range offsets {
		program = append(program, bpf.LoadAbsolute{Off: off, Size: 4})
		program = append(program, match(spans)...)
	}
	return append(program, bpf.RetConstant{Val: 0})
}

// match accepts the frame if the accumulator lies in a span and goes on after itself if not. Below a span's start no later one matches.
func match(spans []Span) []bpf.Instruction {
	var out []bpf.Instruction
	for i, s := range spans {
		rest := 3 * (len(spans) - i - 1)
		out = append(out,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: s.From, SkipTrue: uint8(2 + rest)},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s.To, SkipTrue: 1},
			bpf.RetConstant{Val: snap},
		)
	}
	return out
}

// Accept are instructions for the head of a filter: frames addressed to another station (seen when the interface is promiscuous) and
// frames of a VLAN that has no device here are not ours to answer.
func Accept() []bpf.Instruction {
	const otherHost = 3 // PACKET_OTHERHOST; the kernel also calls frames of unknown VLANs so
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: otherHost, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}

// Require are instructions for the head of a filter: the value of size bytes at off must be one of values.
func Require(off uint32, size int, values ...uint32) []bpf.Instruction {
	out := []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: size}}
	for i, v := range values {
		out = append(out, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
	}
	return append(out, bpf.RetConstant{Val: 0})
}

// Gate keeps the filter of one socket in line with the addresses. It has one owner.
type Gate struct {
	conn    Conn
	program func([]Span) []bpf.Instruction
	spans   []Span
	size    int // how many addresses the spans were made for
}

// NewGate returns the gate of a socket that lets nothing through yet. Program makes the filter for given spans.
func NewGate(conn Conn, program func([]Span) []bpf.Instruction) *Gate {
	return &Gate{conn: conn, program: program}
}

// Admit lets frames about the addresses through. While the present filter covers them all and none was taken away, it stays. The kernel
// exchanges filters in one step: no frame is lost in between.
func (g *Gate) Admit(list []Answer) error {
	if len(list) >= g.size && !slices.ContainsFunc(list, func(a Answer) bool { return !covers(g.spans, Word(a.Addr)) }) {
		return nil
	}
	words := make([]uint32, len(list))
	for i, a := range list {
		words[i] = Word(a.Addr)
	}
	spans := Cover(words, maxSpans)
	if slices.Equal(spans, g.spans) {
		g.size = len(list)
		return nil
	}
	raw, err := bpf.Assemble(g.program(spans))
	if err != nil {
		return fmt.Errorf("assemble filter for %d spans: %w", len(spans), err)
	}
	if err := g.conn.SetBPF(raw); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	g.spans, g.size = spans, len(list)
	return nil
}
