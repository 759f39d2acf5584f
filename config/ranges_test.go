package config

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestSubtract compares what is left with the addresses one by one.
func TestSubtract(t *testing.T) {
	at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, byte(n)}) }
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var ranges, parts []Range
		for from := r.IntN(40); from < 256; from += 2 + r.IntN(60) {
			to := min(255, from+r.IntN(50))
			ranges = append(ranges, Range{From: at(from), To: at(to)})
			for p := from + r.IntN(10); p <= to; p += 2 + r.IntN(9) {
				end := min(to, p+r.IntN(9))
				parts = append(parts, Range{From: at(p), To: at(end)})
				p = end
			}
			from = to
		}
		left := Subtract(ranges, parts)
		within := func(all []Range, a netip.Addr) bool {
			return slices.ContainsFunc(all, func(r Range) bool { return r.Contains(a) })
		}
		for n := range 256 {
			if want := within(ranges, at(n)) && !within(parts, at(n)); within(left, at(n)) != want {
				t.Fatalf("%v without %v is %v: %s is wrong", ranges, parts, left, at(n))
			}
		}
	}
}
