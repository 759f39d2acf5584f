package router

import (
	"net/netip"
	"slices"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// path is a path of AS 64500 for 203.0.113.1/32 with the attributes given.
func path(t *testing.T, hop string, attrs ...proto.Message) *api.Path {
	t.Helper()
	pack := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	p := &api.Path{
		Family: families()[0], IsFromExternal: true,
		Nlri:   pack(&api.IPAddressPrefix{Prefix: "203.0.113.1", PrefixLen: 32}),
		Pattrs: []*anypb.Any{pack(&api.OriginAttribute{}), pack(&api.NextHopAttribute{NextHop: hop})},
	}
	for _, m := range attrs {
		p.Pattrs = append(p.Pattrs, pack(m))
	}
	return p
}

func asPath(asns ...uint32) proto.Message {
	return &api.AsPathAttribute{Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SEQUENCE, Numbers: asns}}}
}

func TestEqualBest(t *testing.T) {
	const a, b, c = "192.0.2.1", "192.0.2.2", "192.0.2.3"
	internal := path(t, c, asPath(64500))
	internal.IsFromExternal = false
	unreachable := path(t, a)
	unreachable.IsNexthopInvalid = true
	withdrawn := path(t, a)
	withdrawn.IsWithdraw = true
	for _, tt := range []struct {
		name  string
		paths []*api.Path
		want  []string
	}{
		{"none", nil, nil},
		{"equal ones share, sorted", []*api.Path{path(t, b, asPath(64500)), path(t, a, asPath(64501))}, []string{a, b}},
		{"the same next hop once", []*api.Path{path(t, a), path(t, a)}, []string{a}},
		{"shorter AS path", []*api.Path{path(t, a, asPath(64500, 64500)), path(t, b, asPath(64500))}, []string{b}},
		{"preference before length", []*api.Path{path(t, a, asPath(64500, 64500), &api.LocalPrefAttribute{LocalPref: 200}), path(t, b)}, []string{a}},
		{"preference is 100 when not said", []*api.Path{path(t, a, &api.LocalPrefAttribute{LocalPref: 100}), path(t, b)}, []string{a, b}},
		{"no preference at all", []*api.Path{path(t, a, &api.LocalPrefAttribute{}), path(t, b)}, []string{b}},
		{"smaller MED", []*api.Path{path(t, a, &api.MultiExitDiscAttribute{Med: 10}), path(t, b, &api.MultiExitDiscAttribute{Med: 5}), path(t, c, &api.MultiExitDiscAttribute{Med: 5})}, []string{b, c}},
		{"external before internal", []*api.Path{internal, path(t, b, asPath(64500))}, []string{b}},
		{"unreachable", []*api.Path{unreachable, path(t, b, asPath(1, 2, 3))}, []string{b}},
		{"withdrawn", []*api.Path{withdrawn}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want []netip.Addr
			for _, s := range tt.want {
				want = append(want, netip.MustParseAddr(s))
			}
			if got := equalBest(tt.paths); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			reversed := slices.Clone(tt.paths)
			slices.Reverse(reversed)
			if got := equalBest(reversed); !slices.Equal(got, want) {
				t.Errorf("in the other order: %v, want %v", got, want)
			}
		})
	}
}
