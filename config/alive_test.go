package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestLiveSpeakers goes through what becomes of clusters of up to three nodes, as their reports and the nodes' readiness tell.
func TestLiveSpeakers(t *testing.T) {
	// reads "n1 2 n3": the speaker of n1 sees 2 alive and misses that of n3; no number: it does not hear others; "stopped": it has ended.
	parse := func(text string) *Speaker {
		f := strings.Fields(text)
		s := &Speaker{Node: f[0]}
		if len(f) == 1 {
			return s
		}
		if f[1] == "stopped" {
			s.Stopped = true
			return s
		}
		s.Alive, s.Missing = int(f[1][0]-'0'), f[2:]
		return s
	}
	for _, c := range []struct {
		name     string
		nodes    string // those in brackets are not Ready
		speakers []string
		want     string
	}{
		{"all is well", "n1 n2 n3", []string{"n1 3", "n2 3", "n3 3"}, "n1 n2 n3"},
		{"a node without a speaker", "n1 n2 n3", []string{"n1 2", "n2 2"}, "n1 n2"},
		{"a kubelet that is down", "n1 n2 (n3)", []string{"n1 3", "n2 3", "n3 3"}, "n1 n2 n3"},
		{"a node that died, and is still called Ready", "n1 n2 n3", []string{"n1 2 n3", "n2 2 n3", "n3 3"}, "n1 n2"},
		{"a node that died", "n1 n2 (n3)", []string{"n1 2 n3", "n2 2 n3", "n3 3"}, "n1 n2"},
		{"a node that died before the others began", "n1 n2 (n3)", []string{"n1 2", "n2 2", "n3 3"}, "n1 n2"},
		{"one that died after it missed another", "n1 (n2) (n3)", []string{"n1 1 n2 n3", "n2 3", "n3 2 n2"}, "n1"},
		{"two nodes, one died", "n1 (n2)", []string{"n1 1 n2", "n2 2"}, "n1"},
		{"two nodes that do not hear each other", "n1 n2", []string{"n1 1 n2", "n2 1 n1"}, "n1 n2"},
		{"one that hears nobody, and goes on writing", "n1 n2 n3", []string{"n1 2 n3", "n2 2 n3", "n3 1 n1 n2"}, "n1 n2 n3"},
		{"one that hears nobody, on a node that is not Ready", "n1 n2 (n3)", []string{"n1 2 n3", "n2 2 n3", "n3 1 n1 n2"}, "n1 n2"},
		{"no node is Ready", "(n1) (n2) (n3)", []string{"n1 3", "n2 3", "n3 3"}, "n1 n2 n3"},
		{"no node is Ready, and one died", "(n1) (n2) (n3)", []string{"n1 2 n3", "n2 2 n3", "n3 3"}, "n1 n2"},
		{"a single node that is not Ready", "(n1)", []string{"n1 1"}, "n1"},
		{"gossip does not run", "n1 (n2)", []string{"n1", "n2"}, "n1"},
		{"stopped", "n1 n2", []string{"n1 1", "n2 stopped"}, "n1"},
		{"a report of a node that is gone", "n1", []string{"n1 1", "n2 2"}, "n1"},
		{"nothing", "n1", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var in Snapshot
			for name := range strings.FieldsSeq(c.nodes) {
				bare := strings.Trim(name, "()")
				in.Nodes = append(in.Nodes, &Node{Name: bare, Ready: bare == name})
			}
			for _, text := range c.speakers {
				in.Speakers = append(in.Speakers, parse(text))
			}
			if got := strings.Join(slices.Sorted(maps.Keys(in.LiveSpeakers())), " "); got != c.want {
				t.Errorf("%q live, want %q", got, c.want)
			}
		})
	}
}
