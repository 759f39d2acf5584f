package e2e

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/test/e2e/scene"
)

// TestAssignServiceAllocation: pools with a serviceAllocation come first for those they admit, by priority, and bind explicit requests too;
// who is admitted follows the labels of namespaces and Services.
func TestAssignServiceAllocation(t *testing.T) {
	s := on(t)
	infra, apps := s.tenant("assign-infra", "team=infra"), s.tenant("assign-apps", "team=apps")
	s.apply(poolOf("assign-second", `addresses: ["10.77.1.2/32"], serviceAllocation: {priority: 20, namespaceSelectors: [{matchLabels: {team: infra}}]}`)+
		poolOf("assign-first", `addresses: ["10.77.1.1/32"], serviceAllocation: {priority: 10, namespaceSelectors: [{matchLabels: {team: infra}}]}`)+
		poolOf("assign-last", `addresses: ["10.77.1.0/32"], serviceAllocation: {namespaces: [assign-infra]}`)+
		poolOf("assign-gold", `addresses: ["10.77.1.8/30"], autoAssign: false, serviceAllocation: {namespaces: [assign-apps], serviceSelectors: [{matchLabels: {tier: gold}}]}`)+
		poolOf("assign-nobody", `addresses: ["10.77.1.12/30"], autoAssign: false, serviceAllocation: {namespaceSelectors: [{matchLabels: {team: nobody}}]}`),
		"ipaddresspool/assign-second", "ipaddresspool/assign-first", "ipaddresspool/assign-last", "ipaddresspool/assign-gold", "ipaddresspool/assign-nobody")
	for _, name := range []string{"assign-second", "assign-first", "assign-last", "assign-gold", "assign-nobody"} {
		s.judged(scene.Pools, name, metav1.ConditionTrue, "")
	}

	for i, want := range []string{"10.77.1.1", "10.77.1.2", "10.77.1.0"} {
		name := []string{"one", "two", "three"}[i]
		infra.asks(name, plain4)
		infra.has(name, want)
	}
	infra.asks("four", plain4)
	s.must(inPool(infra.gets("four")[0], "192.168.100.200-192.168.100.239"))
	apps.asks("any", plain4)
	s.must(inPool(apps.gets("any")[0], "192.168.100.200-192.168.100.239"))

	apps.asks("by-pool", plain4, scene.FromPool("assign-first"))
	apps.lacks("by-pool", "NotPermitted", "assign-first", "team=infra")
	apps.asks("by-address", plain4, wants("10.77.1.1"))
	apps.lacks("by-address", "NotPermitted", "10.77.1.1", "assign-first", "team=infra")
	infra.asks("gold", plain4, scene.FromPool("assign-gold"), labelled("tier", "gold"))
	infra.lacks("gold", "NotPermitted", "assign-gold", "assign-apps")
	apps.asks("iron", plain4, scene.FromPool("assign-gold"))
	apps.lacks("iron", "NotPermitted", "assign-gold", "tier=gold")
	infra.asks("nobody", plain4, scene.FromPool("assign-nobody"))
	infra.lacks("nobody", "NotPermitted", "assign-nobody", "team=nobody")

	t.Run("a label of the Service", func(t *testing.T) {
		apps.changes("iron", labelled("tier", "gold"))
		s.must(inPool(apps.gets("iron")[0], "10.77.1.8/30"))
	})
	t.Run("a label of the namespace", func(t *testing.T) {
		label(s, "assign-infra", "nobody")
		s.must(inPool(infra.gets("nobody")[0], "10.77.1.12/30"))
		apps.asks("after", plain4, scene.FromPool("assign-second"))
		apps.lacks("after", "NotPermitted", "assign-second")
	})
}

func labelled(key, value string) scene.Edit {
	return func(o *corev1.Service) {
		if o.Labels == nil {
			o.Labels = make(map[string]string)
		}
		o.Labels[key] = value
	}
}

// label gives a namespace to another team.
func label(s *stage, namespace, team string) {
	s.t.Helper()
	_, err := s.API.CoreV1().Namespaces().Patch(s.t.Context(), namespace, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"team":"`+team+`"}}}`), metav1.PatchOptions{})
	s.must(err)
}

// TestAssignNamespaceQuota: a namespace gets as many addresses of a family as the pool allows it, others do not suffer, and what comes free
// goes on at once.
func TestAssignNamespaceQuota(t *testing.T) {
	s := on(t)
	greedy, modest := s.tenant("assign-greedy"), s.tenant("assign-modest")
	s.apply(poolOf("assign-quota", `addresses: ["10.77.2.0/29", "fd00:77:2::/125"], autoAssign: false, namespaceQuota: 2`), "ipaddresspool/assign-quota")
	from := scene.FromPool("assign-quota")
	greedy.asks("one", plain4, from)
	greedy.asks("two", plain4, from)
	greedy.gets("one")
	greedy.gets("two")
	greedy.asks("three", plain4, from)
	greedy.lacks("three", "QuotaExceeded", "assign-quota", "assign-greedy", "2 of at most 2 IPv4")
	greedy.asks("named", plain4, wants("10.77.2.7"))
	greedy.lacks("named", "QuotaExceeded", "10.77.2.7", "2 of at most 2 IPv4")
	greedy.asks("six", plain6, from) // the other family counts by itself
	greedy.gets("six")
	modest.asks("one", plain4, from)
	modest.gets("one")
	s.counted("assign-quota", "ipv4", 8, 3, 5)
	greedy.goes("one")
	greedy.has("named", "10.77.2.7") // who asks for an address by name comes first
	greedy.lacks("three", "QuotaExceeded")
	greedy.goes("two")
	greedy.gets("three")
}

// TestAssignExcludePausedBuggy: what a pool holds back it never gives, asked or not; what it gave stays.
func TestAssignExcludePausedBuggy(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-held", `addresses: ["10.77.3.0/30"], autoAssign: false, exclude: ["10.77.3.0", "10.77.3.2-10.77.3.9"]`)+
		poolOf("assign-buggy", `addresses: ["10.77.4.254-10.77.5.1"], autoAssign: false, avoidBuggyIPs: true`),
		"ipaddresspool/assign-held", "ipaddresspool/assign-buggy")
	n.asks("held-1", plain4, scene.FromPool("assign-held"))
	n.has("held-1", "10.77.3.1")
	n.asks("held-2", plain4, wants("10.77.3.2"))
	n.lacks("held-2", "AddressNotInPool", "10.77.3.2", "excluded", "assign-held")
	s.counted("assign-held", "ipv4", 1, 1, 0)

	n.asks("buggy-0", plain4, wants("10.77.5.0"))
	n.lacks("buggy-0", "AddressNotInPool", "10.77.5.0", "avoidBuggyIPs")
	n.asks("buggy-1", plain4, scene.FromPool("assign-buggy"))
	n.has("buggy-1", "10.77.4.254")
	n.asks("buggy-2", plain4, scene.FromPool("assign-buggy"))
	n.has("buggy-2", "10.77.5.1")
	n.asks("buggy-3", plain4, scene.FromPool("assign-buggy"))
	n.lacks("buggy-3", "PoolExhausted", "assign-buggy: 2 of 2 IPv4 assigned")

	t.Run("paused and excluded afterwards", func(t *testing.T) {
		s := on(t)
		n := s.home()
		n.settled("held-1")
		before := n.version("held-1")
		s.must(s.Apply(t.Context(), poolOf("assign-held", `addresses: ["10.77.3.0/30"], autoAssign: false, exclude: ["10.77.3.1"], paused: true`)))
		n.asks("held-3", plain4, scene.FromPool("assign-held"))
		n.lacks("held-3", "PoolPaused", "assign-held: paused")
		n.lacks("held-2", "PoolPaused", "10.77.3.2", "paused")
		s.must(s.Apply(t.Context(), poolOf("assign-held", `addresses: ["10.77.3.0/30"], autoAssign: false, exclude: ["10.77.3.1"]`)))
		n.has("held-2", "10.77.3.2")
		if ip := n.gets("held-3")[0]; ip == netip.MustParseAddr("10.77.3.1") {
			t.Errorf("an excluded address was given: %s", ip)
		}
		if now := n.version("held-1"); now != before {
			t.Errorf("the Service that has an address was written: version %s, then %s", before, now)
		}
	})
}

// TestAssignTwoPools: families come from one pool each, in the Service's order, both or neither where both are required.
func TestAssignTwoPools(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-four", `addresses: ["10.77.6.0/31"], autoAssign: false`)+poolOf("assign-six", `addresses: ["fd00:77:6::1/128"], autoAssign: false`),
		"ipaddresspool/assign-four", "ipaddresspool/assign-six")
	from := scene.FromPool("assign-six, assign-four")
	n.asks("both", scene.Families(corev1.IPFamilyPolicyRequireDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol), from)
	n.has("both", "fd00:77:6::1", "10.77.6.0")
	n.asks("neither", scene.Families(corev1.IPFamilyPolicyRequireDualStack), from)
	n.lacks("neither", "PoolExhausted", "no IPv6 address", "assign-six: 1 of 1 IPv6 assigned")
	n.asks("half", scene.Families(corev1.IPFamilyPolicyPreferDualStack, corev1.IPv6Protocol, corev1.IPv4Protocol), from)
	n.has("half", "10.77.6.1")
	n.goes("neither")

	// The address that comes free completes the one that lacked it, without touching what it has.
	n.goes("both")
	n.has("half", "fd00:77:6::1", "10.77.6.1")
}

// TestAssignMessages: the message goes through every pool that comes into question, and says what stands in the way of each.
func TestAssignMessages(t *testing.T) {
	s := on(t)
	n := s.home()
	s.reconfigure(poolOf("lan", `addresses: ["192.168.100.200-192.168.100.239", "fd00:100::200-fd00:100::23f"], autoAssign: false`))
	s.apply(poolOf("assign-public", `addresses: ["10.77.7.0/30"]`)+
		poolOf("assign-edge", `addresses: ["10.77.7.4/30"], serviceAllocation: {namespaceSelectors: [{matchLabels: {team: infra}}]}`)+
		poolOf("assign-lab", `addresses: ["10.77.7.8/30"], paused: true`)+
		poolOf("assign-v6", `addresses: ["fd00:77:7::/126"]`),
		"ipaddresspool/assign-public", "ipaddresspool/assign-edge", "ipaddresspool/assign-lab", "ipaddresspool/assign-v6")
	for _, pool := range []string{"lan", "assign-public", "assign-edge", "assign-lab", "assign-v6"} {
		s.judged(scene.Pools, pool, metav1.ConditionTrue, "")
	}
	for _, name := range []string{"told-1", "told-2", "told-3", "told-4"} {
		n.asks(name, plain4)
		s.must(inPool(n.gets(name)[0], "10.77.7.0/30"))
	}
	n.asks("told-5", plain4)
	n.lacks("told-5", "PoolExhausted", "assign-public: 4 of 4 IPv4 assigned", "assign-edge: admits only namespaces matching team=infra",
		"assign-lab: paused", "assign-v6: has no IPv4 addresses", "lan: on request only")
	n.told("told-5", map[string]int{"AllocationFailed": 1})

	// The one that waits is woken by what it could use, and by nothing else.
	before := n.version("told-5")
	n.asks("told-6", plain6)
	n.gets("told-6")
	n.goes("told-6")
	if now := n.version("told-5"); now != before {
		t.Errorf("a Service that waits for IPv4 was written when IPv6 came free")
	}
	n.goes("told-2")
	s.must(inPool(n.gets("told-5")[0], "10.77.7.0/30"))
	n.told("told-5", map[string]int{"AllocationFailed": 1, "AddressAssigned": 1})
}

// TestAssignShrink: addresses leave a pool: those that held them lose them, each is told once, and nobody else is touched.
func TestAssignShrink(t *testing.T) {
	s := on(t)
	n := s.home()
	s.apply(poolOf("assign-shrinks", `addresses: ["10.77.8.0/30"], autoAssign: false`), "ipaddresspool/assign-shrinks")
	s.judged(scene.Pools, "assign-shrinks", metav1.ConditionTrue, "") // so that nobody is refused before it is known
	names := []string{"shrink-0", "shrink-1", "shrink-2", "shrink-3"}
	for i, name := range names {
		n.asks(name, plain4, scene.FromPool("assign-shrinks"))
		n.has(name, netip.AddrFrom4([4]byte{10, 77, 8, byte(i)}).String())
	}
	n.settled(names...)
	keep := map[string]string{"shrink-0": n.version("shrink-0"), "shrink-1": n.version("shrink-1")}
	s.must(s.Apply(t.Context(), poolOf("assign-shrinks", `addresses: ["10.77.8.0/31"], autoAssign: false`)))
	for _, name := range names[2:] {
		n.lacks(name, "PoolExhausted", "assign-shrinks: 2 of 2 IPv4 assigned")
		n.told(name, map[string]int{"AddressAssigned": 1, "AddressReleased": 1, "AllocationFailed": 1})
	}
	for name, before := range keep {
		if now := n.version(name); now != before {
			t.Errorf("%s was written: version %s, then %s", name, before, now)
		}
		n.told(name, map[string]int{"AddressAssigned": 1})
	}
	s.must(s.Apply(t.Context(), poolOf("assign-shrinks", `addresses: ["10.77.8.0/31", "10.77.8.16/31"], autoAssign: false`)))
	n.has("shrink-2", "10.77.8.16")
	n.has("shrink-3", "10.77.8.17")
	for name, before := range keep {
		if now := n.version(name); now != before {
			t.Errorf("%s was written when the pool grew: version %s, then %s", name, before, now)
		}
	}
}
