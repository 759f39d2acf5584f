package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
)

// TestHugePools checks counts that saturate and a search that does not walk over what is free.
func TestHugePools(t *testing.T) {
	in := &config.Snapshot{
		Pools: []*config.Pool{
			parsePool(t, []string{"all4", "0.0.0.0/0"}),
			parsePool(t, []string{"all6", "::/0", "manual"}),
			parsePool(t, []string{"one", "manual"}),
		},
		Services: many(3, 0),
	}
	plan := Compute(in, time.Time{})
	if got := plan.Pools["all4"].IPv4; got.Total != 1<<32 || got.Assigned != 3 || got.Available != 1<<32-3 {
		t.Errorf("all4: %+v", got)
	}
	if got := plan.Pools["all6"].IPv6; got.Total != math.MaxInt64 {
		t.Errorf("all6: %+v", got)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"192.0.2.1":             1,
		"192.0.2.0/31":          2,
		"10.0.0.0/8":            1 << 24,
		"2001:db8::/127":        2,
		"2001:db8::/66":         1 << 62,
		"2001:db8::/65":         math.MaxInt64,
		"::/0":                  math.MaxInt64,
		"2001:db8::-2001:db9::": math.MaxInt64,
	} {
		if got := size(parseRange(t, text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// many returns n Services, the first few of which hold an address.
func many(n, holding int) []*config.Service {
	out := make([]*config.Service, n)
	a := netip.MustParseAddr("10.0.0.0")
	for i := range out {
		out[i] = &config.Service{
			Key: config.Key{Namespace: "bench", Name: fmt.Sprintf("service-%06d", i)}, UID: fmt.Sprint(i), Created: time.Unix(int64(i/100), 0),
			Families: []config.Family{config.IPv4},
		}
		if i < holding {
			out[i].Ingress = []netip.Addr{a}
			out[i].Allocated = config.Condition{Status: "True", Reason: "Allocated", Message: a.String() + " from pool bench"}
			a = a.Next()
		}
	}
	return out
}
