package config

import "testing"

func TestOverlaps(t *testing.T) {
	all, none, a, ab, b := All[string](), Only[string](), Only("a"), Only("a", "b"), Only("b")
	for _, tt := range []struct {
		s, o Selection[string]
		want bool
	}{
		{all, all, true},
		{all, none, false},
		{all, a, true},
		{none, none, false},
		{a, none, false},
		{a, ab, true},
		{a, b, false},
		{Selection[string]{}, all, false},
	} {
		if tt.s.Overlaps(tt.o) != tt.want || tt.o.Overlaps(tt.s) != tt.want {
			t.Errorf("%+v and %+v: want %t, both ways", tt.s, tt.o, tt.want)
		}
	}
}
