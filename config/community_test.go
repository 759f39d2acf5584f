package config

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseCommunity(t *testing.T) {
	tests := []struct{ in, octets, out string }{
		{"65000:100", "fde80064", "65000:100"},
		{"0:0", "00000000", "0:0"},
		{"65535:65535", "ffffffff", "65535:65535"},
		{"007:08", "00070008", "7:8"},
		{"graceful-shutdown", "ffff0000", "65535:0"},
		{"no-export", "ffffff01", "65535:65281"},
		{"no-advertise", "ffffff02", "65535:65282"},
		{"local-as", "ffffff03", "65535:65283"},
		{"no-export-subconfed", "ffffff03", "65535:65283"},
		{"no-peer", "ffffff04", "65535:65284"},
		{"blackhole", "ffff029a", "65535:666"},
		{"accept-own", "ffff0001", "65535:1"},
		{"llgr-stale", "ffff0006", "65535:6"},
		{"no-llgr", "ffff0007", "65535:7"},
		{"large:4200000000:1:2", "fa56ea000000000100000002", "large:4200000000:1:2"},
		{"large:007:0:2", "000000070000000000000002", "large:7:0:2"},
		{"rt:65000:4294967295", "0002fde8ffffffff", "rt:65000:4294967295"},
		{"rt:4200000000:65535", "0202fa56ea00ffff", "rt:4200000000:65535"},
		{"rt:192.0.2.1:7", "0102c00002010007", "rt:192.0.2.1:7"},
		{"soo:65000:1", "0003fde800000001", "soo:65000:1"},
		{"soo:65536:1", "0203000100000001", "soo:65536:1"},
	}
	for _, tt := range tests {
		c, err := ParseCommunity(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if got := hex.EncodeToString(c.Octets()); got != tt.octets || c.String() != tt.out {
			t.Errorf("%s: octets %s, printed %s; want %s, %s", tt.in, got, c, tt.octets, tt.out)
		}
		if again, err := ParseCommunity(c.String()); err != nil || again != c {
			t.Errorf("%s: what is printed, %s, reads as %s, %v", tt.in, c, again, err)
		}
	}
}

func TestParseCommunityRefuses(t *testing.T) {
	for _, in := range []string{
		"", ":", "1", "1:2:3", "65536:1", "1:65536", "-1:1", "+1:1", "1: 2", "0x1:1", "large:1:2", "large:1:2:3:4", "large:1:2:4294967296",
		"rt:1", "rt::1", "rt:4200000000:65536", "rt:192.0.2.1:65536", "rt:2001:db8::1:1", "rt:x:1", "soo:4294967296:1", "No-Export", "internet",
	} {
		if c, err := ParseCommunity(in); err == nil {
			t.Errorf("%q reads as %s", in, c)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", in)) {
			t.Errorf("%q: the error does not name it: %v", in, err)
		}
	}
}

func FuzzParseCommunity(f *testing.F) {
	for _, s := range []string{
		"65000:100", "large:1:2:3", "rt:192.0.2.1:7", "soo:4200000000:1", "no-export", "1:2:3:4",
		// What earlier runs found to go other ways.
		"100000:100000", ":+", "l2:3", "large:0::", "::::::::::::::::", "rt:10.\x93:", "rt:100.0.70000:0", "soo:1000:0", "soo:000000\xdb\xdb0", "\x7f\x00", "０", "\"\"",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCommunity(s)
		if err != nil {
			return
		}
		if again, err := ParseCommunity(c.String()); err != nil || again != c {
			t.Errorf("%q prints as %s, which reads as %v, %v", s, c, again, err)
		}
	})
}

func TestCommunities(t *testing.T) {
	a, b, c := Standard(1), Extended([8]byte{0, 2, 7: 1}), Large(1, 2, 3)
	all := CommunitiesOf(c, a, b, a)
	if all != CommunitiesOf(a, b, c) || all.Len() != 3 {
		t.Errorf("order and duplicates count: %s", all)
	}
	if got := slices.Collect(all.All()); !slices.Equal(got, []Community{a, b, c}) {
		t.Errorf("members %v", got)
	}
	if got := CommunitiesOf(a, c).Union(CommunitiesOf(b, c)); got != all {
		t.Errorf("union %s, want %s", got, all)
	}
	if none := (Communities{}); none.Union(all) != all || all.Union(none) != all || none.Len() != 0 || none != CommunitiesOf() {
		t.Error("the empty set is not neutral")
	}
	if got := hex.EncodeToString(CommunitiesOf(Standard(2), a, c).Octets(StandardCommunity)); got != "0000000100000002" {
		t.Errorf("octets %s", got)
	}
	if got := all.String(); got != "0:1 rt:0:1 large:1:2:3" {
		t.Errorf("printed %q", got)
	}
}

func TestMerge(t *testing.T) {
	a := RouteAttributes{Communities: CommunitiesOf(Standard(1)), LocalPref: Some(0), Prepend: 1, Weight: 2}
	b := RouteAttributes{Communities: CommunitiesOf(Standard(2)), MED: Some(0), Weight: 3}
	want := RouteAttributes{Communities: CommunitiesOf(Standard(1), Standard(2)), LocalPref: Some(0), MED: Some(0), Prepend: 1, Weight: 5}
	if got := a.Merge(b); got != want || b.Merge(a) != want {
		t.Errorf("merged %+v, want %+v", got, want)
	}
	if got := a.Merge(RouteAttributes{}); got != a {
		t.Errorf("merged with nothing: %+v", got)
	}
}

func TestPasswordDoesNotPrint(t *testing.T) {
	p := struct{ Password Password }{"geheim"}
	j, _ := json.Marshal(p)
	for _, s := range []string{fmt.Sprint(p), fmt.Sprintf("%+v", p), fmt.Sprintf("%#v", p), fmt.Sprintf("%s %q", p, p), string(j)} {
		if strings.Contains(s, "geheim") {
			t.Errorf("printed: %s", s)
		}
	}
}
