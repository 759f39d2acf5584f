package decide

import (
	"net/netip"
	"testing"
)

// TestSaysInUse: what conditions say of an address is recognised, wherever it stands, and not taken for what they say of another.
func TestSaysInUse(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	said := InUse(a, "02:00:00:00:00:99")
	for message, want := range map[string]bool{
		said: true,
		"BGP by 3 nodes to 2 peers; 192.0.2.1 L2: " + said + ", heard by node-1 on eth0; no node answers for it until it is free": true,
		"":                      false,
		"ARP by node-2 on eth0": false,
		InUse(netip.MustParseAddr("192.0.2.11"), "02:00:00:00:00:99"):       false,
		InUse(netip.MustParseAddr("2.192.0.2"), "02:00:00:00:00:99"):        false,
		InUse(netip.MustParseAddr("::ffff:192.0.2.1"), "02:00:00:00:00:99"): false,
		"1" + said: false,
		"192.0.2.1 L2: " + InUse(netip.MustParseAddr("192.0.2.7"), "02:00:00:00:00:99"): false,
	} {
		if got := saysInUse(message, a); got != want {
			t.Errorf("%q: %v", message, got)
		}
	}
}
