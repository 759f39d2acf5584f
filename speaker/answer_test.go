package speaker

import (
	"net/netip"
	"testing"

	"github.com/heraldlb/herald/speaker/decide"
	"github.com/heraldlb/herald/speaker/member"
)

// TestSpeakerThatIsBack: what was announced before is announced once more, when its own word is heard.
func TestSpeakerThatIsBack(t *testing.T) {
	w := newWorld(t)
	s := w.speaker("node-1")
	s.announced = []decide.L2Address{{Addr: netip.MustParseAddr("192.0.2.1")}, {Addr: netip.MustParseAddr("192.0.2.2"), For: "node-3"}}
	here, other := decide.Member{Node: "node-1"}, decide.Member{Node: "node-2"}
	for i, tt := range []struct {
		view *member.View
		want int
	}{
		{nil, 0},
		{&member.View{Members: []decide.Member{here, other}}, 0},
		{&member.View{Members: []decide.Member{here}, Missing: []string{"node-2"}}, 0},
		{&member.View{Members: []decide.Member{here}}, 0}, // it lives, but has said nothing
		{&member.View{Members: []decide.Member{here, other}}, 1},
		{&member.View{Members: []decide.Member{here, other}}, 1},
	} {
		s.correct(tt.view)
		if len(w.again) != tt.want {
			t.Errorf("step %d: announced again %v, want %d", i, w.again, tt.want)
		}
	}
}
