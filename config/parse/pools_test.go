package parse

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/config/v1beta1"
)

// addressRanges cuts a text at line ends.
func addressRanges(text string) []v1beta1.AddressRange {
	var out []v1beta1.AddressRange
	for line := range strings.SplitSeq(text, "\n") {
		out = append(out, v1beta1.AddressRange(line))
	}
	return out
}

// FuzzPool: whatever stands in a pool, its ranges are sorted, disjoint and of unicast addresses, what is excluded is within them, and
// what is wrong is told with its place.
func FuzzPool(f *testing.F) {
	f.Add("192.0.2.0/24\n2001:db8::/64", "192.0.2.0-192.0.2.9\n192.0.2.255")
	f.Add("192.0.2.0/25\n192.0.2.128/25\n192.0.2.7", "192.0.1.0-192.0.3.255")
	f.Add("192.0.2.9 - 192.0.2.3", "x\n")
	f.Add("::ffff:192.0.2.0/120\n1.2.3.4/33", "fe80::1%x\n2001:db8::/129")
	f.Fuzz(func(t *testing.T, addresses, exclude string) {
		spec, problems := parsePool(&v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: addressRanges(addresses), Exclude: addressRanges(exclude)}})
		for _, p := range problems {
			if p.Message == "" || p.Reason == "" || !strings.HasPrefix(p.Field, "spec.") {
				t.Errorf("a problem that says too little: %+v", p)
			}
		}
		wellFormed(t, spec.ranges)
		wellFormed(t, spec.excluded)
		for _, x := range spec.excluded {
			within := 0
			for _, r := range spec.ranges {
				if r.Contains(x.From) && r.Contains(x.To) {
					within++
				}
			}
			if within != 1 {
				t.Errorf("%v is excluded from %v", x, spec.ranges)
			}
		}
		for _, line := range addressRanges(exclude) { // its ends, where the pool has them, are excluded
			if r, err := parseRange(string(line)); err == nil {
				for _, a := range []netip.Addr{r.From, r.To} {
					if contains(spec.ranges, a) != contains(spec.excluded, a) {
						t.Errorf("%s is not excluded by %q from %v: %v", a, line, spec.ranges, spec.excluded)
					}
				}
			}
		}
	})
}

func wellFormed(t *testing.T, ranges []config.Range) {
	t.Helper()
	for i, r := range ranges {
		if r.From.BitLen() != r.To.BitLen() || r.To.Less(r.From) || i > 0 && r.From.Compare(ranges[i-1].To) <= 0 {
			t.Fatalf("%v are not sorted, disjoint ranges of one family each", ranges)
		}
	}
}

// FuzzReservation: a reservation that is accepted has one usable address of each family at most, and a Service.
func FuzzReservation(f *testing.F) {
	f.Add("192.0.2.7\n2001:db8::7", "web", "front")
	f.Add("192.0.2.7/32", "", "front")
	f.Add("192.0.2.7\n192.0.2.8", "web", "")
	f.Add("fe80::1%eth0\n::ffff:192.0.2.1\n1-2", "web", "front")
	f.Fuzz(func(t *testing.T, addresses, namespace, name string) {
		spec, problems := parseReservation(&v1beta1.IPReservation{Spec: v1beta1.IPReservationSpec{
			Addresses: strings.Split(addresses, "\n"), Service: v1beta1.ServiceReference{Namespace: namespace, Name: name},
		}})
		if len(problems) > 0 {
			for _, p := range problems {
				if p.Message == "" || p.Warning {
					t.Errorf("%+v", p)
				}
			}
			return
		}
		if n := len(spec.addresses); n == 0 || n > 2 || n == 2 && (!spec.addresses[0].Is4() || !spec.addresses[1].Is6()) {
			t.Errorf("%q gives %v", addresses, spec.addresses)
		}
		if spec.service.Namespace == "" || spec.service.Name == "" {
			t.Errorf("reserved for %v", spec.service)
		}
	})
}

// FuzzSelector: what is accepted as a selector can be asked, and prints as something.
func FuzzSelector(f *testing.F) {
	f.Add("app", "web", "tier", "In", "front", "app", "web")
	f.Add("a/b", "", "example.com/x", "Exists", "", "", "")
	f.Add("-", "x y", "k", "Is", "v", "k", "v")
	f.Fuzz(func(t *testing.T, key, value, exprKey, op, exprValue, haveKey, haveValue string) {
		sel, problems := parseSelectors("spec.x", []v1beta1.LabelSelector{{
			MatchLabels: map[string]v1beta1.LabelValue{key: v1beta1.LabelValue(value)},
			MatchExpressions: []v1beta1.LabelSelectorRequirement{{
				Key: exprKey, Operator: metav1.LabelSelectorOperator(op), Values: []v1beta1.LabelValue{v1beta1.LabelValue(exprValue)},
			}},
		}})
		if (len(problems) == 0) != (len(sel.list) == 1) {
			t.Fatalf("problems %v, selectors %v", problems, sel.list)
		}
		if len(sel.list) == 0 {
			return
		}
		if sel.describe() == "" {
			t.Error("the selector prints as nothing")
		}
		if sel.matches(map[string]string{haveKey: haveValue}) && haveKey != key {
			t.Errorf("%s selects %s=%s", sel.describe(), haveKey, haveValue)
		}
	})
}

// TestExpiry: a reservation expires at its end, not before, and without a clock never; the rest of the snapshot stays the same value.
func TestExpiry(t *testing.T) {
	end := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	in := Objects{
		Pools: []*v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "l", Generation: 1}, Spec: v1beta1.IPAddressPoolSpec{Addresses: addressRanges("192.0.2.0/24")}}},
		Reservations: []*v1beta1.IPReservation{{ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "r", Generation: 1}, Spec: v1beta1.IPReservationSpec{
			Addresses: []string{"192.0.2.7"}, Service: v1beta1.ServiceReference{Namespace: "web", Name: "front"}, ExpiresAt: &metav1.Time{Time: end},
		}}},
	}
	var memory Memory
	var before *config.Snapshot
	for _, step := range []struct {
		now     time.Time
		expired bool
	}{{time.Time{}, false}, {end.Add(-time.Nanosecond), false}, {end, true}, {end.Add(time.Hour), true}, {end.Add(-time.Second), false}} {
		in.Now = step.now
		var snap *config.Snapshot
		snap, memory = Parse(in, memory)
		if len(snap.Reservations) != 1 || snap.Reservations[0].Expired != step.expired || len(snap.Problems) > 0 != step.expired {
			t.Fatalf("at %v: %+v, problems %v", step.now, snap.Reservations[0], snap.Problems)
		}
		if before != nil && snap.Pools[0] != before.Pools[0] {
			t.Error("the pool is another value")
		}
		before = snap
	}
}
