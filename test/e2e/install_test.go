package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestReinstalled uninstalls the chart: nothing answers and nothing is routed any more. Installed again under other names it takes everything up
// where it was. The tests after this one use the new installation.
func TestReinstalled(t *testing.T) {
	s := on(t)
	s.create("survivor-l2")
	s.create("survivor-bgp", scene.FromPool("routed"))
	_, l2 := s.announced("survivor-l2")
	_, bgp := s.announced("survivor-bgp")
	for i := range l2 {
		s.owner(l2[i])
		s.routed(bgp[i], s.allNodes()...)
	}
	began := time.Now()
	s.must(s.HelmUninstall(t.Context(), s.Release, s.Namespace))
	t.Logf("the chart was uninstalled in %s", time.Since(began).Round(time.Millisecond))
	s.nobody(l2...)
	for _, ip := range bgp {
		s.routed(ip)
	}
	for _, object := range []string{"ipaddresspool/lan", "ipaddresspool/routed", "l2advertisement/lan", "bgppeer/router-v4", "bgppeer/router-v6", "bgpadvertisement/routed"} {
		if _, err := s.Kubectl(t.Context(), "get", object); err != nil {
			t.Errorf("the user's object is gone: %v", err)
		}
	}
	began = time.Now()
	s.must(s.Install(t.Context(), "edge", "network", ""))
	t.Logf("the chart was installed again in %s", time.Since(began).Round(time.Millisecond))
	s.must(s.WaitSpeakers(t.Context()))
	_, l2Now := s.announced("survivor-l2")
	_, bgpNow := s.announced("survivor-bgp")
	if !slices.Equal(l2, l2Now) || !slices.Equal(bgp, bgpNow) {
		t.Errorf("addresses changed: %v became %v, and %v became %v", l2, l2Now, bgp, bgpNow)
	}
	for i := range l2 {
		s.owner(l2[i])
		s.routed(bgp[i], s.allNodes()...)
	}
	s.create("newcomer")
	_, ips := s.announced("newcomer")
	s.owner(ips[0])
}
