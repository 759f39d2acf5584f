package member

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestKeyIsReplaced replaces the key one member after the other, and starts another that has never heard of the old one. Those that know both
// lose sight of nobody, the other belongs to them as soon as they use the new one, and in the end the old one is good for nothing.
func TestKeyIsReplaced(t *testing.T) {
	fresh := bytes.Repeat([]byte{9}, KeySize)
	all := clusterWith(t, 3, func(m *Member) { m.switchAfter, m.forgetAfter = 500*time.Millisecond, time.Second })
	for _, r := range all {
		if err := r.SetKey(fresh); err != nil {
			t.Fatal(err)
		}
	}
	late := start(t, "late", loopback(), fresh)
	late.Publish(self(7, manyClaims(2, 5)))
	late.SetSeeds([]netip.AddrPort{all[0].addr})
	for _, r := range append(all, late) {
		r.waitFor(t, "all four", func(v *View) bool { return v.Alive == 4 && len(v.Members) == 4 })
	}
	for _, r := range all {
		deadline := time.Now().Add(patience)
		for len(r.ring.GetKeys()) != 1 {
			if time.Now().After(deadline) {
				t.Fatalf("%s still has %d keys", r.opt.Node, len(r.ring.GetKeys()))
			}
			<-time.After(10 * time.Millisecond)
		}
		if log := r.log.String(); strings.Contains(log, `"speaker is gone" node=node-`) {
			t.Errorf("%s lost somebody:\n%s", r.opt.Node, tail(log))
		}
	}
	stale := start(t, "stale", loopback(), key)
	stale.SetSeeds([]netip.AddrPort{all[0].addr})
	stale.Publish(self(8, nil))
	deadline := time.Now().Add(patience)
	for !strings.Contains(all[0].log.String(), "decrypt") {
		if time.Now().After(deadline) {
			t.Fatal("one that has the old key only is not refused")
		}
		<-time.After(10 * time.Millisecond)
	}
	if v := all[0].View(); v.Alive != 4 {
		t.Errorf("%d are alive", v.Alive)
	}
}

func TestKeyOfWrongLength(t *testing.T) {
	r := start(t, "a", loopback(), key)
	if err := r.SetKey([]byte("short")); err == nil || !strings.Contains(err.Error(), "32 bytes") {
		t.Errorf("error %v", err)
	}
	if got := r.ring.GetKeys(); len(got) != 1 || !bytes.Equal(got[0], key) {
		t.Errorf("%d keys", len(got))
	}
}
