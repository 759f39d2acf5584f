package parse

import (
	"math/big"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/config"
)

func TestParseRange(t *testing.T) {
	tests := []struct {
		in, want string
		err      string // part of the message
	}{
		{in: "192.0.2.0/24", want: "192.0.2.0-192.0.2.255"},
		{in: "192.0.2.0/31", want: "192.0.2.0-192.0.2.1"},
		{in: "192.0.2.9/32", want: "192.0.2.9"},
		{in: "192.0.2.9", want: "192.0.2.9"},
		{in: " 192.0.2.9 ", want: "192.0.2.9"},
		{in: "192.0.2.1-192.0.2.3", want: "192.0.2.1-192.0.2.3"},
		{in: "192.0.2.1 - 192.0.2.1", want: "192.0.2.1"},
		{in: "2001:db8::/127", want: "2001:db8::-2001:db8::1"},
		{in: "2001:db8::5/128", want: "2001:db8::5"},
		{in: "2001:db8::/32", want: "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		{in: "2001:DB8:0::1-2001:db8::ff", want: "2001:db8::1-2001:db8::ff"},
		{in: "", err: "an address is missing"},
		{in: "-", err: "an address is missing"},
		{in: "192.0.2.1-", err: "an address is missing"},
		{in: "192.0.2.1-2-3", err: `"2-3" is not an IP address`},
		{in: "192.0.2.1/24", err: "write 192.0.2.0/24 for the network or 192.0.2.1 for the one address"},
		{in: "2001:db8::1/64", err: "write 2001:db8::/64"},
		{in: "192.0.2.0/33", err: "not a CIDR"},
		{in: "192.0.2.0/", err: "not a CIDR"},
		{in: "192.0.2.0/255.255.255.0", err: "not a CIDR"},
		{in: "192.0.2.2-192.0.2.1", err: "write 192.0.2.1-192.0.2.2"},
		{in: "192.0.2.1-2001:db8::1", err: "mixes address families"},
		{in: "::ffff:192.0.2.1", err: "write 192.0.2.1"},
		{in: "::ffff:192.0.2.0/120", err: "write it as IPv4"},
		{in: "fe80::1%eth0", err: "zone"},
		{in: "fe80::/64", err: "fe80::/10"},
		{in: "0.0.0.0/0", err: "0.0.0.0/8"},
		{in: "127.0.0.1", err: "127.0.0.0/8"},
		{in: "223.255.255.255-224.0.0.0", err: "224.0.0.0/4"},
		{in: "100.0.0.0-200.0.0.0", err: "127.0.0.0/8"},
		{in: "255.255.255.255", err: "255.255.255.255/32"},
		{in: "::/0", err: "::/128"},
		{in: "ff02::1", err: "ff00::/8"},
		{in: "example.com", err: "not an IP address"},
	}
	for _, tt := range tests {
		got, err := parseRange(tt.in)
		switch {
		case tt.err == "" && (err != nil || got.String() != tt.want):
			t.Errorf("%q: got %v, %v, want %s", tt.in, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%q: got %v, error %v, want an error with %q", tt.in, got, err, tt.err)
		}
	}
}

// FuzzParseRange: what is accepted is a usable range, and what it prints is read as the same range.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "192.0.2.1 - 192.0.2.9", "2001:db8::/64", "::ffff:1.2.3.4/120", "1.2.3.4/33", "fe80::1%x", "0-0", "/", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRange(s)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error that says nothing")
			}
			return
		}
		if r.From.BitLen() != r.To.BitLen() || r.To.Less(r.From) || r.From.Is4In6() || r.From.Zone() != "" || r.From.IsMulticast() || r.To.IsLoopback() {
			t.Fatalf("%q gives %v", s, r)
		}
		again, err := parseRange(r.String())
		if err != nil || again != r {
			t.Fatalf("%q gives %v, which reads as %v, %v", s, r, again, err)
		}
	})
}

// TestMergeRanges compares with a set of single addresses.
func TestMergeRanges(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	base := [2]netip.Addr{netip.MustParseAddr("192.0.2.0"), netip.MustParseAddr("2001:db8::")}
	for range 3000 {
		var in, other []config.Range
		for range r.IntN(7) {
			in = append(in, randomRange(r, base[r.IntN(2)]))
		}
		for range r.IntN(4) {
			other = append(other, randomRange(r, base[r.IntN(2)]))
		}
		got, others := mergeRanges(in), mergeRanges(other)
		set := addressSet(in)
		if diff := cmp.Diff(set, addressSet(got)); diff != "" {
			t.Fatalf("%v merged to %v:\n%s", in, got, diff)
		}
		for i := 1; i < len(got); i++ {
			if got[i].From.Compare(got[i-1].To) <= 0 || got[i-1].To.Next() == got[i].From {
				t.Fatalf("%v merged to %v: not sorted, disjoint and apart", in, got)
			}
		}
		both := false
		for a := range addressSet(other) {
			both = both || set[a]
		}
		if at, found := overlap(got, others); found != both || found && (!set[at.From.String()] || !set[at.To.String()]) {
			t.Fatalf("overlap of %v and %v: %v %v, want %v", got, others, at, found, both)
		}
	}
}

func randomRange(r *rand.Rand, base netip.Addr) config.Range {
	from := base
	for range r.IntN(40) {
		from = from.Next()
	}
	to := from
	for range r.IntN(8) {
		to = to.Next()
	}
	return config.Range{From: from, To: to}
}

func addressSet(ranges []config.Range) map[string]bool {
	set := map[string]bool{}
	for _, r := range ranges {
		for a := r.From; r.Contains(a); a = a.Next() {
			set[a.String()] = true
		}
	}
	return set
}

func TestLastOf(t *testing.T) {
	for _, s := range []string{"192.0.2.0/24", "10.0.0.0/8", "192.0.2.4/30", "2001:db8::/64", "2001:db8::/33", "2001:db8::8/125"} {
		p := netip.MustParsePrefix(s)
		size := new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
		want := new(big.Int).Add(new(big.Int).SetBytes(p.Addr().AsSlice()), size.Sub(size, big.NewInt(1)))
		if got := new(big.Int).SetBytes(lastOf(p).AsSlice()); got.Cmp(want) != 0 {
			t.Errorf("last of %s is %s", s, lastOf(p))
		}
	}
}
