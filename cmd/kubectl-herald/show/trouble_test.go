package show

import (
	"slices"
	"strings"
	"testing"

	"github.com/heraldlb/herald/cmd/kubectl-herald/finding"
	"github.com/heraldlb/herald/cmd/kubectl-herald/fixture"
	"github.com/heraldlb/herald/cmd/kubectl-herald/picture"
)

// TestBFDDown: a session that is up though BFD, which its peer asks for, does not see the router.
func TestBFDDown(t *testing.T) {
	for _, tt := range []struct {
		state, bfd string
		want       bool
	}{
		{"Established", "Down", true},
		{"Established", "AdminDown", true},
		{"Established", "Up", false},
		{"Established", "", false},
		{"Active", "Down", false}, // that the session is down says it
	} {
		c := fixture.Cluster(t)
		for _, s := range c.Speakers {
			s.Status.BGP.Sessions[0].State, s.Status.BGP.Sessions[0].BFD = tt.state, tt.bfd
		}
		findings := MakeStatus(picture.New(c, picture.Options{})).Findings
		have := slices.ContainsFunc(findings, func(f finding.Finding) bool {
			return f.Reason == "BFDDown" && f.Level == finding.Warning && f.About == "BGP session of node-1 to tor" && strings.Contains(f.Remedy, "BFD")
		})
		if have != tt.want {
			t.Errorf("session %s, BFD %q: reported %t, want %t: %+v", tt.state, tt.bfd, have, tt.want, findings)
		}
	}
}
