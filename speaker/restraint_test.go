package speaker

import (
	"fmt"
	"testing"
	"time"

	"github.com/heraldlb/herald/config"
	"github.com/heraldlb/herald/speaker/decide"
)

// TestHardwareAddressesAreForgotten: those of nodes that are gone, and those that a live node has not any more; but not those of a speaker that is
// not heard while its node is there, as in a split.
func TestHardwareAddressesAreForgotten(t *testing.T) {
	w := newWire()
	now := time.Now()
	member := func(node, mac string) decide.Member {
		return decide.Member{Node: node, Interfaces: lan(mac)}
	}
	cluster := func(nodes ...string) *config.Snapshot {
		s := &config.Snapshot{Synced: true}
		for _, n := range nodes {
			s.Nodes = append(s.Nodes, &config.Node{Name: n})
		}
		return s
	}
	w.learn(now, decide.Facts{Config: cluster("a", "b", "c"), Members: []decide.Member{member("a", "a1"), member("b", "b1"), member("c", "c1")}})
	for range 20 { // c is removed from the cluster, b is split off, a gets another card
		now = now.Add(time.Minute)
		w.learn(now, decide.Facts{Config: cluster("a", "b"), Members: []decide.Member{member("a", "a2")}})
	}
	for mac, want := range map[string]bool{"a1": false, "a2": true, "b1": true, "c1": false} {
		if got := w.speaks(mac); got != want {
			t.Errorf("%s is known: %v, want %v", mac, got, want)
		}
	}
	for i := range 1000 { // nodes that come and go, as an autoscaler has them
		now = now.Add(time.Minute)
		name := fmt.Sprint("n", i)
		w.learn(now, decide.Facts{Config: cluster("a", "b", name), Members: []decide.Member{member("a", "a2"), member(name, name)}})
	}
	if n := len(w.macs); n > 20 {
		t.Errorf("%d hardware addresses are known of 3 nodes", n)
	}
	now = now.Add(time.Hour)
	w.learn(now, decide.Facts{Config: &config.Snapshot{}, Members: nil}) // nothing is known of the cluster
	if !w.speaks("a2") || !w.speaks("b1") {
		t.Error("forgotten on missing evidence")
	}
}
